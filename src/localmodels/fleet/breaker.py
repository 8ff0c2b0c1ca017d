"""When a server is asked no more, and how it comes back: a circuit breaker, as a value and what follows upon it.

::

    unknown ──── a probe or a request was answered ───▶ up ◀────────────────────────────────┐
       │                                                │                                   │
       │    5 requests failed in a row, or 10 of the    │      that request was answered; or, where
       │    last 20 timed out, or a probe failed        │      only probes had failed, 3 good ones in a row
       │                                                ▼                                   │
       └──────────────────────────────────────────────▶ down ──── a good probe ────▶ trying ┤
                                                        ▲    exactly one request may prove it
                                                        └── it failed, or a probe did ──────┘

Where nobody asks, no request can prove anything. So after many good probes (12, a minute of them) it is thought well of
again, but not as before: the first request that fails is enough to give it up once more.

A request need not wait for that probe where nobody else is left to ask: as long as only requests have failed, and no
probe since, it may prove the server itself (:func:`dared`), at once after five have failed, and then once a second.

The one rule: newer evidence beats older. A request that began before the server was given up says nothing of the one
that has come back, and a probe that failed says nothing against an answer that came while it waited. What is wrong with
a request (a refusal, a model that is not there, a queue that is full) says nothing of its server at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from localmodels.backends.round_trip import Unanswered
from localmodels.core.errors import (
    BackendError,
    BackendTimeout,
    CallerError,
    DiskFull,
    EngineError,
    LocalModelsError,
    LoopDetected,
    OutOfMemory,
    QueueFull,
    Unauthenticated,
    Unavailable,
    Unreachable,
)
from localmodels.fleet.hosts import State

# Requests that fail one after the other before the server is given up (reliability.md, F11).
IN_A_ROW = 5
# Of so many requests that were answered or met silence, so many silent ones: a server that answers every other request
# never fails five times in a row, and still costs every other caller a minute.
WINDOW, SILENT = 20, 10
# Good probes that make up for bad ones; one alone may be the good moment of a server that comes and goes.
GOOD_PROBES = 3
# The same for one that requests have found failing, and that none has asked since: at the pace of those that are down,
# which is five seconds at most, about a minute.
MANY_GOOD_PROBES = 12

# Seconds between two requests by which a server may prove itself though no probe has found it well.
DARE = 1.0

Met = Literal["answer", "failure", "silence", "nothing"]
"""What a request met: an answer to its end; a failure of the server; silence for too long, which is one too; or nothing
that says how the server is."""


class Breaker(Struct, frozen=True):
    """How one server has answered.

    Attributes:
        state: see above.
        row: requests that failed since the last that was answered to its end.
        window: the last requests, newest in the lowest bit; 1 is one that timed out.
        good: good probes in a row, while it is tried.
        blamed: was it given up for what requests met, and not for probes alone?
        proving: is the request under way that may prove it?
        era: how often it has been given up; a request says something only in the era in which it began.
        dark: has a probe failed since it was answered last?
        until: seconds of some clock; before them no request proves it without a good probe.
    """

    state: State = "unknown"
    row: int = 0
    window: int = 0
    good: int = 0
    blamed: bool = False
    proving: bool = False
    era: int = 0
    dark: bool = False
    until: float = 0.0


FRESH = Breaker()


def met(error: BaseException | None) -> Met:
    """What an outcome says of the server; None is an answer to its end."""
    if error is None:
        return "answer"
    if not isinstance(error, LocalModelsError):  # who left, or a defect of ours
        return "nothing"
    if isinstance(error, Unavailable) and error.retry_after is not None:
        return "nothing"  # busy, and says for how long
    return next((what for kind, what in _MEANS.items() if isinstance(error, kind)), "nothing")


def is_of_the_model(error: BaseException | None) -> bool:
    """May it be the model that failed, and not its server? There was a connection, and our key was taken."""
    return isinstance(error, Unanswered) or not isinstance(error, (Unreachable, Unauthenticated))


# The first row that fits counts.
_MEANS: Mapping[type[LocalModelsError], Met] = {
    Unauthenticated: "failure",  # it refuses our key, whoever asks
    CallerError: "nothing",
    QueueFull: "nothing",
    OutOfMemory: "nothing",
    DiskFull: "nothing",
    LoopDetected: "nothing",
    Unavailable: "failure",
    EngineError: "nothing",  # of our own engine: about a model, and the pool looks after its runners
    BackendTimeout: "silence",
    BackendError: "failure",
}


def began(breaker: Breaker) -> tuple[Breaker, bool]:
    """A request begins; is it the one that may prove the server?"""
    if breaker.state != "trying" or breaker.proving:
        return breaker, False
    return replace(breaker, proving=True), True


def answered(breaker: Breaker, era: int) -> Breaker:
    """The first of an answer has come, to a request of this era.

    What proves a server need not last for minutes. But one more failure, even of this very answer, and it is given up
    again: a server that breaks off every answer also begins every one.
    """
    if era != breaker.era or breaker.state == "up":
        return breaker
    if breaker.state == "unknown":
        return replace(breaker, state="up")
    return Breaker("up", row=IN_A_ROW - 1, blamed=breaker.blamed, era=breaker.era)


def ended(breaker: Breaker, what: Met, era: int, *, proving: bool = False, now: float = 0.0) -> Breaker:
    """A request of this era has ended; ``proving`` if it was the one that may prove the server."""
    if era != breaker.era:
        return breaker
    if proving and breaker.proving:
        breaker = replace(breaker, proving=False)  # else another may try
    if what == "nothing":
        return breaker
    if what == "answer":
        return Breaker("up", window=_later(breaker.window, silent=False), era=breaker.era)
    if breaker.state == "down":
        return breaker
    breaker = replace(breaker, row=breaker.row + 1, window=_later(breaker.window, silent=what == "silence"))
    too_many = breaker.row >= IN_A_ROW or breaker.window.bit_count() >= SILENT
    if breaker.state == "trying":
        return _opened(breaker, blamed=True, until=now + DARE)
    return _opened(breaker, blamed=True) if too_many else breaker


def given_up(breaker: Breaker) -> Breaker:
    """What several of its models have met is its own fault."""
    return breaker if breaker.state == "down" else _opened(breaker, blamed=True)


def seen(breaker: Breaker) -> Breaker:
    """A probe was good."""
    if breaker.state == "down":
        return replace(breaker, state="trying", good=1, dark=False)
    if breaker.state == "unknown":
        return replace(breaker, state="up")
    if breaker.state == "up":
        return breaker
    breaker = replace(breaker, good=breaker.good + 1)
    if breaker.proving or breaker.good < (MANY_GOOD_PROBES if breaker.blamed else GOOD_PROBES):
        return breaker
    return Breaker("up", row=IN_A_ROW - 1 if breaker.blamed else 0, blamed=breaker.blamed, era=breaker.era)


def dared(breaker: Breaker) -> Breaker:
    """Somebody asks for this very server and for no other: his request may prove it."""
    return replace(breaker, state="trying", good=0) if breaker.state == "down" else breaker


def untried(breaker: Breaker, now: float) -> float | None:
    """Seconds until a request that can go nowhere else may prove it; None where that takes a good probe."""
    return None if breaker.state != "down" or breaker.dark else max(0.0, breaker.until - now)


def unseen(breaker: Breaker) -> Breaker:
    """A probe failed, and nothing has been answered since it began."""
    breaker = replace(breaker, dark=True)
    return breaker if breaker.state == "down" else _opened(breaker, blamed=breaker.blamed and breaker.state != "up")


def _later(window: int, *, silent: bool) -> int:
    return (window << 1 | silent) & ((1 << WINDOW) - 1)


def _opened(breaker: Breaker, *, blamed: bool, until: float = 0.0) -> Breaker:
    return Breaker("down", blamed=blamed, era=breaker.era + 1, dark=breaker.dark, until=until)
