"""How far blobs are, for whoever watches.

The rule: the latest value of each blob is what counts. A watcher that is slow misses steps and slows nobody down.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from typing import Any, Literal

from msgspec import Struct

from localmodels.core.catalog import Blob

# Seconds between two values of one blob, as Ollama's; more often nobody can see.
INTERVAL = 0.06

State = Literal["waiting", "moving", "verifying", "done"]


class BlobProgress(Struct, frozen=True):
    """How far one blob is.

    Attributes:
        state: ``waiting`` to begin, ``moving`` here or there, ``verifying`` its digest, ``done``.
        completed: bytes of the blob's size that have arrived.
        troubles: how often something went wrong and was made good; ``trouble`` is the last of it.
    """

    blob: Blob
    state: State = "waiting"
    completed: int = 0
    troubles: int = 0
    trouble: str = ""


Tell = Callable[[BlobProgress], None]


class Board:
    """Where work tells its progress and one watcher reads it."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()
        self._latest: dict[Blob, BlobProgress] = {}

    def tell(self, progress: BlobProgress) -> None:
        """Takes the latest of one blob."""
        self._latest[progress.blob] = progress
        self._changed.set()

    async def watch(self, work: Coroutine[Any, Any, None], interval: float) -> AsyncGenerator[BlobProgress, None]:
        """Does the work and gives what it tells, at most so often; stops it when nobody watches any more.

        Raises:
            Exception: what the work raises.
        """
        task = asyncio.ensure_future(work)
        task.add_done_callback(lambda _: self._changed.set())
        try:
            while not task.done():
                await self._changed.wait()
                for progress in self._take():
                    yield progress
                if not task.done():
                    await asyncio.wait([task], timeout=interval)
            for progress in self._take():
                yield progress
            task.result()
        finally:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.exception()  # told above, or nobody is there any more to be told

    def _take(self) -> list[BlobProgress]:
        self._changed.clear()
        taken, self._latest = list(self._latest.values()), {}
        return taken


async def together(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Does all at once; the first error stops the others and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(work)
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
