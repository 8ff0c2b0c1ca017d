"""Places at one remote server: how many requests it gets at once, and who is next when all places are taken.

The one rule: a place that was given comes back, whatever became of the request. The line is fair among callers and
bounded (``core.fair``); who finds it full, or would wait longer than was promised, is refused at once, and nobody waits
longer than his patience.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from math import inf
from time import monotonic

from msgspec import Struct

from localmodels.core.errors import QueueFull
from localmodels.core.fair import Line

# What a request is said to take where none has ended yet, in seconds: about one answer's length.
GUESS = 5.0
# How much the last request weighs in the mean of what they take; the scheduler of our own engine has the same.
WEIGHT = 0.2
SHORTEST_RETRY, LONGEST_RETRY = 1.0, 60.0  # seconds; Retry-After has no smaller unit


class Waiting(Struct, frozen=True):
    """Somebody in the line."""

    key: str
    caller: str
    weight: int
    turn: asyncio.Future[None]


class Places:
    """The places of one server.

    Args:
        name: of the server, for messages.
        most: requests at once; 0 is without limit.
        most_waiting: requests in the line.
        patience: seconds that one may wait, from now on; who waits already goes by what it was.
        max_wait: seconds; who would, as things go, wait longer is refused at once.
        clock: seconds that only ever grow.

    Attributes:
        service: running mean of the seconds for which a place is taken; None before the first has come back.
    """

    def __init__(
        self,
        name: str,
        most: int = 0,
        most_waiting: int = 64,
        *,
        patience: float = 600.0,
        max_wait: float = inf,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.busy = 0
        self.service: float | None = None
        self._name = name
        self._most = most
        self._most_waiting = most_waiting
        self.patience = patience
        self.max_wait = max_wait
        self._clock = clock
        self._line: Line[Waiting] = Line()
        self._count = 0

    @property
    def waiting(self) -> int:
        """Requests in the line."""
        return len(self._line)

    @asynccontextmanager
    async def take(self, caller: str = "", weight: int = 1) -> AsyncIterator[None]:
        """A place, for as long as the context lasts.

        Raises:
            QueueFull: too many wait already, it would take too long, or it did.
        """
        if self._most and (self.busy >= self._most or self.waiting):
            await self._wait(caller, weight)
        else:
            self.busy += 1
            if self._most:
                self._line.served(caller, weight)
        begun = self._clock()
        try:
            yield
            self._took(self._clock() - begun)
        finally:
            self.busy -= 1
            self._next()

    async def _wait(self, caller: str, weight: int) -> None:
        """Returns with a place."""
        if (wait := self.foreseen(caller, weight)) > self.max_wait:
            raise self._full(
                f"the wait would be about {wait:.1f} s, and the longest that is promised is {self.max_wait:g} s",
                wait - self.max_wait,
            )
        self._make_room(caller)
        self._count += 1
        mine = Waiting(str(self._count), caller, weight, asyncio.get_running_loop().create_future())
        self._line.join(mine.key, mine, caller, weight)
        patience = self.patience
        try:
            async with asyncio.timeout(patience):
                await mine.turn
        except BaseException as error:
            if not mine.turn.done() or mine.turn.cancelled():
                with suppress(KeyError):  # his turn came when he had gone already
                    self._line.leave(mine.key)
            elif mine.turn.exception() is None:  # it came in the very moment in which he left
                self.busy -= 1
                self._next()
            if isinstance(error, TimeoutError):
                raise self._full(f"for {patience:g} s there was no place") from None
            raise

    def foreseen(self, caller: str, weight: int = 1) -> float:
        """Seconds that a request of this caller would wait if it came now, as things go; 0 while nobody can know."""
        if self.service is None:
            return 0.0
        return (self._line.ahead(caller, weight) + 1) * self.service / self._most

    def _took(self, seconds: float) -> None:
        """A request has ended well. Those that fail or leave say nothing of what one takes."""
        self.service = seconds if self.service is None else self.service + WEIGHT * (seconds - self.service)

    def _make_room(self, caller: str) -> None:
        if self.waiting < self._most_waiting:
            return
        goes = self._line.surplus(caller) if self._most_waiting else None
        if goes is None:
            raise self._full(f"{self.waiting} requests wait already")
        self._line.leave(goes.key)
        goes.turn.set_exception(self._full("others who had fewer requests here came"))

    def _next(self) -> None:
        while self.busy < self._most and (first := self._line.first()) is not None:
            self._line.leave(first.key)
            if not first.turn.done():
                self.busy += 1
                self._line.served(first.caller, first.weight)
                first.turn.set_result(None)

    def _full(self, why: str, seconds: float | None = None) -> QueueFull:
        """A refusal; who comes back after so many seconds, or when all who wait now were served, may well find room."""
        if seconds is None:
            service = GUESS if self.service is None else self.service
            seconds = (self.waiting + 1) * service / max(1, self._most)
        retry_after = min(LONGEST_RETRY, max(SHORTEST_RETRY, seconds))
        return QueueFull(f"the server '{self._name}' is busy: {why}", retry_after=retry_after)
