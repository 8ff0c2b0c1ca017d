"""What a task says of itself, as its watchers get it: numbered, bounded, and told apart into what is kept and what not.

The rule: what changes the story is kept (the first step, another action, a whole step, the end); of ticks, which only
move a number, the newest is enough. Pure: a clock comes in, nothing goes out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from localmodels.core.tasks import Event, Step
from localmodels.dialects.strict_json import encode

SECOND = 10**9
# A tick is kept once a second, and later once in so great a part of the time that has passed: some 500 in ten hours.
PART = 64
# Steps of other actions that are kept for sure; a work that has more is told by its ticks.
MOST_ACTIONS = 1_000
# Ticks that are not kept have numbers too, which only watchers know: who ends a task whose server died goes this far
# beyond the last that was kept, where nobody has been. Far below 2**53, which is where JavaScript's numbers end.
LEAP = 2**40
# A ratio of 1 says that all is done and durable, which no step knows of itself.
ALMOST = 0.999


class Telling:
    """The events of one task.

    Args:
        clock: nanoseconds.

    Attributes:
        kept: those that are to be kept, in order.
        last: the newest, kept or not; None before the first.
    """

    def __init__(self, clock: Callable[[], int]) -> None:
        self.kept: list[Event] = []
        self.last: Event | None = None
        self._clock = clock
        self._began = self._kept_at = clock()

    def tell(self, step: Step) -> bool:
        """Adds a step of work that goes on; is it one that is kept?

        Raises:
            Garbled, TypeError: its details are nothing that JSON can carry.
        """
        return self._add(step.action, min(step.ratio, ALMOST), step.details, 200, keep=self._matters(step))

    def end(self, action: str, details: Mapping[str, Any], status: int = 200) -> None:
        """Adds the last event; one of success has the ratio 1. Raises as :meth:`tell`."""
        ratio = 1.0 if status == 200 else 0.0
        self._add(action, ratio, details, status, keep=True)

    def after(self, number: int) -> list[Event]:
        """The events after this number: those that are kept, and the newest."""
        place = len(self.kept)
        while place and self.kept[place - 1].number > number:
            place -= 1
        events = self.kept[place:]
        if self.last is not None and self.last.number > max(number, self.kept[-1].number):
            events.append(self.last)
        return events

    def _matters(self, step: Step) -> bool:
        if self.last is None or step.whole:
            return True
        if step.action != self.last.action and len(self.kept) < MOST_ACTIONS:
            return True
        now = self._clock()
        since = abs(now - self._kept_at)  # a clock that was set back would keep nothing for hours
        return since >= max(SECOND, (now - self._began) // PART)

    def _add(self, action: str, ratio: float, details: Mapping[str, Any], status: int, *, keep: bool) -> bool:
        before = self.last
        ratio = ratio if ratio >= 0 else 0.0  # whatever a work makes of its figures; NaN compares as false
        if before is not None:
            ratio = max(ratio, before.ratio)
        event = Event(before.number + 1 if before else 0, action, ratio, details, status)
        if keep:
            encode(details)  # in vain where it can be kept; better now than when it is the database that refuses
            self.kept.append(event)
            self._kept_at = self._clock()
        self.last = event
        return keep
