"""The checker of histories: what is right passes, and each known way to be wrong is caught."""

from __future__ import annotations

import random
from collections.abc import Mapping
from math import inf

import pytest
from tests.histories.linear import Op, linearizable, versions


def write(value: int, began: float, ended: float, number: int = 0) -> Op:
    return Op("write", began, ended, number, value)


def copy(among: set[int], began: float, ended: float, number: int = 0) -> Op:
    return Op("copy", began, ended, number, among=frozenset(among))


def remove(began: float, ended: float, *, was_there: bool = True) -> Op:
    return Op("remove", began, ended, value=1 if was_there else None)


def read(value: int | None, began: float, ended: float) -> Op:
    return Op("read", began, ended, value=value)


def some(began: float, ended: float) -> Op:
    return Op("some", began, ended)


RIGHT: Mapping[str, list[Op]] = {
    "nothing": [],
    "in turn": [write(1, 0, 1), read(1, 2, 3), write(2, 4, 5), read(2, 6, 7), remove(8, 9), read(None, 10, 11)],
    "while it is written": [write(1, 0, 1), write(2, 2, 9), read(1, 3, 4), read(2, 5, 6), read(2, 7, 8)],
    "two writers, one after the other": [write(1, 0, 5), write(2, 1, 6), read(2, 2, 3), read(1, 4, 7)],
    "written again, later": [write(1, 0, 1), write(1, 2, 9), write(2, 3, 4), read(2, 5, 6), read(1, 10, 11)],
    "a removal beside a write": [write(1, 0, 1), remove(2, 5), write(2, 3, 6), read(2, 7, 8)],
    "removed before it came": [remove(0, 3, was_there=False), write(1, 1, 2)],
    "one of two removals": [write(1, 0, 1), remove(2, 5), remove(3, 4, was_there=False)],
    "some of two": [write(1, 0, 5), some(3, 4)],
    "never answered, happened": [write(1, 0, inf), read(None, 1, 2), read(1, 3, 4)],
    "never answered, never happened": [write(1, 0, 1), Op("remove", 2, inf, value=1), read(1, 3, 9)],
    "a copy is what it is": [copy({1, 2}, 0, 1), read(2, 2, 3), read(2, 4, 5)],
    "two copies": [copy({1, 2}, 0, 1, 1), read(2, 2, 3), copy({1, 2}, 4, 5, 2), read(1, 6, 7)],
    "a copy that nobody read": [copy({1}, 0, 1), some(2, 3), write(2, 4, 5), read(2, 6, 7)],
}
WRONG: Mapping[str, list[Op]] = {
    "stale": [write(1, 0, 1), write(2, 2, 3), read(1, 4, 5)],
    "lost": [write(1, 0, 1), read(None, 2, 3)],
    "back from the dead": [write(1, 0, 1), remove(2, 3), read(1, 4, 5)],
    "from nowhere": [read(7, 0, 1)],
    "some from nowhere": [some(0, 1)],
    "seen, then not": [write(1, 0, 1), write(2, 2, 9), read(2, 3, 4), read(1, 5, 6)],
    "removed twice": [write(1, 0, 1), remove(2, 3), remove(4, 5)],
    "not there though it is": [write(1, 0, 1), remove(2, 3, was_there=False)],
    "too early": [read(1, 0, 1), write(1, 2, 3)],
    "two readers, two orders": [
        write(1, 0, 1), write(2, 0, 1), read(1, 2, 3), read(2, 4, 5), read(1, 6, 7),
    ],
    "a copy of what was not there": [copy({1, 2}, 0, 1), read(3, 2, 3)],
    "a copy that changes": [copy({1, 2}, 0, 1), read(2, 2, 3), read(1, 4, 5)],
    "never answered, undone": [write(1, 0, inf), read(1, 1, 2), read(None, 3, 4)],
}  # fmt: skip


@pytest.mark.parametrize("case", RIGHT)
def test_what_is_right_passes(case: str) -> None:
    assert linearizable(RIGHT[case])
    assert linearizable(reversed(RIGHT[case]))


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_caught(case: str) -> None:
    assert not linearizable(WRONG[case])
    assert not linearizable(reversed(WRONG[case]))


def test_what_is_there_from_the_beginning() -> None:
    assert linearizable([read(5, 0, 1), remove(2, 3)], before=5)
    assert not linearizable([read(None, 0, 1)], before=5)


def lived(seed: int, steps: int) -> list[Op]:
    """The history of a name that is one, seen by eight who wait a while before and after each moment."""
    chance, held, now = random.Random(seed), None, 0.0
    free = [0.0] * 8
    history = []
    for number in range(steps):
        now += chance.random()
        who = min(range(8), key=lambda one: free[one])
        moment = max(now, free[who])
        began, ended = moment - chance.random() * (moment - free[who]), moment + chance.random() * 8
        kind = chance.choice(("write", "copy", "remove", "read", "read", "some"))
        if kind in {"write", "copy"}:
            held = number
            among = frozenset({number, *(chance.randrange(steps) for _ in range(3))}) if kind == "copy" else frozenset()
            history.append(Op(kind, began, ended, number, held if kind == "write" else None, among))  # type: ignore[arg-type]
        elif kind == "remove":
            history.append(Op("remove", began, ended, number, held and 1))
            held = None
        elif kind == "some" and held is not None:
            history.append(Op("some", began, ended, number))
        else:
            history.append(Op("read", began, ended, number, held))
        free[who], now = ended, moment
    return history


@pytest.mark.parametrize("seed", range(30))
def test_every_life_of_a_name_passes(seed: int) -> None:
    assert linearizable(lived(seed, 300))


def test_one_wrong_answer_among_many_is_caught() -> None:
    caught = tries = 0
    for seed in range(40):
        history = lived(seed, 200)
        reads = [place for place, op in enumerate(history) if op.kind == "read" and op.value is not None and place > 20]
        place = reads[len(reads) // 2]
        copied = frozenset().union(*(op.among for op in history))
        old = next(op.value for op in history if op.kind == "write" and op.value not in copied)
        history[place] = Op("read", history[place].began, history[place].ended, history[place].number, old)
        tries += 1
        caught += not linearizable(history)
    assert (caught, tries) == (40, 40)


def test_what_a_copy_may_have_found() -> None:
    source = [write(1, 0, 1), write(2, 2, 3), write(3, 6, 9), remove(10, 11), write(4, 12, 13)]
    assert versions(copy(set(), 4, 5, -1), source) == {2}
    assert versions(copy(set(), 4, 7, -1), source) == {2, 3}
    assert versions(copy(set(), 2.5, 7, -1), source) == {1, 2, 3}
    assert versions(copy(set(), 14, 15, -1), source) == {4}
    assert versions(copy(set(), 0.5, 0.6, -1), source, before=9) == {1, 9}
    assert versions(copy(set(), 4, 5, -1), source, before=9) == {2}
    assert versions(copy(set(), 4, 5, 7), [copy({8}, 0, 1, 6), copy({9}, 0, 5, 7)]) == {8}
