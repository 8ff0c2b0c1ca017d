"""What became of all requests: counted by kind and outcome, and what nobody expected told in full."""

from __future__ import annotations

from collections import Counter

from msgspec import Struct, field
from tests.hostile.attacker import Heard
from tests.soak.outcomes import LEFT, outcome

TOLD = 40  # unexpected outcomes that are told in full


class Tally(Struct):
    """The counts.

    Attributes:
        outcomes: how many requests of a kind came to what.
        unexpected: the first that came to what they should not.
        took: when each request of the steady kind began, in seconds since the soak did, and how long it took.
        broken: visits that ended in an error of the client's own.
    """

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    unexpected: list[str] = field(default_factory=list)
    many_unexpected: int = 0
    took: list[tuple[float, float]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    @property
    def requests(self) -> int:
        """How many were sent."""
        return self.outcomes.total()

    def note(self, kind: str, heard: Heard, wanted: frozenset[str]) -> None:
        """Counts an answer, which should be one of these."""
        came = outcome(heard)
        self.outcomes[kind, came] += 1
        if came in wanted:
            return
        self.many_unexpected += 1
        if len(self.unexpected) < TOLD:
            self.unexpected.append(f"{kind}: {came}, not {' or '.join(sorted(wanted))}: {heard.body[-300:]!r}")

    def left(self, kind: str) -> None:
        """Counts a client that left."""
        self.outcomes[kind, LEFT] += 1
