"""Is a history of one name linearizable? Every operation must look as if it happened at one moment while it was asked.

The search is Wing and Gong's, with a memory of what was tried (Lowe): take an operation that may come first, see
whether its answer fits, go on, and take it back where that leads nowhere. A name holds a version, or nothing. A copy
writes a version that nobody tells: it is one of those that its source may have had, the same for all who read it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import inf
from typing import Literal

from msgspec import Struct

# What a name holds: a version, nothing (None), or what the copy of this number wrote, which is not known yet.
Copied = tuple[Literal["copy"], int]
Held = int | Copied | None

Kind = Literal["write", "copy", "remove", "read", "some"]


class Op(Struct, frozen=True):
    """One operation on one name, and what it was answered.

    Attributes:
        kind: ``write`` makes it ``value``; ``copy`` makes it a version out of ``among``; ``remove`` takes it away
            (``value`` None: there was none); ``read`` found ``value``, None for nothing; ``some`` found any version.
        began, ended: seconds; an operation that nobody knows the end of may have happened at any time since, or never.
        number: tells it from all others of the history.
    """

    kind: Kind
    began: float
    ended: float
    number: int = 0
    value: int | None = None
    among: frozenset[int] = frozenset()

    @property
    def only_looks(self) -> bool:
        """It changes nothing, whenever it happens."""
        return self.kind in {"read", "some"} or (self.kind == "remove" and self.value is None)

    @property
    def sure(self) -> bool:
        """It was answered, so it has happened."""
        return self.ended < inf


class _State(Struct, frozen=True):
    """What the name holds, and which version each copy turned out to be."""

    held: Held = None
    known: tuple[tuple[int, int], ...] = ()

    def version(self) -> int | Copied | None:
        """What it holds, as far as it is known."""
        if isinstance(self.held, tuple):
            return dict(self.known).get(self.held[1], self.held)
        return self.held


def linearizable(history: Iterable[Op], before: int | None = None) -> bool:
    """Can the operations on one name be put into an order in which every answer is right?

    Args:
        history: in any order.
        before: what the name holds at the beginning.
    """
    ops = sorted(history, key=lambda op: (op.began, op.ended))
    among = {op.number: op.among for op in ops if op.kind == "copy"}
    every = (1 << len(ops)) - 1
    unsure = sum(1 << place for place, op in enumerate(ops) if not op.sure)
    tried: set[tuple[int, _State]] = set()
    stack = [(0, _State(before))]
    while stack:
        done, state = stack.pop()
        if done | unsure == every:
            return True
        if (done, state) in tried:
            continue
        tried.add((done, state))
        stack += [(done | 1 << place, after) for place, after in _next(ops, done, state, among)]
    return False


def _next(ops: Sequence[Op], done: int, state: _State, among: Mapping[int, frozenset[int]]) -> list[tuple[int, _State]]:
    """Which operations may come next, and what follows from each; a read that changes nothing goes first, alone."""
    found = []
    first = ~done & (done + 1)  # the lowest bit that is not set: all before it have happened
    soonest = inf
    for place in range(first.bit_length() - 1, len(ops)):
        op = ops[place]
        if op.began > soonest:
            break
        if done >> place & 1:
            continue
        soonest = min(soonest, op.ended)
        after = _after(op, state, among)
        if after is not None:
            if after == state and op.only_looks:
                return [(place, after)]
            found.append((place, after))
    return [(place, after) for place, after in found if ops[place].began <= soonest]


def _after(op: Op, state: _State, among: Mapping[int, frozenset[int]]) -> _State | None:
    """What the name holds after the operation; None if it could not have been answered so."""
    held = state.version()
    match op.kind:
        case "write":
            return _State(op.value, state.known)
        case "copy":
            return _State(("copy", op.number), state.known)
        case "remove":
            return (
                (_State(None, state.known) if held is not None else None)
                if op.value is not None
                else _is(None, held, state)
            )
        case "some":
            return state if held is not None else None
        case "read":
            if isinstance(held, tuple) and op.value in among[held[1]]:
                assert op.value is not None
                return _State(state.held, tuple(sorted((*state.known, (held[1], op.value)))))
            return _is(op.value, held, state)


def _is(wanted: int | None, held: Held, state: _State) -> _State | None:
    return state if wanted == held else None


def versions(copy: Op, source: Sequence[Op], before: int | None = None) -> frozenset[int]:
    """The versions that a copy may have found at its source: written before its end, not surely gone at its beginning.

    Args:
        copy: of the history of another name.
        source: everything that was done to the source. Copies to it have their own ``among`` already.
        before: what the source held at the beginning.
    """
    changes = [op for op in source if op.kind in {"write", "copy", "remove"} and op.number != copy.number]
    found: set[int] = set()
    if before is not None and not _gone(-inf, copy, changes):
        found.add(before)
    for op in changes:
        if op.kind != "remove" and op.began <= copy.ended and not _gone(op.ended, copy, changes):
            found |= op.among if op.value is None else {op.value}
    return frozenset(found)


def _gone(written: float, copy: Op, changes: Iterable[Op]) -> bool:
    """Was what was written by then replaced or removed, surely, before the copy began?"""
    return any(
        op.began > written and op.ended < copy.began and (op.kind != "remove" or op.value is not None) for op in changes
    )
