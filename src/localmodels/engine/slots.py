"""Which slot of a runner answers a request, and who waits a moment so that a common prefix is computed once.

The rule: a slot is written by one at a time. Requests that arrive together with the same long new prefix would each
compute it, because a runner finds a prefix only in the slot that it computes in. So the first of them, the leader, is
prefilled alone; the followers are held, get a copy of its slot, and then all of them run, each in a slot of its own
(``docs/why.md`` has the figures). A copy is taken only from a slot that does not compute: a runner lets a save wait
until the slot is done.

**What is compared.** Prompts, as bytes: the rendered prompt, or any bytes from which it follows in order (tools first,
then the messages, an image by its digest), so that a common beginning of the bytes is a common beginning of the tokens.
Tokens would be exact and cost a round trip to the runner; a wrong guess here costs time and never an answer, for the
runner compares tokens itself before it reuses a cache. Four bytes are taken for a token.

**Who is held.** A request to which a leader under way will bring at least ``long`` bytes that its own slot does not
have yet; if this prefix is at least a quarter of its prompt (else the gain is small beside its own work) and at least
half of the leader's (else it would wait for work that is not its own). All others go on at once.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

from msgspec import Struct

# 256 tokens: about the prefill of half a second to a second on two cores (engine.md: 96 to 231 tokens a second for
# 0.6 B parameters); saving and restoring a slot costs 0.03 s.
LONG = 256 * 4


class Arrive(Struct, frozen=True):
    """A request was admitted to the runner. ``prompt`` is described on top of this file."""

    request_id: str
    prompt: bytes


class PrefillDone(Struct, frozen=True):
    """The prompt of this leader is in the cache of its slot."""

    request_id: str


class Copied(Struct, frozen=True):
    """A copy into ``slot`` ended; ``ok`` says whether the slot has it. If not, the follower computes for itself."""

    slot: int
    ok: bool = True


class Leave(Struct, frozen=True):
    """The request ended or was cancelled, in whatever phase.

    Attributes:
        computed: was its whole prompt computed? False when it left before its first token.
    """

    request_id: str
    computed: bool = True


SlotEvent = Arrive | PrefillDone | Copied | Leave


class Prefill(Struct, frozen=True):
    """Compute the prompt in this slot and generate nothing; report PrefillDone, or Leave if it fails."""

    request_id: str
    slot: int


class Copy(Struct, frozen=True):
    """Save ``source`` once and restore it into every target; report Copied for each, whatever happens."""

    source: int
    targets: tuple[int, ...]


class Run(Struct, frozen=True):
    """Answer the request in this slot; report Leave."""

    request_id: str
    slot: int


SlotDecision = Prefill | Copy | Run


class Phase(Enum):
    """Where a request is."""

    QUEUED = "queued"  # no slot is free
    HELD = "held"  # has a slot, waits for its leader's prefill
    LEADING = "leading"  # is being prefilled alone
    SHARING = "sharing"  # prefilled, and its slot is being copied
    RECEIVING = "receiving"  # its slot is being filled with a copy
    RUNNING = "running"


class _Slot(Struct):
    """``cached``: prompt whose cache it holds. ``used``: number of the event that last used it, 0 for never."""

    number: int
    cached: bytes = b""
    used: int = 0
    holder: str | None = None


class _Request(Struct):
    """``leader``: request that it is held for."""

    id: str
    prompt: bytes
    phase: Phase = Phase.QUEUED
    slot: int = -1
    leader: str | None = None


class SlotTable:
    """The slots of one runner, from its start to its end: events in, decisions out, no clock and no I/O.

    Args:
        parallel: how many slots the runner has.
        long: bytes of prompt that are worth a round trip of their own.
    """

    def __init__(self, parallel: int, long: int = LONG) -> None:
        self._long = long
        self._slots = [_Slot(number) for number in range(parallel)]
        self._requests: dict[str, _Request] = {}
        self._copies: dict[int, int] = {}  # target → source, while the copy is under way
        self._events = 0
        self._decisions: list[SlotDecision] = []
        self._on: dict[type[Any], Callable[[Any], None]] = {
            Arrive: self._arrive,
            PrefillDone: self._prefill_done,
            Copied: self._copied,
            Leave: self._leave,
        }

    def handle(self, event: SlotEvent) -> list[SlotDecision]:
        """Takes note of what happened and says what to do about it, in this order.

        Raises:
            ValueError: an Arrive whose request id is still in use.
        """
        self._events += 1
        self._decisions = []
        self._on[type(event)](event)
        return self._decisions

    def phases(self) -> dict[str, Phase]:
        """Where every request is, for tests and for people."""
        return {request.id: request.phase for request in self._requests.values()}

    def _arrive(self, event: Arrive) -> None:
        if event.request_id in self._requests:
            raise ValueError(f"request {event.request_id!r} is already here")
        request = self._requests[event.request_id] = _Request(event.request_id, event.prompt)
        if (slot := self._best_slot(request.prompt)) is not None:
            self._place(request, slot)

    def _prefill_done(self, event: PrefillDone) -> None:
        leader = self._requests.get(event.request_id)
        if leader is None or leader.phase is not Phase.LEADING:
            return
        self._slots[leader.slot].cached = leader.prompt
        followers = self._followers(leader)
        if followers:
            leader.phase = Phase.SHARING
            self._copy(leader, followers)
        else:
            self._run(leader)

    def _copied(self, event: Copied) -> None:
        source = self._copies.pop(event.slot, None)
        if source is None:
            return
        slot = self._slots[event.slot]
        slot.cached = self._slots[source].cached if event.ok else b""
        if slot.holder is not None:
            self._run(self._requests[slot.holder])
        leader = self._slots[source].holder
        if leader is not None and source not in self._copies.values():
            self._run(self._requests[leader])
        self._place_queued()

    def _leave(self, event: Leave) -> None:
        request = self._requests.pop(event.request_id, None)
        if request is None:
            return
        if request.phase is not Phase.QUEUED:
            slot = self._slots[request.slot]
            slot.holder, slot.used = None, self._events
            if request.phase is Phase.RUNNING:
                slot.cached = request.prompt if event.computed else b""
            elif request.phase is Phase.LEADING:
                slot.cached = b""
                for follower in self._followers(request):
                    self._begin(follower)
        self._place_queued()

    def _place_queued(self) -> None:
        """Requests beyond the number of slots; the scheduler sends none, but a slot may be busy with a copy."""
        for request in [request for request in self._requests.values() if request.phase is Phase.QUEUED]:
            slot = self._best_slot(request.prompt)
            if slot is None:
                return
            self._place(request, slot)

    def _place(self, request: _Request, slot: _Slot) -> None:
        slot.holder, slot.used = request.id, self._events
        request.slot = slot.number
        self._begin(request)

    def _begin(self, request: _Request) -> None:
        """It has a slot: run, lead, or follow."""
        known = common_prefix(request.prompt, self._slots[request.slot].cached)
        if len(request.prompt) - known < self._long or len(self._slots) == 1:
            self._run(request)
            return
        leader = self._leader(request, known)
        if leader is None:
            request.phase, request.leader = Phase.LEADING, None
            self._decisions.append(Prefill(request.id, request.slot))
        elif leader.phase is Phase.LEADING:
            request.phase, request.leader = Phase.HELD, leader.id
        else:
            self._copy(leader, [request])

    def _run(self, request: _Request) -> None:
        request.phase, request.leader = Phase.RUNNING, None
        self._decisions.append(Run(request.id, request.slot))

    def _copy(self, leader: _Request, followers: list[_Request]) -> None:
        for follower in followers:
            follower.phase, follower.leader = Phase.RECEIVING, None
            self._copies[follower.slot] = leader.slot
        self._decisions.append(Copy(leader.slot, tuple(follower.slot for follower in followers)))

    def _best_slot(self, prompt: bytes) -> _Slot | None:
        """The free slot that has most of this prompt; if none has a quarter of it, the one whose loss hurts least."""
        free = [slot for slot in self._slots if slot.holder is None and not self._copying(slot)]
        if not free:
            return None
        shared = {slot.number: common_prefix(prompt, slot.cached) for slot in free}
        best = max(free, key=lambda slot: (shared[slot.number], -slot.used))
        if shared[best.number] >= min(self._long, len(prompt) / 4):
            return best
        return min(free, key=lambda slot: (bool(slot.cached), slot.used))

    def _copying(self, slot: _Slot) -> bool:
        return slot.number in self._copies or slot.number in self._copies.values()

    def _leader(self, request: _Request, known: int) -> _Request | None:
        """The one under way that will have most of this prompt, if that is worth waiting for."""
        best, most = None, 0
        for other in self._requests.values():
            if other.phase is Phase.LEADING or other.phase is Phase.SHARING:
                shared = common_prefix(request.prompt, other.prompt)
                worth = (
                    shared - known >= self._long
                    and shared * 4 >= len(request.prompt)
                    and shared * 2 >= len(other.prompt)
                )
                if worth and shared > most:
                    best, most = other, shared
        return best

    def _followers(self, leader: _Request) -> list[_Request]:
        return [request for request in self._requests.values() if request.leader == leader.id]


def common_prefix(one: bytes, other: bytes) -> int:
    """Bytes that both begin with. Halving, with the comparison in C: 2 µs for 4 KiB, 20 µs for 100 KiB."""
    same, end = 0, min(len(one), len(other))
    if one[:end] == other[:end]:
        return end
    while end - same > 1:
        middle = (same + end) // 2
        if one[same:middle] == other[same:middle]:
            same = middle
        else:
            end = middle
    return same
