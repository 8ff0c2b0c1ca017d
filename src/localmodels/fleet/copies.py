"""Models that fail on servers which are well: a circuit breaker for each copy of a model, beside that of its server.

A server that takes connections and answers what it is asked for other models has one broken model, and no more. So what
fails after a connection was made counts for that model on that server first: after five in a row (or ten silent of the
last 20) the copy rests, and the server goes on with the others. No probe tells whether a model answers again, so time
does: when its rest is over, one request may try, and each try that fails makes the rest longer, up to five seconds.

The one rule: one try at a time, until it has ended. Only where several copies rest, and nothing was answered since the
first of them failed, is the server itself to blame.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from localmodels.fleet.breaker import IN_A_ROW, SILENT, WINDOW
from localmodels.fleet.hosts import Host

# Seconds of the first rest, and of the longest: what healed is used again within ten (reliability.md, F11).
FIRST, LONGEST = 1.0, 5.0
# Copies that rest on one server before it is blamed itself.
BLAMED = 2
# Copies of one server that are remembered: callers make up names, to which it may say anything. Of more, the one that
# was asked least lately is forgotten, and counted anew.
MANY = 100


class Copy(Struct, frozen=True):
    """How one model has answered on one server.

    Attributes:
        row: requests that failed since the last that was answered to its end.
        window: the last requests, newest in the lowest bit; 1 is one that met silence.
        rest: seconds that it rests between two tries; 0 while it is asked like any other.
        until: of the clock; then one request may try it.
        since: of the clock, when it was given up.
        tries: requests that have tried it since then.
        trying: is one of them under way?
    """

    row: int = 0
    window: int = 0
    rest: float = 0.0
    until: float = 0.0
    since: float = 0.0
    tries: int = 0
    trying: bool = False


FRESH = Copy()
_NONE: Mapping[str, Copy] = {}


def tried(copy: Copy, now: float) -> tuple[Copy, bool]:
    """A request begins; is it one that tries a copy which was given up?"""
    if not copy.rest or not may_be_tried(copy, now):
        return copy, False
    return replace(copy, until=now + LONGEST, tries=copy.tries + 1, trying=True), True


def may_be_tried(copy: Copy, now: float) -> bool:
    """May a request that can go nowhere else try it? The first may at once."""
    return not copy.trying and (copy.until <= now or not copy.tries)


def rests(copy: Copy, now: float) -> bool:
    """Does nobody go there by choice: was it given up, and is it not yet time for a try, or one under way?"""
    return copy.rest > 0 and (copy.trying or copy.until > now)


def healing(copy: Copy, now: float) -> float:
    """Seconds until a request that can go nowhere else may try it; 0 where one may. How a try ends nobody knows."""
    if not copy.rest or may_be_tried(copy, now):
        return 0.0
    return max(copy.until - now, FIRST) if copy.trying else copy.until - now


def failed(copy: Copy, now: float, *, silent: bool, trying: bool) -> Copy:
    """A request has failed; ``trying`` if it was one that tried the copy."""
    if copy.rest:
        rest = min(2 * copy.rest, LONGEST)
        return replace(copy, rest=rest, until=now + rest, trying=False) if trying else copy
    copy = replace(copy, row=copy.row + 1, window=_later(copy.window, silent=silent))
    if copy.row < IN_A_ROW and copy.window.bit_count() < SILENT:
        return copy
    return Copy(row=copy.row, rest=FIRST, until=now + FIRST, since=now)


def heard(copy: Copy) -> Copy:
    """The first of an answer has come: it need not last, but one more failure and the copy rests again."""
    return Copy(row=IN_A_ROW - 1) if copy.rest else copy


def answered(copy: Copy) -> Copy:
    """A request was answered to its end."""
    return Copy(window=_later(copy.window, silent=False))


def left(copy: Copy, now: float) -> Copy:
    """A request that tried it has ended, and has told nothing: another may try."""
    return replace(copy, until=now, trying=False) if copy.rest else copy


class Told(NamedTuple):
    """What a failure has shown: is the copy given up by it, and is its server to blame?"""

    given_up: bool
    blames_server: bool


class Copies:
    """The copies that have failed; all others are well, and nothing is kept of them."""

    def __init__(self) -> None:
        self._known: dict[Host, dict[str, Copy]] = {}

    def __bool__(self) -> bool:
        return bool(self._known)

    def of(self, host: Host, model: str) -> Copy:
        """One of them."""
        return self._known.get(host, _NONE).get(model, FRESH)

    def resting(self, model: str, now: float) -> Iterator[Host]:
        """Where this model rests."""
        return (host for host, copies in self._known.items() if rests(copies.get(model, FRESH), now))

    def given_up(self) -> Iterator[tuple[Host, str, Copy]]:
        """All that were given up: where, which, and how each of them is."""
        for host, copies in self._known.items():
            yield from ((host, model, copy) for model, copy in copies.items() if copy.rest)

    def fails(self, host: Host) -> bool:
        """Has any failed there since it was answered, but not so often that it was given up?"""
        copies = self._known.get(host)
        return copies is not None and any(copy.row and not copy.rest for copy in copies.values())

    def began(self, host: Host, model: str, now: float) -> bool:
        """A request has a place there; is it one that tries a copy which was given up?"""
        copy, trying = tried(self.of(host, model), now)
        if trying:
            self._keep(host, model, copy)
        return trying

    def heard(self, host: Host, model: str) -> None:
        """The first of an answer has come."""
        self._keep(host, model, heard(self.of(host, model)))

    def answered(self, host: Host, model: str) -> None:
        """A request was answered to its end."""
        self._keep(host, model, answered(self.of(host, model)))

    def left(self, host: Host, model: str, now: float) -> None:
        """A request that tried it has told nothing."""
        self._keep(host, model, left(self.of(host, model), now))

    def failed(self, host: Host, model: str, now: float, *, silent: bool, trying: bool, answered_at: float) -> Told:
        """A request has failed after it was connected; the server has answered any other at ``answered_at`` last."""
        before = self.of(host, model)
        after = failed(before, now, silent=silent, trying=trying)
        self._keep(host, model, after)
        if not after.rest or before.rest:
            return Told(given_up=False, blames_server=False)
        late = [copy for copy in self._known[host].values() if copy.rest and copy.since > answered_at]
        return Told(given_up=True, blames_server=len(late) >= BLAMED)

    def forget(self, host: Host) -> None:
        """It has left, or is another now."""
        self._known.pop(host, None)

    def _keep(self, host: Host, model: str, copy: Copy) -> None:
        copies = self._known.setdefault(host, {})
        copies.pop(model, None)
        if copy != FRESH:
            if len(copies) >= MANY:
                del copies[next(iter(copies))]
            copies[model] = copy
        elif not copies:
            del self._known[host]


def _later(window: int, *, silent: bool) -> int:
    return (window << 1 | silent) & ((1 << WINDOW) - 1)
