"""Places at one remote server: how many requests it gets at once, and who is next when all places are taken.

The one rule: a place that was given comes back, whatever became of the request. The line is fair among callers and
bounded (``core.fair``); who finds it full is refused at once, and nobody waits longer than his patience.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from msgspec import Struct

from localmodels.core.errors import QueueFull
from localmodels.core.fair import Line

# Seconds after which somebody who was refused may well find room: about one answer's length.
COME_BACK = 5.0


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
    """

    def __init__(self, name: str, most: int = 0, most_waiting: int = 64, *, patience: float = 600.0) -> None:
        self.busy = 0
        self._name = name
        self._most = most
        self._most_waiting = most_waiting
        self.patience = patience
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
            QueueFull: too many wait already, or it took too long.
        """
        if self._most and (self.busy >= self._most or self.waiting):
            await self._wait(caller, weight)
        else:
            self.busy += 1
            if self._most:
                self._line.served(caller, weight)
        try:
            yield
        finally:
            self.busy -= 1
            self._next()

    async def _wait(self, caller: str, weight: int) -> None:
        """Returns with a place."""
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

    def _full(self, why: str) -> QueueFull:
        return QueueFull(f"the server '{self._name}' is busy: {why}", retry_after=COME_BACK)
