"""The planner of one blob: without sockets, with a clock that is an argument."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmodels.core.catalog import Blob, Digest
from localmodels.core.errors import (
    BackendError,
    BackendTimeout,
    Forbidden,
    LocalModelsError,
    NotFound,
    StreamCut,
    Unavailable,
)
from localmodels.core.spans import Span, gaps, merged
from localmodels.registry.pace import MIB, Pace
from localmodels.registry.parts import (
    Ask,
    Began,
    Decision,
    Drop,
    Ended,
    Event,
    Fail,
    Finish,
    Parts,
    Received,
    Replied,
    Tick,
    Trouble,
    Write,
    Wrote,
)
from localmodels.registry.verdicts import Head

PACE = Pace(part=100, at_once=3, tries=3, first_wait=1.0, longest_wait=4.0, stall=30.0, floor=10)
CUT = StreamCut("cut")


def blob(size: int) -> Blob:
    return Blob(Digest("0" * 64), size)


def parts(size: int, have: Sequence[Span] = (), pace: Pace = PACE, mirrors: int = 1) -> Parts:
    return Parts(blob(size), have, pace=pace, mirrors=mirrors, chance=random.Random(1))


def asks(decisions: Sequence[Decision]) -> list[tuple[int, int]]:
    return [(one.start, one.stop) for one in decisions if isinstance(one, Ask)]


def good(start: int, stop: int, size: int) -> Head:
    return Head(206, (start, stop, size), stop - start)


class Talk:
    """Parts under way: what was decided last, and who is asked for what."""

    def __init__(self, planner: Parts, size: int) -> None:
        self.planner = planner
        self.size = size
        self.now = 0.0
        self.asked: dict[int, Ask] = {}
        self.kept: list[Span] = []
        self.take(planner.start(0.0))

    def take(self, decisions: list[Decision]) -> list[Decision]:
        for decision in decisions:
            if isinstance(decision, Ask):
                self.asked[decision.attempt] = decision
            if isinstance(decision, Write):
                self.kept.append((decision.offset, decision.offset + decision.end - decision.begin))
        return decisions

    def hear(self, event: Event) -> list[Decision]:
        return self.take(self.planner.handle(event, self.now))

    def reply(self, attempt: int) -> list[Decision]:
        ask = self.asked[attempt]
        self.hear(Began(attempt))
        return self.hear(Replied(attempt, good(ask.start, ask.stop, self.size)))

    def deliver(self, attempt: int) -> list[Decision]:
        self.reply(attempt)
        ask = self.asked[attempt]
        return self.hear(Received(attempt, ask.stop - ask.start))


def talk(size: int, have: Sequence[Span] = (), pace: Pace = PACE, mirrors: int = 1) -> Talk:
    return Talk(parts(size, have, pace, mirrors), size)


def test_a_blob_is_cut_on_a_grid_and_asked_for_from_its_front() -> None:
    assert asks(parts(1000).start(0.0)) == [(0, 100), (100, 200), (200, 300)]


def test_what_is_there_is_not_asked_for() -> None:
    planner = parts(1000, [(0, 150), (220, 1000)])
    assert asks(planner.start(0.0)) == [(150, 200), (200, 220)]
    assert planner.completed == 930


@pytest.mark.parametrize(("size", "have"), [(0, []), (1000, [(0, 1000)]), (5, [(0, 3), (3, 5)])])
def test_nothing_missing_is_the_end(size: int, have: list[Span]) -> None:
    assert parts(size, have).start(0.0) == [Finish()]


def test_the_next_part_is_asked_for_as_soon_as_one_is_whole() -> None:
    at = talk(1000)
    assert at.deliver(2) == [Write(100, 0, 100), Ask(4, 300, 400, 0)]


def test_the_last_byte_is_the_end() -> None:
    at = talk(250)
    at.deliver(1)
    at.deliver(3)
    assert at.deliver(2) == [Write(100, 0, 100), Finish()]
    assert at.planner.completed == 250
    assert at.hear(Tick()) == []


def test_a_cut_costs_what_had_not_come() -> None:
    at = talk(100)
    at.reply(1)
    at.hear(Received(1, 60))
    assert at.hear(Ended(1, CUT)) == [Trouble("cut"), Ask(2, 60, 100, 0)]


def test_a_body_that_ends_early_was_cut() -> None:
    at = talk(100)
    at.reply(1)
    at.hear(Received(1, 60))
    [trouble, ask] = at.hear(Ended(1))
    assert isinstance(trouble, Trouble)
    assert "shorter" in trouble.why
    assert ask == Ask(2, 60, 100, 0)


def test_one_that_brought_nothing_waits_and_waits_longer() -> None:
    at = talk(100)
    waits = []
    for attempt in (1, 2):
        assert at.hear(Ended(attempt, CUT)) == [Trouble("cut")]
        wake = at.planner.next_wake()
        assert wake is not None
        waits.append(wake - at.now)
        assert at.hear(Tick()) == []
        at.now = wake
        assert asks(at.hear(Tick())) == [(0, 100)]
    assert 0.5 <= waits[0] <= 1.5
    assert 1.0 <= waits[1] <= 3.0
    assert at.hear(Ended(3, CUT)) == [Trouble("cut"), Fail(CUT)]
    assert at.planner.next_wake() is None


def test_a_registry_says_when_to_come_back_within_reason() -> None:
    for seconds, least, most in ((5.0, 5.0, 5.0), (1e9, 60.0, 60.0), (0.0, 0.5, 1.5)):
        at = talk(100)
        at.hear(Ended(1, Unavailable("busy", retry_after=seconds)))
        wake = at.planner.next_wake()
        assert wake is not None
        assert least <= wake <= most


def test_one_that_brings_something_may_be_cut_for_ever() -> None:
    at = talk(10_000, pace=Pace(part=10_000, tries=2, floor=10))
    for attempt in range(1, 500):
        ask = at.asked[attempt]
        at.reply(attempt)
        at.hear(Received(attempt, 20))
        decisions = at.hear(Ended(attempt, CUT))
        assert decisions == [Trouble("cut"), Ask(attempt + 1, ask.start + 20, 10_000, 0)]


def test_a_part_is_not_given_up_while_the_others_bring_something() -> None:
    at = talk(1000)
    at.reply(1)
    at.reply(2)
    for _ in range(8):
        unlucky = max(number for number, ask in at.asked.items() if ask.start == 200)
        assert not any(isinstance(one, Fail) for one in at.hear(Ended(unlucky, CUT)))
        at.hear(Received(1, 10))
        at.now += 100.0
        at.hear(Began(1))
        at.hear(Began(2))
        at.hear(Tick())


@pytest.mark.parametrize("error", [NotFound("gone"), Forbidden("no"), BackendError("418")])
def test_what_does_not_pass_is_the_end_at_once(error: LocalModelsError) -> None:
    at = talk(300)
    decisions = at.hear(Ended(2, error))
    assert decisions == [Trouble(error.message), Drop(1), Drop(3), Fail(error)]


def test_the_next_mirror_takes_over_what_is_there() -> None:
    at = talk(300, mirrors=2)
    at.reply(1)
    at.hear(Received(1, 40))
    decisions = at.hear(Ended(2, NotFound("gone")))
    assert decisions == [
        Trouble("gone"),
        Drop(1),
        Drop(3),
        Ask(4, 40, 100, 1),
        Ask(5, 100, 200, 1),
        Ask(6, 200, 300, 1),
    ]
    assert isinstance(at.hear(Ended(5, NotFound("gone there too")))[-1], Fail)


def test_silence_is_found_and_asked_again() -> None:
    at = talk(100)
    at.hear(Began(1))
    assert at.planner.next_wake() == 30.0
    at.now = 29.9
    assert at.hear(Tick()) == []
    at.now = 30.0
    drop, trouble = at.hear(Tick())
    assert drop == Drop(1)
    assert trouble == Trouble("the registry stalled")


def test_a_request_that_waits_for_its_turn_is_not_silent() -> None:
    at = talk(100)
    assert at.planner.next_wake() is None
    at.now = 1e6
    assert at.hear(Tick()) == []


def test_a_trickle_is_as_good_as_silence() -> None:
    at = talk(100)
    at.reply(1)
    for second in range(1, 10):
        at.now = float(second)
        at.hear(Received(1, 1))
        at.hear(Wrote(1))
    at.now = 30.0
    assert at.hear(Tick())[0] == Drop(1)


def test_what_keeps_coming_is_not_silent() -> None:
    at = talk(100)
    at.reply(1)
    for minute in range(9):
        at.now = minute * 29.0
        at.hear(Received(1, 10))
        at.hear(Wrote(1))
        assert at.hear(Tick()) == []


def test_the_disks_time_is_not_the_registrys() -> None:
    at = talk(100)
    at.reply(1)
    at.now = 20.0
    at.hear(Received(1, 5))
    assert at.planner.next_wake() is None
    at.now = 500.0
    assert at.hear(Tick()) == []
    at.hear(Wrote(1))
    assert at.planner.next_wake() == 510.0


def test_a_registry_without_ranges_is_read_once() -> None:
    """The first answer that is the whole blob takes over, and keeps what is missing."""
    at = talk(1000, [(150, 160)])
    at.reply(1)
    at.hear(Received(1, 30))
    at.hear(Began(2))
    decisions = at.hear(Replied(2, Head(200, None, 1000)))
    assert decisions == [
        Trouble("the registry sends the whole blob instead of the part that it was asked for"),
        Drop(1),
        Drop(3),
    ]
    at.kept.clear()
    assert at.hear(Received(2, 20)) == []
    assert at.hear(Received(2, 150)) == [Write(30, 10, 80), Write(100, 80, 130), Write(160, 140, 150)]
    assert at.hear(Received(2, 830))[-1] == Finish()
    assert merged([*at.kept, (0, 30), (150, 160)]) == ((0, 1000),)


def test_after_a_whole_stream_is_cut_ranges_are_tried_again() -> None:
    at = talk(300)
    at.hear(Replied(2, Head(200, None, 300)))
    at.hear(Received(2, 150))
    assert asks(at.hear(Ended(2, CUT))) == [(150, 200), (200, 300)]


def test_a_part_may_be_answered_by_less_of_it() -> None:
    at = talk(100)
    at.hear(Replied(1, good(0, 50, 100)))
    assert at.hear(Received(1, 50)) == [Write(0, 0, 50), Ask(2, 50, 100, 0)]


def test_but_not_by_a_byte_at_a_time() -> None:
    at = talk(100)
    at.hear(Replied(1, good(0, 1, 100)))
    keep, trouble = at.hear(Received(1, 1))
    assert keep == Write(0, 0, 1)
    assert isinstance(trouble, Trouble)
    assert "few bytes" in trouble.why


def test_more_than_was_asked_for_is_cut_off() -> None:
    at = talk(100)
    at.hear(Replied(1, Head(206, (0, 100, 100))))
    keep, trouble, drop, finish = at.hear(Received(1, 5000))
    assert (keep, drop, finish) == (Write(0, 0, 100), Drop(1), Finish())
    assert isinstance(trouble, Trouble)


def test_late_reports_change_nothing() -> None:
    at = talk(300)
    at.hear(Ended(2, CUT))
    for event in (Began(2), Replied(2, good(100, 200, 300)), Received(2, 50), Wrote(2), Ended(2, CUT), Ended(99)):
        assert at.hear(event) == []
    assert at.planner.completed == 0


def test_bytes_before_a_head_are_not_kept() -> None:
    at = talk(100)
    assert at.hear(Received(1, 10)) == []


def test_the_default_numbers_are_what_they_are_said_to_be() -> None:
    assert asks(Parts(blob(10 * 2**30), [], pace=Pace()).start(0.0)) == [
        (i * 64 * MIB, (i + 1) * 64 * MIB) for i in range(8)
    ]


class World:
    """A registry that does anything at all, driven by choices."""

    def __init__(self, size: int, have: Sequence[Span], choices: random.Random) -> None:
        self.at = talk(size, have, Pace(part=50, at_once=3, tries=4, first_wait=1, stall=30, floor=5))
        self.have = list(have)
        self.size = size
        self.chance = choices
        self.end: Decision | None = None
        self.open = dict(self.at.asked)

    def hear(self, event: Event) -> None:
        before = set(self.at.asked)
        for decision in self.at.hear(event):
            if isinstance(decision, Finish | Fail):
                assert self.end is None
                self.end = decision
            if isinstance(decision, Drop):
                assert decision.attempt in self.open
            if isinstance(decision, Ask):
                assert decision.attempt not in before
                assert gaps([*self.have, *self.at.kept], self.size), "asked for though nothing is missing"
                self.open[decision.attempt] = decision
        self.open = {number: ask for number, ask in self.open.items() if self.at.planner.reads(number)}
        assert len(self.open) <= 3

    def step(self) -> None:
        if not self.open or self.chance.random() < 0.1:
            self.at.now = max(self.at.now, self.at.planner.next_wake() or self.at.now) + self.chance.random()
            self.hear(Tick())
            return
        number, ask = self.chance.choice(list(self.open.items()))
        self.hear(Began(number))
        self.hear(Replied(number, self.head(ask)))
        size = self.chance.randrange(1, 80)
        for _ in range(self.chance.randrange(4)):
            if not self.at.planner.reads(number):
                return
            self.hear(Received(number, size))
            self.hear(Wrote(number))
        if self.at.planner.reads(number):
            self.hear(Ended(number, self.chance.choice([None, CUT, BackendTimeout("slow")])))

    def head(self, ask: Ask) -> Head:
        lies = [Head(200), Head(500), Head(416), Head(206), Head(206, (ask.start + 1, ask.stop, None))]
        truth = good(ask.start, ask.stop, self.size)
        return truth if self.chance.random() < 0.7 else self.chance.choice(lies)


@given(st.integers(0, 2**32), st.integers(0, 500), st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500))))
def test_whatever_a_registry_does_it_ends_and_every_byte_is_kept_once(seed: int, size: int, ranges: list[Span]) -> None:
    have = [(start, min(end, size)) for start, end in merged(ranges) if start < size]
    world = World(size, have, random.Random(seed))
    for _ in range(5000):
        if world.end or not gaps(have, size):
            break
        world.step()
    if gaps(have, size):
        assert world.end
        kept = sorted(world.at.kept)
        assert all(end <= start for (_, end), (start, _) in pairwise(kept))
        assert not any(start < e and s < end for start, end in kept for s, e in have)
        if isinstance(world.end, Finish):
            assert gaps([*have, *kept], size) == ()
            assert world.at.planner.completed == size
