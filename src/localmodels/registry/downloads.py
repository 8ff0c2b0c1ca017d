"""All blobs that are on their way, each once, however many wait for it (figure F5).

The rule: a download belongs to everybody who waits for it. One who leaves takes nothing from the others; when the last
one has left it stops, and what it brought stays in its sink.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Hashable, Sequence

from msgspec import Struct

from localmodels.core.catalog import Blob
from localmodels.core.errors import LocalModelsError
from localmodels.registry.disk import Sinks
from localmodels.registry.download import Download, Mirror
from localmodels.registry.pace import Pace
from localmodels.registry.progress import BlobProgress, Tell

# Requests for bytes of blobs at a time, in the whole program: two big blobs at full width, or many small ones.
SLOTS = 16
# Blobs that are open at a time: a sink holds five descriptors, and a model may have a thousand layers.
AT_ONCE = 12


class _Shared(Struct, eq=False):
    """A blob on its way from somewhere, and those who wait for it."""

    blob: Blob
    whence: Hashable
    task: asyncio.Task[None]
    progress: BlobProgress
    tells: list[Tell]
    stopping: bool = False


class Downloads:
    """Owns every download.

    Args:
        sinks: where blobs go.
        chance: for the jitter of waits.
    """

    def __init__(
        self,
        sinks: Sinks,
        *,
        pace: Pace | None = None,
        slots: int = SLOTS,
        at_once: int = AT_ONCE,
        chance: random.Random | None = None,
    ) -> None:
        self._sinks = sinks
        self._pace = pace or Pace()
        self._slots = asyncio.Semaphore(slots)
        self._places = asyncio.Semaphore(at_once)
        self._chance = chance or random.Random()  # noqa: S311 - jitter, not a secret
        self._shared: dict[str, _Shared] = {}

    async def fetch(self, blob: Blob, whence: Hashable, mirrors: Sequence[Mirror], tell: Tell) -> None:
        """Until the blob is in its place, whoever fetches it.

        Args:
            blob: what shall be in its place.
            whence: the same for everybody who would ask the same mirrors.
            mirrors: in the order in which they are tried.
            tell: hears how far it is.

        Raises:
            LocalModelsError: it cannot be had.
            OSError: it cannot be written.
        """
        while True:
            shared = self._shared.get(blob.digest.hex) or self._begin(blob, whence, mirrors)
            # Another manifest may lie about the size, and another registry may not have the blob: neither is a reason
            # to fail here. Their end is waited for, and then it is our turn.
            if shared.stopping or shared.blob != blob:
                await asyncio.wait([shared.task])
                continue
            try:
                await self._join(shared, tell)
            except LocalModelsError:
                if shared.whence == whence:
                    raise
            else:
                return

    def _begin(self, blob: Blob, whence: Hashable, mirrors: Sequence[Mirror]) -> _Shared:
        task = asyncio.create_task(self._run(blob, mirrors))
        shared = self._shared[blob.digest.hex] = _Shared(blob, whence, task, BlobProgress(blob), [])
        task.add_done_callback(lambda task: self._ended(shared))
        return shared

    async def _join(self, shared: _Shared, tell: Tell) -> None:
        shared.tells.append(tell)
        tell(shared.progress)
        try:
            await asyncio.shield(shared.task)
        finally:
            shared.tells.remove(tell)
            if not shared.tells and not shared.task.done():
                # From here on nobody joins: whoever comes now waits for its end and begins anew.
                shared.stopping = True
                shared.task.cancel()
                await asyncio.wait([shared.task])

    def _ended(self, shared: _Shared) -> None:
        del self._shared[shared.blob.digest.hex]
        if not shared.task.cancelled():
            shared.task.exception()  # whoever waited has it

    async def _run(self, blob: Blob, mirrors: Sequence[Mirror]) -> None:
        def tell(progress: BlobProgress) -> None:
            shared.progress = progress
            for one in tuple(shared.tells):
                one(progress)

        shared = self._shared[blob.digest.hex]
        async with self._places:
            sink = await self._sinks.open(blob)
            if sink is None:
                tell(BlobProgress(blob, "done", blob.size))
                return
            try:
                await Download(
                    blob, mirrors, sink, pace=self._pace, slots=self._slots, tell=tell, chance=self._chance
                ).run()
            finally:
                await sink.close()
