"""What a fake was asked, and when each visitor was gone: tests wait for these events, never for time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from localmodels.backends.fake.script import Request


class Visit:
    """One request.

    Attributes:
        request: as it was understood.
        sent: events handed over so far.
        begun: set with the first event.
        closed: set when the visitor has everything, or is gone.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self.sent = 0
        self.begun = asyncio.Event()
        self.closed = asyncio.Event()

    def count(self) -> None:
        """One more event is handed over."""
        self.sent += 1
        self.begun.set()


class Book:
    """All visits, in the order they came.

    Attributes:
        open: visits that have not ended.
        most: the highest that ``open`` has been.
    """

    def __init__(self) -> None:
        self.visits: list[Visit] = []
        self.open = 0
        self.most = 0
        self._news = asyncio.Event()

    async def nth(self, number: int = 0) -> Visit:
        """The visit of this number, counted from 0; waits until it has come."""
        await self._until(lambda: len(self.visits) > number)
        return self.visits[number]

    async def empty(self) -> None:
        """Waits until no visit is open."""
        await self._until(lambda: self.open == 0)

    @contextmanager
    def visit(self, request: Request) -> Iterator[Visit]:
        """A visit, for as long as it lasts."""
        visit = Visit(request)
        self.visits.append(visit)
        self.open += 1
        self.most = max(self.most, self.open)
        self._news.set()
        try:
            yield visit
        finally:
            self.open -= 1
            visit.closed.set()
            self._news.set()

    async def _until(self, true: Callable[[], bool]) -> None:
        while not true():
            self._news.clear()
            await self._news.wait()
