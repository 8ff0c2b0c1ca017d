"""One timer for all the deadlines that a connection has, one after the other.

A timer of the event loop costs more than anything else that an exchange does for itself, and almost none ever rings:
the answer comes. So setting and clearing an alarm are assignments. The one rule: it rings no later than it is due, and
when it wakes too early, since the deadline was moved on meanwhile, it goes back to sleep until then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

NEVER = float("inf")


class Alarm:
    """The alarm of one connection; nothing is due until it is set.

    Attributes:
        due: in the loop's time.
    """

    __slots__ = ("_at", "_loop", "_rings", "_timer", "due")

    def __init__(self) -> None:
        self.due = NEVER
        self._rings: Callable[[], None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._at = NEVER  # when the timer wakes

    def now(self) -> float:
        """The loop's time, without looking for the loop each time, which asks the kernel."""
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        return loop.time()

    def set(self, due: float, rings: Callable[[], None]) -> None:
        """From now on this is due."""
        self.due = due
        self._rings = rings
        if due < self._at:
            self._wait(due)

    def clear(self) -> None:
        """Nothing is due."""
        self.due = NEVER
        self._rings = None

    def end(self) -> None:
        """The connection is closed, and nothing will be due any more."""
        self.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._at = NEVER

    def _wait(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        loop = self._loop = self._loop or asyncio.get_running_loop()
        self._timer = loop.call_at(due, self._wake)
        self._at = due

    def _wake(self) -> None:
        self._timer = None
        self._at = NEVER
        rings = self._rings
        if rings is None or self.due == NEVER:
            return
        if self.due > self.now():
            self._wait(self.due)
        else:
            rings()
