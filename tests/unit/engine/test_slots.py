"""Slots: who goes where, who is held and released; and a world that proves it, and is proved itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random

import pytest

from localmodels.engine.slots import (
    LONG,
    Arrive,
    Copied,
    Copy,
    Leave,
    Phase,
    Prefill,
    PrefillDone,
    Run,
    SlotDecision,
    SlotEvent,
    SlotTable,
    common_prefix,
)

SYSTEM = b"s" * 4 * LONG
OTHER = b"o" * 4 * LONG


def fill(table: SlotTable, prompt: bytes) -> None:
    """A request with this prompt comes, is answered and leaves."""
    for decision in table.handle(Arrive("filler", prompt)):
        if isinstance(decision, Prefill):
            table.handle(PrefillDone("filler"))
    table.handle(Leave("filler"))


def test_a_short_prompt_runs_at_once() -> None:
    assert SlotTable(4).handle(Arrive("q1", b"short")) == [Run("q1", 0)]


def test_a_long_prompt_in_the_only_slot_runs_at_once() -> None:
    assert SlotTable(1).handle(Arrive("q1", SYSTEM)) == [Run("q1", 0)]


def test_the_next_turn_of_a_conversation_goes_back_to_its_slot() -> None:
    table = SlotTable(4)
    fill(table, OTHER)
    fill(table, SYSTEM)
    assert table.handle(Arrive("q1", SYSTEM + b"and then?")) == [Run("q1", 1)]
    assert table.handle(Arrive("q2", OTHER + b"and then?")) == [Run("q2", 0)]


def test_a_new_prompt_takes_an_empty_slot_and_then_the_one_used_longest_ago() -> None:
    table = SlotTable(2)
    fill(table, b"one")
    fill(table, b"two")
    assert table.handle(Arrive("q1", b"three")) == [Run("q1", 0)]


def test_a_little_in_common_does_not_cost_a_conversation_its_slot() -> None:
    table = SlotTable(2)
    fill(table, b"{" + SYSTEM)
    assert table.handle(Arrive("q1", b"{ a short question")) == [Run("q1", 1)]


def test_four_with_the_same_prefix_compute_it_once() -> None:
    table = SlotTable(4)
    assert table.handle(Arrive("q0", SYSTEM + b"0")) == [Prefill("q0", 0)]
    for number in (1, 2, 3):
        assert table.handle(Arrive(f"q{number}", SYSTEM + b"%d" % number)) == []
    assert table.handle(PrefillDone("q0")) == [Copy(0, (1, 2, 3))]
    assert table.handle(Copied(1)) == [Run("q1", 1)]
    assert table.handle(Copied(2)) == [Run("q2", 2)]
    assert table.handle(Copied(3)) == [Run("q3", 3), Run("q0", 0)]


def test_a_leader_without_followers_just_runs() -> None:
    table = SlotTable(4)
    table.handle(Arrive("q0", SYSTEM))
    assert table.handle(PrefillDone("q0")) == [Run("q0", 0)]


def test_other_prefixes_are_not_held() -> None:
    table = SlotTable(4)
    table.handle(Arrive("q0", SYSTEM))
    assert table.handle(Arrive("q1", OTHER)) == [Prefill("q1", 1)]
    assert table.handle(Arrive("q2", b"short")) == [Run("q2", 2)]
    assert table.handle(Arrive("q3", OTHER + b"!")) == []
    assert table.handle(PrefillDone("q1")) == [Copy(1, (3,))]


@pytest.mark.parametrize(
    ("prompt", "why"),
    [
        (SYSTEM[: LONG - 1] + b"x" * LONG, "too little in common"),
        (SYSTEM + b"x" * 13 * LONG, "too small a part of its own"),
        (SYSTEM[: 2 * LONG - 1] + b"x" * LONG, "too small a part of the leader's"),
    ],
)
def test_who_gains_little_leads_himself(prompt: bytes, why: str) -> None:
    table = SlotTable(2)
    table.handle(Arrive("q0", SYSTEM))
    assert table.handle(Arrive("q1", prompt)) == [Prefill("q1", 1)], why


def test_what_is_cached_in_its_own_slot_is_not_copied() -> None:
    table = SlotTable(2)
    fill(table, SYSTEM)
    fill(table, OTHER)
    table.handle(Arrive("q0", SYSTEM + b"0" * LONG))
    assert table.handle(Arrive("q1", OTHER + b"1")) == [Run("q1", 1)]


def test_when_the_leader_leaves_the_next_one_leads() -> None:
    table = SlotTable(4)
    for number in range(3):
        table.handle(Arrive(f"q{number}", SYSTEM + b"%d" % number))
    assert table.handle(Leave("q0")) == [Prefill("q1", 1)]
    assert table.handle(PrefillDone("q0")) == [], "too late"
    assert table.handle(PrefillDone("q1")) == [Copy(1, (2,))]


def test_a_follower_that_leaves_gets_no_copy() -> None:
    table = SlotTable(4)
    for number in range(3):
        table.handle(Arrive(f"q{number}", SYSTEM + b"%d" % number))
    table.handle(Leave("q1"))
    assert table.handle(PrefillDone("q0")) == [Copy(0, (2,))]


def test_after_a_failed_copy_the_follower_computes_for_itself() -> None:
    table = SlotTable(2)
    table.handle(Arrive("q0", SYSTEM + b"0"))
    table.handle(Arrive("q1", SYSTEM + b"1"))
    table.handle(PrefillDone("q0"))
    assert table.handle(Copied(1, ok=False)) == [Run("q1", 1), Run("q0", 0)]


def test_who_comes_during_the_copying_gets_a_copy_too() -> None:
    table = SlotTable(3)
    table.handle(Arrive("q0", SYSTEM + b"0"))
    table.handle(Arrive("q1", SYSTEM + b"1"))
    table.handle(PrefillDone("q0"))
    assert table.handle(Arrive("q2", SYSTEM + b"2")) == [Copy(0, (2,))]
    assert table.handle(Copied(1)) == [Run("q1", 1)]
    assert table.handle(Copied(2)) == [Run("q2", 2), Run("q0", 0)]


def test_a_slot_that_is_being_written_or_read_is_not_given_away() -> None:
    table = SlotTable(2)
    table.handle(Arrive("q0", SYSTEM + b"0"))
    table.handle(Arrive("q1", SYSTEM + b"1"))
    table.handle(PrefillDone("q0"))
    table.handle(Leave("q0"))
    table.handle(Leave("q1"))
    assert table.handle(Arrive("q2", b"short")) == []
    assert table.phases() == {"q2": Phase.QUEUED}
    assert table.handle(Copied(1)) == [Run("q2", 0)]


def test_a_prompt_that_was_not_computed_is_not_remembered() -> None:
    table = SlotTable(2)
    table.handle(Arrive("q0", SYSTEM))
    table.handle(Leave("q0", computed=False))
    assert table.handle(Arrive("q1", SYSTEM)) == [Prefill("q1", 1)], "slot 0 is not thought to have it"


def test_a_request_id_in_use_is_not_taken_twice() -> None:
    table = SlotTable(2)
    table.handle(Arrive("q0", b""))
    with pytest.raises(ValueError, match="q0"):
        table.handle(Arrive("q0", b""))


@pytest.mark.parametrize("seed", range(200))
def test_common_prefix_is_what_a_loop_would_find(seed: int) -> None:
    random = Random(seed)
    one = random.randbytes(random.randint(0, 3000))
    other = one[: random.randint(0, len(one))] + random.randbytes(random.randint(0, 30))
    slow = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    assert common_prefix(one, other) == slow


class Broken(AssertionError):
    """A rule of the slots was broken."""


class World:
    """A runner with slots, and requests that come and go; it keeps its own books."""

    def __init__(self, seed: int, build: Callable[[int], SlotTable]) -> None:
        self.random = Random(seed)
        self.parallel = self.random.choice((1, 4, 8))
        self.table = build(self.parallel)
        self.prompts: dict[str, bytes] = {}
        self.slots: dict[str, int] = {}
        self.prefilling: set[str] = set()
        self.running: set[str] = set()
        self.copies: dict[int, int] = {}
        self.seen: Counter[str] = Counter()
        self.number = 0

    def live(self, steps: int) -> Counter[str]:
        for _ in range(steps):
            self.step(leaving=False)
        while self.prompts or self.copies:
            before = len(self.prompts) + len(self.copies) + len(self.prefilling)
            self.step(leaving=True)
            if before == len(self.prompts) + len(self.copies) and not (self.prefilling or self.running or self.copies):
                raise Broken(f"{sorted(self.prompts)} are held for ever")
        return self.seen

    def step(self, *, leaving: bool) -> None:
        """One thing happens, among those that can."""
        acts: list[Callable[[], None]] = []
        if not leaving and len(self.prompts) < self.parallel + 2:
            acts += [self.arrive] * 4
        if self.prefilling:
            acts += [self.prefilled]
        if self.copies:
            acts += [self.copied] * 2
        if self.running:
            acts += [lambda: self.leave(self.pick(self.running), computed=True)]
        if self.prompts and not leaving:
            acts += [lambda: self.leave(self.pick(set(self.prompts)), computed=False)]
        if acts:
            self.random.choice(acts)()

    def pick(self, ids: set[str]) -> str:
        return self.random.choice(sorted(ids))

    def tell(self, event: SlotEvent) -> None:
        self.seen[type(event).__name__] += 1
        for decision in self.table.handle(event):
            self.seen[type(decision).__name__] += 1
            self.carry_out(decision)
        busy = Counter(self.slots[request_id] for request_id in self.running | self.prefilling)
        self.require(all(count == 1 for count in busy.values()), f"a slot computes for two: {busy}")
        self.require(not busy.keys() & (self.copies.keys() | set(self.copies.values())), "copied while it computes")
        held = [request for request, phase in self.table.phases().items() if phase is Phase.HELD]
        self.require(not held or bool(self.prefilling), f"{held} are held for nobody")
        at_work = len(busy.keys() | self.copies.keys() | set(self.copies.values())) + len(held)
        queued = [request for request, phase in self.table.phases().items() if phase is Phase.QUEUED]
        self.require(not queued or at_work >= self.parallel, f"{queued} wait beside a free slot")

    def carry_out(self, decision: SlotDecision) -> None:
        if isinstance(decision, Copy):
            self.require(decision.source not in self.copies, "copies a copy that is not there yet")
            for target in decision.targets:
                self.require(target != decision.source and target not in self.copies, f"{target} is written twice")
                self.copies[target] = decision.source
            return
        self.require(decision.request_id in self.prompts, f"{decision.request_id} is gone")
        self.require(decision.request_id not in self.running, f"{decision.request_id} runs twice")
        self.require(0 <= decision.slot < self.parallel, f"no slot {decision.slot}")
        kept = self.slots.setdefault(decision.request_id, decision.slot)
        self.require(kept == decision.slot, f"{decision.request_id} changed its slot")
        (self.running if isinstance(decision, Run) else self.prefilling).add(decision.request_id)

    def arrive(self) -> None:
        self.number += 1
        request_id = f"q{self.number}"
        letter = self.random.choice((b"a", b"b", b"c"))
        length = self.random.choice((100, 3 * LONG, 3 * LONG, 9 * LONG))
        version = b"%d" % (self.number // 40)  # from time to time everybody comes with a prefix that is new
        tail = self.random.randbytes(self.random.choice((0, 40, 2 * LONG)))
        self.prompts[request_id] = version + letter * length + tail
        self.tell(Arrive(request_id, self.prompts[request_id]))

    def prefilled(self) -> None:
        request_id = self.pick(self.prefilling)
        self.prefilling.discard(request_id)
        self.tell(PrefillDone(request_id))

    def copied(self) -> None:
        target = self.random.choice(sorted(self.copies))
        del self.copies[target]
        self.tell(Copied(target, ok=self.random.random() < 0.8))

    def leave(self, request_id: str, *, computed: bool) -> None:
        del self.prompts[request_id]
        self.slots.pop(request_id, None)
        self.running.discard(request_id)
        self.prefilling.discard(request_id)
        self.tell(Leave(request_id, computed))

    @staticmethod
    def require(holds: bool, otherwise: str) -> None:
        if not holds:
            raise Broken(otherwise)


def live_all(worlds: int, build: Callable[[int], SlotTable]) -> Counter[str]:
    return sum((World(seed, build).live(500) for seed in range(worlds)), Counter())


def test_whoever_is_held_is_released_and_no_slot_is_given_twice() -> None:
    seen = live_all(100, SlotTable)
    assert all(seen[word] > 500 for word in ("Arrive", "PrefillDone", "Copied", "Leave", "Prefill", "Copy", "Run")), (
        seen
    )


class ForgetsFollowers(SlotTable):
    def _leave(self, event: Leave) -> None:
        request = self._requests.get(event.request_id)
        if request is not None and request.phase is Phase.LEADING:
            request.phase = Phase.HELD
        super()._leave(event)


class GivesCopyingSlotsAway(SlotTable):
    def _copying(self, slot: object) -> bool:
        return False


class RunsWhileCopying(SlotTable):
    def _prefill_done(self, event: PrefillDone) -> None:
        super()._prefill_done(event)
        leader = self._requests.get(event.request_id)
        if leader is not None and leader.phase is Phase.SHARING:
            self._run(leader)


class ForgetsTheQueue(SlotTable):
    def _place_queued(self) -> None:
        pass


class ForgetsTheLeader(SlotTable):
    """The leader does not run when its copies are done."""

    def _copied(self, event: Copied) -> None:
        source = self._copies.get(event.slot)
        holder = None if source is None else self._slots[source].holder
        super()._copied(event)
        self._decisions[:] = [
            decision
            for decision in self._decisions
            if not (isinstance(decision, Run) and decision.request_id == holder)
        ]


class KeepsTheDeparted(SlotTable):
    def _leave(self, event: Leave) -> None:
        if event.computed:
            super()._leave(event)


@pytest.mark.parametrize(
    "defect",
    [ForgetsFollowers, GivesCopyingSlotsAway, RunsWhileCopying, ForgetsTheQueue, ForgetsTheLeader, KeepsTheDeparted],
)
def test_the_world_notices(defect: type[SlotTable]) -> None:
    with pytest.raises((Broken, KeyError)):
        live_all(40, defect)
