"""Responses that come about without their caller: each is a task, whose events are kept for those who ask for them.

One owner: the job makes its response and nobody else writes it. Events are kept as they were written, so that whoever
comes back gets the same ones under the same numbers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

from localmodels.core.errors import InvalidRequest
from localmodels.dialects.responses.answers import ResponseWriter

log = logging.getLogger(__name__)

# As many as some 30,000 tokens take, one by one; and of all jobs together.
MOST_EVENTS = 8 * 2**20
MOST_TOGETHER = 64 * 2**20
_END = b"\n\n"


class Memory:
    """The bytes of all jobs' events together, bounded: those of the job that ended first go first.

    Where none has ended, the one that grows goes itself.
    """

    def __init__(self, most: int = MOST_TOGETHER) -> None:
        self.size = 0
        self._most = most
        self._ended: dict[Events, None] = {}

    def grew(self, events: Events, size: int) -> None:
        """These events take so many bytes more, or less."""
        self.size += size
        while self.size > self._most:
            next(iter(self._ended), events).drop()

    def ended(self, events: Events) -> None:
        """These grow no more."""
        self._ended[events] = None

    def dropped(self, events: Events, size: int) -> None:
        """These are gone, and with them so many bytes."""
        self.size -= size
        self._ended.pop(events, None)


class Events:
    """What a job has written so far; the place of an event is its number.

    Args:
        memory: of all jobs.
        most: bytes.
    """

    def __init__(self, memory: Memory, most: int = MOST_EVENTS) -> None:
        self._memory = memory
        self._most = most
        self._frames: list[bytes] = []
        self._size = 0
        self._lost = False
        self._ended = False
        self._news = asyncio.Event()

    def add(self, data: bytes) -> None:
        """The next ones."""
        if not self._lost:
            self._frames += [frame + _END for frame in data.split(_END)[:-1]]
            self._size += len(data)
            self._memory.grew(self, len(data))
        if self._size > self._most:
            self.drop()
        self._tell()

    def end(self) -> None:
        """No more come."""
        self._ended = True
        if not self._lost:
            self._memory.ended(self)
        self._tell()

    def drop(self) -> None:
        """Forgets them all; who reads them is told."""
        size, self._size, self._lost = self._size, 0, True
        self._frames.clear()
        self._memory.dropped(self, size)
        self._tell()

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def after(self, number: int) -> AsyncGenerator[bytes, None]:
        """Those after this number, as they come; -1 is all.

        Raises:
            InvalidRequest: there were too many to be kept, of this job or of all.
        """
        place = max(0, number + 1)
        while True:
            if self._lost:
                raise InvalidRequest("the events of this response are no longer kept; ask for it as a whole")
            if frames := self._frames[place:]:
                place += len(frames)
                yield b"".join(frames)
            elif self._ended:
                return
            else:
                await self._news.wait()


class Job:
    """A response in the making.

    Args:
        owner: to whom it belongs.
        writer: knows it at any moment.
        work: makes it, and adds its events.
        ended: is told at the end.
        memory: for the events of all jobs.

    Attributes:
        leaving: the server ends, and the job with it.
    """

    def __init__(
        self,
        owner: str,
        writer: ResponseWriter,
        work: Callable[[Job], Coroutine[Any, Any, None]],
        ended: Callable[[Job], None],
        memory: Memory,
    ) -> None:
        self.owner = owner
        self.writer = writer
        self.events = Events(memory)
        self.leaving = False
        self._ended = ended
        self._awake = asyncio.Event()
        self._stopped = False
        self._task = asyncio.ensure_future(self._run(work))

    async def stop(self, *, leaving: bool = False) -> None:
        """Breaks it off, and waits until it has been."""
        if not self._stopped:
            self._stopped, self.leaving = True, leaving
            await self._awake.wait()  # a task that has not begun would end without a word
            self._task.cancel()
        await asyncio.wait((self._task,))

    async def _run(self, work: Callable[[Job], Coroutine[Any, Any, None]]) -> None:
        self._awake.set()
        try:
            await work(self)
        except Exception:
            # A supervisor's: nobody waits for this task, and whoever watches it must not wait for ever.
            log.exception("unforeseen error in the background response %s", self.writer.response().id)
        finally:
            self.events.end()
            self._ended(self)
