"""The same work at several places side by side, told as one story.

The rule: who fails, fails alone; the others go on. Whoever stops listening ends all of it, and leaves when it has.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from functools import partial

from localmodels.core.errors import Cancelled, LocalModelsError
from localmodels.core.library import Progress
from localmodels.flows.concurrency.threads import ended

Steps = AsyncGenerator[Progress, None]
Work = Callable[[], Steps]
News = AsyncGenerator[tuple[str, Progress | LocalModelsError | None], None]

# Places at once: more of them share the same line to the registry, or the same disk that all is read from.
MOST = 8
BACKLOG = 64  # steps that wait for a listener; who has more to tell waits for him


class Abreast:
    """Some works, each of one place.

    Args:
        works: by the name of the place.
        most: that are done at once; the others begin in their order.
    """

    def __init__(self, works: Mapping[str, Work], most: int = MOST) -> None:
        self._works = works
        self._news: asyncio.Queue[tuple[str, Progress | Exception | None]] = asyncio.Queue()
        self._room = asyncio.Semaphore(BACKLOG)
        self._turns = asyncio.Semaphore(most)
        self._heard = True

    async def told(self) -> News:
        """What each tells as it comes, and at its end why it failed, or None.

        Raises:
            Exception: a defect of a work; all others are ended.
        """
        tasks = [asyncio.ensure_future(self._tell(place, work)) for place, work in self._works.items()]
        for place, task in zip(self._works, tasks, strict=True):
            task.add_done_callback(partial(self._over, place))
        left = len(tasks)
        try:
            while left:
                place, said = await self._news.get()
                if isinstance(said, Progress):
                    self._room.release()
                elif said is None or isinstance(said, LocalModelsError):
                    left -= 1
                else:
                    raise said
                yield place, said
        finally:
            self._heard = False
            for task in tasks:
                task.cancel()
            await ended(asyncio.gather(*tasks, return_exceptions=True))

    async def _tell(self, place: str, work: Work) -> None:
        async with self._turns:
            try:
                async with aclosing(work()) as steps:
                    async for step in steps:
                        if self._heard:  # a work that could not be stopped any more comes to its end by itself
                            await self._room.acquire()
                        self._news.put_nowait((place, step))
            except Exception as error:  # noqa: BLE001 - this supervises: whoever listens raises what is a defect
                self._news.put_nowait((place, error))
            else:
                self._news.put_nowait((place, None))

    def _over(self, place: str, task: asyncio.Task[None]) -> None:
        """A work has ended. One that nobody here has stopped, and that was, has told nothing of it."""
        if self._heard and task.cancelled():
            self._news.put_nowait((place, Cancelled("the work was stopped before it was done")))
