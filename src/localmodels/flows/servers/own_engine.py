"""This program's own engine as one host of the fleet: what it tells of itself, and how its memory is freed.

The rule: it tells what another server would, and costs no more to ask: nothing is loaded and nothing is generated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import get_args

from msgspec.structs import replace

import localmodels
from localmodels.core.chat import EmbedRequest, GenerateRequest
from localmodels.core.errors import Conflict
from localmodels.core.options import Options
from localmodels.core.rerank import RerankRequest
from localmodels.dialects.told import Told
from localmodels.engine.live import LiveRunner
from localmodels.engine.loadable import Purpose
from localmodels.engine.pool import Pool
from localmodels.flows.answering.chat import Request
from localmodels.flows.answering.local_models import Local, loadable
from localmodels.flows.visit import Visit
from localmodels.store.entries import Entry
from localmodels.store.library import Library

# Seconds that whoever wants a model out of memory waits for its last answer to end.
PATIENCE = 10.0
ON_CPU = Options(num_gpu=0)

# What brings a model into memory for each purpose, and asks it nothing.
_LOADS: Mapping[Purpose, Callable[[str], Request]] = {
    "generate": lambda model: GenerateRequest(model, options=ON_CPU),
    "embed": lambda model: EmbedRequest(model, (), options=ON_CPU),
    "rank": lambda model: RerankRequest(model, "", (), options=ON_CPU),
}


class Here:
    """The engine.

    Args:
        library: its models.
        pool: runs them.
        local: brings the two together.
        patience: seconds that whoever wants a model out of memory waits for that.
    """

    def __init__(self, library: Library, pool: Pool, local: Local, *, patience: float = PATIENCE) -> None:
        self._library = library
        self._pool = pool
        self._local = local
        self._patience = patience

    async def look(self) -> Told:
        """What it tells of itself, as another server would."""
        return self.remembering(Told(await self._local.models(), localmodels.__version__))

    def remembering(self, told: Told) -> Told:
        """What it has told, with what is in memory now: that is known without a look at a disk."""
        seen = self._pool.snapshot()
        return replace(
            told,
            running=self._pool.running(),
            memory_free=seen.memory_free,
            busy=sum(runner.busy for runner in seen.runners),
        )

    async def unload(self, model: str) -> int | None:
        """Takes a model out of memory.

        Returns:
            Bytes that it had on graphics cards; None where it was not in memory.

        Raises:
            ModelNotFound: there is none of this name.
            Conflict: its last answer has not ended in time; the model leaves when it has.
        """
        return await self._leave(model, self._local.runners(await self._entry(model)))

    async def move(self, model: str, visit: Visit) -> int | None:
        """Takes a model off the graphics cards, and loads it anew for the processor.

        Returns:
            Bytes that it had on graphics cards, 0 where it had none and stays as it is; None where it was not in
            memory.

        Raises:
            ModelNotFound, Conflict: as :meth:`unload`.
            Unavailable, LoadFailed: it is out of memory and could not be loaded again.
        """
        entry = await self._entry(model)
        runners = self._runners(entry)
        if runners and not sum(_on_cards(runner) for runner in runners.values()):
            return 0
        freed = await self._leave(model, self._local.runners(entry))
        for purpose in runners:
            async with self._local.lease(entry, _LOADS[purpose](model), visit):
                pass
        return freed

    async def _entry(self, model: str) -> Entry:
        return await asyncio.to_thread(self._library.find, model)

    def _runners(self, entry: Entry) -> dict[Purpose, LiveRunner]:
        """Those of this model, by what they were loaded for; a model under another name is the same."""
        keys = {loadable(entry).key(purpose): purpose for purpose in get_args(Purpose)}
        return {keys[runner.key]: runner for runner in self._pool.runners() if runner.key in keys}

    async def _leave(self, model: str, runners: Collection[LiveRunner]) -> int | None:
        if not runners:
            return None
        freed = sum(map(_on_cards, runners))
        for runner in runners:
            self._pool.unload(runner.key)
        try:
            async with asyncio.timeout(self._patience):
                for runner in runners:
                    await runner.gone.wait()
        except TimeoutError:
            words = f"{model} still answers; it leaves memory when its last answer has ended"
            raise Conflict(words, param="model_id", retry_after=self._patience) from None
        return freed


def _on_cards(runner: LiveRunner) -> int:
    return runner.load_plan.memory.gpu
