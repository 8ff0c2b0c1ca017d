"""One child's life: started, ready or failed, stopped, gone.

The one rule: whoever starts a child learns of its end, whichever way it comes. ``exited`` is set exactly once, after
the kernel has given everything back; until then its memory counts. A child that does not leave on request is killed
with its whole process group. The child in turn dies when its standard input ends, so it cannot outlive this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import signal
import sys
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from localmodels.core.errors import LoadFailed
from localmodels.engine.command import RunnerConfig, write_config
from localmodels.engine.confine import Layer

# Nothing else of our environment reaches a runner: it may hold keys and tokens (threats V-36, V-37).
INHERITED = ("PATH", "LANG", "LC_ALL", "TMPDIR", "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES",
             "GGML_VK_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "OMP_NUM_THREADS")  # fmt: skip
WHEEL, BINARY = "localmodels.engine.runner", "localmodels.engine.binary"
STDERR_LINES = 80
LINE_LIMIT = 64 * 1024
MOST_TOLD, MOST_CHARS = 3, 300  # of a runner's last words, lines and characters of one
# `0.00.005.207 E cmn  common_init_: words`: minutes to microseconds, level, perhaps a part of it, function.
_LINE = re.compile(r"(?:[0-9.]+ [A-Z] )?(?:(?:[a-z]+ +)?[A-Za-z]\w*_\w*: +)*(?P<words>.*)")

log = logging.getLogger(__name__)


class _Report(msgspec.Struct, frozen=True):
    """What ``runner.Report`` looks like from this side; this room must not import the runner."""

    ready: bool
    layers: tuple[Layer, ...] = ()
    reason: str = ""


class Process:
    """A runner process. Make it with :meth:`start`."""

    def __init__(self, child: asyncio.subprocess.Process, config: RunnerConfig) -> None:
        self.config = config
        self.layers: tuple[Layer, ...] = ()
        self.exited = asyncio.Event()
        self._child = child
        self._stdin, self._stdout, stderr = pipes(child)
        self._said: deque[str] = deque(maxlen=STDERR_LINES)
        self._stderr = asyncio.create_task(self._keep(stderr))
        self._waiter = asyncio.create_task(self._await_end())

    @classmethod
    async def start(cls, config: RunnerConfig, *, spin: bool = False, module: str = "") -> Process:
        """Starts the child and hands it its configuration; it loads on its own from here.

        ``module`` is what it runs, where that does not follow from the configuration.

        ``spin`` lets OpenMP threads spin while they wait: 6 % faster alone, half as fast when the cores are shared
        (measured; ``docs/why.md``).

        Raises:
            LoadFailed: the operating system would not start it.
        """
        environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
        environment["GGML_NO_BACKTRACE"] = "1"  # an abort would spawn gdb otherwise
        if not spin:
            environment["OMP_WAIT_POLICY"] = "passive"
        try:
            child = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                "-m",
                module or (BINARY if config.binary else WHEEL),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=environment,
                cwd=Path(config.socket).parent,
                start_new_session=True,
                limit=LINE_LIMIT,
            )
        except OSError as error:
            raise LoadFailed(f"could not start a runner: {error.strerror}") from error
        process = cls(child, config)
        process._stdin.write(write_config(config))
        return process

    @property
    def pid(self) -> int:
        """Of the child; stays the same after its end."""
        return self._child.pid

    async def ready(self) -> None:
        """Waits until the model is loaded.

        Raises:
            LoadFailed: it could not be, with the engine's own last words.
        """
        try:
            line = await self._stdout.readline()
            if not line:
                await self.exited.wait()
                raise LoadFailed(self.why())
            report = msgspec.json.decode(line, type=_Report)
        except (ValueError, msgspec.DecodeError):  # a child that died in the middle of it, or was taken over
            raise LoadFailed(self._why("the runner said something that is no report")) from None
        self.layers = report.layers
        if not report.ready:
            await self.exited.wait()
            # The wheel says nothing but that it failed; what llama.cpp said before is the reason.
            cause = self._cause()
            raise LoadFailed(f"the engine cannot load it: {cause}" if cause else report.reason)

    async def stop(self, grace: float = 5.0) -> None:
        """Asks the child to leave, kills its process group after ``grace`` seconds, and waits for its end."""
        self._stdin.close()
        try:
            async with asyncio.timeout(grace):
                await self.exited.wait()
        except TimeoutError:
            self.kill()
            await self.exited.wait()

    def kill(self) -> None:
        """Kills the child and all it has started, now."""
        with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody is left, or (macOS) only zombies are
            os.killpg(self._child.pid, signal.SIGKILL)

    def why(self) -> str:
        """How it ended, with its last words; for a child that has."""
        return self._why(f"the runner ended with {describe_exit(self._child.returncode)}")

    async def _await_end(self) -> None:
        await self._child.wait()
        self.kill()  # what it started and left behind: a llama-server whose keeper is gone
        await self._stderr  # so that the last words are complete when `exited` is set
        self.exited.set()

    async def _keep(self, stderr: asyncio.StreamReader) -> None:
        """Reads for as long as it talks: a full pipe would stop the child."""
        while True:
            try:
                line = await stderr.readline()
            except ValueError:  # a line beyond the limit; what is left of it follows
                continue
            if not line:
                return
            self._said.append(line.decode(errors="replace").rstrip())

    def _why(self, reason: str) -> str:
        """The reason and, where the engine gave one, its own."""
        return "; ".join(filter(None, (reason, self._cause())))

    def _cause(self) -> str:
        """What the engine gave as a cause, without the paths of this machine; its own lines go to the log."""
        told = telling(self._said)
        for line in told[:MOST_TOLD]:
            log.warning("runner %d said: %s", self.pid, line[:MOST_CHARS])
        return cause(told, hide=Path(self.config.model).parent)


def pipes(
    child: asyncio.subprocess.Process,
) -> tuple[asyncio.StreamWriter, asyncio.StreamReader, asyncio.StreamReader]:
    """The three pipes of a child that was started with all of them."""
    if child.stdin is None or child.stdout is None or child.stderr is None:
        raise ValueError("the child was started without pipes")
    return child.stdin, child.stdout, child.stderr


def describe_exit(returncode: int | None) -> str:
    """``status 1`` or ``signal SIGKILL``."""
    if returncode is None:
        return "no status"
    if returncode >= 0:
        return f"status {returncode}"
    try:
        return f"signal {signal.Signals(-returncode).name}"
    except ValueError:
        return f"signal {-returncode}"


def telling(lines: Iterable[str]) -> list[str]:
    """The lines in which llama.cpp names a cause."""
    return [line for line in lines if any(word in line.lower() for word in ("error", "assert", "failed", "abort"))]


def cause(told: Sequence[str], *, hide: Path) -> str:
    """What the first of llama.cpp's telling lines says, without time, place in its code and directories.

    The others repeat it: ``0.00.005.325 E llama_model_load: error loading model: …``.
    """
    if not told:
        return ""
    said = _LINE.match(told[0])
    words = said["words"] if said else told[0]
    return words.replace(f"{hide}/", "").strip()[:MOST_CHARS]
