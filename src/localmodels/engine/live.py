"""A runner as the pool holds it: its child, its directory, and the connections to it.

The one rule: :meth:`LiveRunner.served` returns or raises only after the child is gone and its directory removed, so
that whoever waits for it may count its memory as free.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from shutil import rmtree
from typing import Any

from localmodels.backends.http import Http
from localmodels.backends.unix import UnixSocket
from localmodels.core.errors import LoadFailed, LocalModelsError, RunnerDied
from localmodels.dialects.llamacpp import LlamaCpp
from localmodels.engine.command import RunnerConfig
from localmodels.engine.confine import Layer
from localmodels.engine.housing import Housing
from localmodels.engine.loadable import Load
from localmodels.engine.process import Process
from localmodels.engine.seats import Seats

BARE = "localmodels.engine.child"
# A runner that lives looks up at least between two batches, which take a second; one that is stopped, or computes a
# grammar for ever, does not. This path goes through its queue, as requests do.
PULSE = "/lora-adapters"
NOTICE = 1.0  # seconds within which the death of a child shows after its connections broke


class LiveRunner:
    """One child and what belongs to it.

    Args:
        directory: the runner's own, mode 0700; removed at its end.
    """

    def __init__(self, runner_id: str, load: Load, config: RunnerConfig, directory: Path, *, spin: bool) -> None:
        self.id = runner_id
        self.loadable = load.loadable
        self.name = load.loadable.model.name
        self.key = load.loadable.key(load.purpose)
        self.model = load.loadable.model
        self.load_plan = load.plan
        self.vocab_size = load.loadable.header.vocab_size
        self.config = config
        self.dialect = LlamaCpp()
        # No clock on its silence: a prompt may take minutes to read, and a runner's death is noticed otherwise.
        self.http = Http(UnixSocket(config.socket), self.dialect.read_error)
        self.seats = Seats(self.http, config.parallel, config.slot_dir, shares=not config.adapters)
        self.gone = asyncio.Event()  # set by the pool, once everybody who decides knows of the end
        self._directory = directory
        self._spin = spin
        self._leaving = asyncio.Event()
        self._process: Process | None = None
        self._beginning: str | None = None

    @property
    def pid(self) -> int:
        """Of the child; 0 before it has one."""
        return self._process.pid if self._process else 0

    @property
    def layers(self) -> tuple[Layer, ...]:
        """What confines the child."""
        return self._process.layers if self._process else ()

    async def beginning(self) -> str:
        """The text of the token that the tokenizer puts before every prompt; empty if it puts none. Asked once."""
        if self._beginning is None:
            dialect = self.dialect
            tokens = dialect.read_tokens(await self.http.post("/tokenize", dialect.write_tokenize("")))[:1]
            text = await self.http.post("/detokenize", dialect.write_detokenize(tokens)) if tokens else b""
            self._beginning = dialect.read_text(text) if text else ""
        return self._beginning

    def leave(self) -> None:
        """Asks it to end, also in the middle of a load; :meth:`served` or :meth:`load` tells when it has."""
        self._leaving.set()

    async def load(self, whole: Coroutine[Any, Any, None]) -> bool:
        """Starts the child and waits until the model is loaded; False if it was told to leave before that.

        How long that may take is the scheduler's business, who then tells it to leave.

        Args:
            whole: looks whether the model's files are whole, before anything reads them.

        Raises:
            LoadFailed: it could not be loaded. The child is gone.
            LocalModelsError: what ``whole`` raises.
        """
        try:
            loaded = await self._unless_leaving(whole)
            if loaded:
                self._directory.mkdir(mode=0o700)
                self._process = process = await Process.start(self.config, spin=self._spin)
                loaded = await self._unless_leaving(process.ready())
        except OSError as error:
            await self._end()
            raise LoadFailed(f"there is no place for a runner: {error.strerror}") from error
        except BaseException:  # also when we are cancelled: a child that nobody holds must not live on
            await self._end()
            raise
        if not loaded:
            await self._end()
        return loaded

    async def served(self, every: float = 20.0, patience: float = 60.0) -> None:
        """Waits for the end of a loaded runner; one that does not answer for ``patience`` seconds is ended.

        Args:
            every: seconds between two looks at whether it still answers.
            patience: seconds that a look may take.

        Raises:
            RunnerDied: it ended without being asked, or had to be ended.
        """
        process = self._process
        if process is None:
            return
        pulse = asyncio.create_task(self._until_silent(every, patience))
        try:
            died = await self._unless_leaving(self._exited_or(pulse))
        finally:
            pulse.cancel()
        silent = pulse.done() and not pulse.cancelled()
        if silent:
            process.kill()
        await self._end()
        if died:
            how = f"it did not answer for {patience:g} s" if silent else process.why()
            raise RunnerDied(f"the engine stopped while it ran {self.name}: {how}")

    async def _exited_or(self, pulse: asyncio.Task[None]) -> None:
        exited = asyncio.ensure_future(self._process.exited.wait()) if self._process else pulse
        await asyncio.wait((exited, pulse), return_when=asyncio.FIRST_COMPLETED)

    async def _until_silent(self, every: float, patience: float) -> None:
        """Returns when the runner has not answered in time; how it breaks off is not asked here."""
        while True:
            await asyncio.sleep(every)
            try:
                async with asyncio.timeout(patience):
                    await self.http.get(PULSE)
            except TimeoutError:
                return
            except LocalModelsError:
                continue  # a runner that dies is noticed by its end

    async def dead(self) -> RunnerDied | None:
        """The child's death as an error, if it is dead or dies within a moment; for a stream that broke."""
        if self._process is None:
            return None
        try:
            async with asyncio.timeout(NOTICE):
                await self._process.exited.wait()
        except TimeoutError:
            return None
        # Who is told of a death may ask again at once, and must not be sent to the dead runner.
        await self.gone.wait()
        return RunnerDied(f"the engine stopped while it ran {self.name}: {self._process.why()}")

    async def _unless_leaving(self, work: Coroutine[Any, Any, object]) -> bool:
        """Waits for the work, or for being told to leave; True if the work was done."""
        task = asyncio.ensure_future(work)
        leaving = asyncio.ensure_future(self._leaving.wait())
        try:
            await asyncio.wait((task, leaving), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
                return True
            return False
        finally:
            task.cancel()
            leaving.cancel()

    async def _end(self) -> None:
        if self._process is not None:
            await self._process.stop()
        await self.http.close()
        await asyncio.to_thread(rmtree, self._directory, ignore_errors=True)


async def probe_layers(housing: Housing) -> tuple[Layer, ...]:
    """What would confine a runner here, told by one that has no model."""
    room = housing.room("probe")
    config = RunnerConfig(model="", socket=str(room / "runner.sock"), slot_dir=str(room), context=1, parallel=1)
    try:
        process = await Process.start(config, module=BARE)
        try:
            await process.ready()
            return process.layers
        finally:
            await process.stop()
    except LoadFailed:
        return ()
    finally:
        await asyncio.to_thread(rmtree, room, ignore_errors=True)
