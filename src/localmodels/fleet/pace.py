"""How often a server is asked how it is: often where the answer is about to be used, rarely where nobody asks for it.

The rule: waits have a least and a most, and no two are the same, so that many gateways and many servers do not fall
into step. Chance only ever shortens a wait: what is promised of the longest holds.
"""

from __future__ import annotations

from random import Random
from typing import Literal

from msgspec import Struct

DAY = 86_400.0  # seconds

# `busy` answers requests of ours; `idle` could; `down` is not asked, or is being tried.
Mood = Literal["busy", "idle", "down"]


class Wait(Struct, frozen=True):
    """Before the next probe: in which mood it was chosen, and seconds before chance has shortened it."""

    mood: Mood
    seconds: float


class Pace(Struct, frozen=True):
    """The numbers, in seconds.

    Attributes:
        busy: where requests go now: what is warm there changes with them, and a probe costs three small answers.
        idle, longest_idle: where none go: at first, and the most while there are few servers. Its models change only by
            hand, and who pulls one there through us makes us look at once; but a server that died shows as if it lived.
        idle_rate: where there are many, so many of them a second are asked, at the least every `most_idle` seconds. A
            probe takes 1 ms of this process (three answers of a server with one model): five a second are half a
            percent of a core, and a thousand servers two percent.
        down, longest_down: where none can go. With the deadline of a probe, which may have begun just before the server
            healed, the longest is less than 10 s (reliability.md, F11).
        growth: a wait beside the one before, in the same mood.
        chance: the part of a wait that may be left out.
        deadline: of a whole probe.
    """

    busy: float = 2.0
    idle: float = 2.0
    longest_idle: float = 10.0
    idle_rate: float = 5.0
    most_idle: float = 60.0
    down: float = 1.0
    longest_down: float = 5.0
    growth: float = 1.5
    chance: float = 0.2
    deadline: float = 4.0

    def after(self, before: Wait | None, mood: Mood, servers: int = 1) -> Wait:
        """The next wait; ``before`` is the last, None before the first. There are so many servers in all."""
        least, most = {
            "busy": (self.busy, self.busy),
            "idle": (self.idle, max(self.longest_idle, min(servers / self.idle_rate, self.most_idle))),
            "down": (self.down, self.longest_down),
        }[mood]
        if before is None or before.mood != mood:
            return Wait(mood, least)
        return Wait(mood, min(most, before.seconds * self.growth))

    def shortened(self, wait: Wait, random: Random) -> float:
        """Its seconds, as chance has them."""
        return wait.seconds * (1.0 - self.chance * random.random())
