"""A virtual clock: things happen in the order of their moments, those of one moment in the order of asking for them."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush


class Clock:
    """The time of a simulation, in seconds.

    Attributes:
        now: the moment.
        events: things that have happened.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.events = 0
        self._asked = 0
        self._coming: list[tuple[float, int, Callable[[], None]]] = []

    def after(self, seconds: float, what: Callable[[], None]) -> None:
        """Does this so much later."""
        self._asked += 1
        heappush(self._coming, (self.now + seconds, self._asked, what))

    def run(self, until: Callable[[], bool]) -> None:
        """Goes on until this is so, or nothing more is to come."""
        while self._coming and not until():
            self.now, _, what = heappop(self._coming)
            self.events += 1
            what()
