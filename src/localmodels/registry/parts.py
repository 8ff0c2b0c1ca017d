"""How one blob is fetched: which bytes to ask for next, what to make of each answer, when to try again. Pure.

Events in, decisions out; the clock is an argument. The drawing of one part::

              ┌────────────── wait, longer each time ◀──────────────┐
              ▼                                                     │ cut, stalled, refused for now, or a lie
    open ── Ask ──▶ asked ── Began ──▶ waiting ── Replied ──▶ reading ── its last byte ──▶ whole
                                          │                         │
                                          └── never here, or tried too often ──▶ the next mirror, or Fail

The rule: an attempt that is cut costs what it had not yet delivered, and nothing that it had (figure F17).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from math import inf
from typing import Any

from msgspec import Struct

from localmodels.core.catalog import Blob
from localmodels.core.errors import BackendTimeout, Garbled, LocalModelsError, StreamCut
from localmodels.core.spans import Span, gaps
from localmodels.registry.pace import Pace
from localmodels.registry.verdicts import Head, judge, passes


class Began(Struct, frozen=True):
    """A request is on its way; its time runs from here."""

    attempt: int


class Replied(Struct, frozen=True):
    """The head of its answer is there."""

    attempt: int
    head: Head


class Received(Struct, frozen=True):
    """So many more bytes of its body."""

    attempt: int
    size: int


class Wrote(Struct, frozen=True):
    """They are written; the time that it took is the disk's and not the registry's."""

    attempt: int


class Ended(Struct, frozen=True):
    """Its body ended, or it failed with an error."""

    attempt: int
    error: LocalModelsError | None = None


class Tick(Struct, frozen=True):
    """Time has passed."""


Event = Began | Replied | Received | Wrote | Ended | Tick


class Ask(Struct, frozen=True):
    """Send a request for these bytes to this mirror."""

    attempt: int
    start: int
    stop: int
    mirror: int


class Write(Struct, frozen=True):
    """Write what was received, from ``begin`` to ``end`` of the piece, at ``offset`` of the blob."""

    offset: int
    begin: int
    end: int


class Drop(Struct, frozen=True):
    """Close this attempt's connection; nothing more of it is wanted."""

    attempt: int


class Trouble(Struct, frozen=True):
    """Something went wrong that is being made good: ``why`` names it."""

    why: str


class Finish(Struct, frozen=True):
    """Every byte was received."""


class Fail(Struct, frozen=True):
    """It cannot be had."""

    error: LocalModelsError


Decision = Ask | Write | Drop | Trouble | Finish | Fail


class _Part(Struct):
    """Some bytes that are missing, from ``at`` on.

    Attributes:
        tries: attempts in a row that were not worth it; waits grow with them.
        strikes: those of them during which the whole blob stood still, since it was at ``seen``.
        ready: when it may be asked for again.
        taken: an attempt is at work on it.
    """

    start: int
    stop: int
    at: int
    tries: int = 0
    strikes: int = 0
    seen: int = 0
    ready: float = 0.0
    taken: bool = False


class _Attempt(Struct):
    """A request that was asked for and its answer.

    Attributes:
        parts: those it may fill; ``part`` is the one that it was asked for.
        asked: bytes that were asked for.
        at, stop: where the next byte of its body belongs, and one past the last.
        mark, since_mark: when it last brought enough, and the bytes since then.
        brought: bytes that were missing.
        since: when the disk was given what came last, None while the registry is at work.
    """

    part: _Part
    parts: list[_Part]
    asked: int
    at: int
    stop: int
    mark: float = inf
    since_mark: int = 0
    brought: int = 0
    reading: bool = False
    since: float | None = None


class Parts:
    """One blob on its way.

    Args:
        have: what need not be fetched.
        mirrors: how many places there are to ask, numbered from 0 and tried in that order.
        chance: for the jitter of waits.
    """

    def __init__(
        self, blob: Blob, have: Sequence[Span], *, pace: Pace, mirrors: int = 1, chance: random.Random | None = None
    ) -> None:
        self._blob = blob
        self._pace = pace
        self._mirrors = mirrors
        self._mirror = 0
        self._chance = chance or random.Random(0)  # noqa: S311 - jitter, not a secret
        self._parts = list(cut(gaps(have, blob.size), pace.part))
        self._attempts: dict[int, _Attempt] = {}
        self._count = 0
        self._over = False
        self.completed = blob.size - sum(part.stop - part.start for part in self._parts)
        self._on: dict[type[Any], Callable[[Any, float], Iterator[Decision]]] = {
            Began: self._began,
            Replied: self._replied,
            Received: self._received,
            Wrote: self._wrote,
            Ended: self._ended,
            Tick: self._tick,
        }

    def start(self, now: float) -> list[Decision]:
        """The first requests, or Finish where nothing is missing."""
        return list(self._fill(now))

    def handle(self, event: Event, now: float) -> list[Decision]:
        """Takes note of what happened and says what to do, in this order.

        Reports of attempts that were dropped are late, not wrong, and change nothing.
        """
        if self._over:
            return []
        return list(self._on[type(event)](event, now))

    def next_wake(self) -> float | None:
        """When to hand in a Tick if nothing else happens; None for never."""
        if self._over:
            return None
        wakes = [one.mark + self._pace.stall for one in self._attempts.values() if one.since is None]
        if len(self._attempts) < self._pace.at_once and not self._is_whole_stream():
            wakes += [part.ready for part in self._parts if not part.taken and part.at < part.stop]
        first = min(wakes, default=inf)
        return None if first == inf else first

    def reads(self, attempt: int) -> bool:
        """Is more of this attempt's body wanted?"""
        return not self._over and attempt in self._attempts

    # Events.

    def _began(self, event: Began, now: float) -> Iterator[Decision]:
        if (attempt := self._attempts.get(event.attempt)) is not None:
            attempt.mark = now
        yield from ()

    def _replied(self, event: Replied, now: float) -> Iterator[Decision]:
        attempt = self._attempts.get(event.attempt)
        if attempt is None:
            return
        attempt.mark, attempt.since_mark = now, 0
        verdict = judge(event.head, (attempt.at, attempt.stop), self._blob.size)
        if isinstance(verdict, LocalModelsError):
            yield Drop(event.attempt)
            yield from self._failed(event.attempt, verdict, now)
            return
        attempt.reading = True
        if verdict == "part" and event.head.span is not None:
            attempt.stop = event.head.span[1]
        if verdict == "whole" and (attempt.at, attempt.stop) != (0, self._blob.size):
            yield from self._take_whole(event.attempt, attempt)

    def _received(self, event: Received, now: float) -> Iterator[Decision]:
        attempt = self._attempts.get(event.attempt)
        if attempt is None or not attempt.reading:
            return
        pace = self._pace
        attempt.since_mark += event.size
        if attempt.since_mark >= pace.floor:
            attempt.mark, attempt.since_mark = now, 0
        attempt.since = now
        end = attempt.at + event.size
        for part in attempt.parts:
            start, stop = max(part.at, attempt.at), min(part.stop, end)
            if start < stop:
                yield Write(start, start - attempt.at, stop - attempt.at)
                self.completed += stop - start
                attempt.brought += stop - start
                part.at = stop
        attempt.at = min(end, attempt.stop)
        if end > attempt.stop:
            yield Trouble("the registry sends more bytes than it was asked for")
            yield Drop(event.attempt)
        if attempt.at == attempt.stop:
            yield from self._delivered(event.attempt, attempt, now)

    def _wrote(self, event: Wrote, now: float) -> Iterator[Decision]:
        if (attempt := self._attempts.get(event.attempt)) is not None and attempt.since is not None:
            attempt.mark += now - attempt.since
            attempt.since = None
        yield from ()

    def _ended(self, event: Ended, now: float) -> Iterator[Decision]:
        if event.attempt in self._attempts:
            error = event.error or StreamCut("the registry's answer is shorter than it was said to be")
            yield from self._failed(event.attempt, error, now)

    def _tick(self, _event: Tick, now: float) -> Iterator[Decision]:
        for number, attempt in list(self._attempts.items()):
            if number in self._attempts and attempt.since is None and attempt.mark + self._pace.stall <= now:
                yield Drop(number)
                yield from self._failed(number, BackendTimeout("the registry stalled"), now)
        yield from self._fill(now)

    # What follows from them.

    def _fill(self, now: float) -> Iterator[Decision]:
        """Asks for what is missing, from the front, as far as may be at once."""
        if self._over:
            return
        if all(part.at == part.stop for part in self._parts):
            self._over = True
            yield Finish()
            return
        for part in self._parts:
            if len(self._attempts) >= self._pace.at_once or self._is_whole_stream():
                return
            if not part.taken and part.at < part.stop and part.ready <= now:
                part.taken = True
                self._count += 1
                self._attempts[self._count] = _Attempt(part, [part], part.stop - part.at, part.at, part.stop)
                yield Ask(self._count, part.at, part.stop, self._mirror)

    def _take_whole(self, number: int, attempt: _Attempt) -> Iterator[Decision]:
        """The registry ignores ranges: this one answer is read from the blob's first byte to its last.

        What is missing is kept of it. The others would each bring the same.
        """
        yield Trouble("the registry sends the whole blob instead of the part that it was asked for")
        for other in [one for one in self._attempts if one != number]:
            yield Drop(other)
            self._attempts.pop(other).part.taken = False
        attempt.parts, attempt.at, attempt.stop = self._parts, 0, self._blob.size

    def _is_whole_stream(self) -> bool:
        return any(attempt.parts is self._parts for attempt in self._attempts.values())

    def _delivered(self, number: int, attempt: _Attempt, now: float) -> Iterator[Decision]:
        """It brought all that its head promised, which may be less than its part."""
        if attempt.part.at < attempt.part.stop and not self._is_worth(attempt):
            yield from self._failed(number, Garbled("the registry sends a few bytes where a part was asked for"), now)
            return
        self._attempts.pop(number).part.taken = False
        yield from self._fill(now)

    def _failed(self, number: int, error: LocalModelsError, now: float) -> Iterator[Decision]:
        attempt = self._attempts.pop(number)
        part = attempt.part
        part.taken = False
        part.tries = 0 if self._is_worth(attempt) else part.tries + 1
        # While the others bring something the registry is alive, and this part is only unlucky.
        moves = part.tries == 0 or self.completed - part.seen >= self._pace.floor
        part.strikes, part.seen = (0 if moves else part.strikes + 1), self.completed
        yield Trouble(error.message)
        if not passes(error) or part.strikes >= self._pace.tries:
            yield from self._give_up(error, now)
            return
        part.ready = now + self._pace.wait_after(error, part.tries, self._chance)
        yield from self._fill(now)

    def _is_worth(self, attempt: _Attempt) -> bool:
        """Did it bring enough to be no failure? The end of a part may be shorter than the floor."""
        return attempt.brought >= min(self._pace.floor, max(1, attempt.asked // 2))

    def _give_up(self, error: LocalModelsError, now: float) -> Iterator[Decision]:
        """On to the next mirror with what is there; after the last one it is over."""
        for other in list(self._attempts):
            yield Drop(other)
            self._attempts.pop(other).part.taken = False
        self._mirror += 1
        if self._mirror >= self._mirrors:
            self._over = True
            yield Fail(error)
            return
        for part in self._parts:
            part.tries, part.strikes, part.ready = 0, 0, 0.0
        yield from self._fill(now)


def cut(ranges: Sequence[Span], size: int) -> Iterator[_Part]:
    """Parts of at most this size, on a grid from the blob's beginning, so that they are the same after a restart."""
    for start, end in ranges:
        at = start
        while at < end:
            stop = min(end, (at // size + 1) * size)
            yield _Part(at, stop, at)
            at = stop
