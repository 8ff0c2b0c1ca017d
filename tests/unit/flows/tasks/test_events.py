"""What is kept of what a task says, and what a watcher gets of it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmodels.core.errors import Garbled
from localmodels.core.tasks import Event, Step
from localmodels.flows.tasks.events import ALMOST, MOST_ACTIONS, SECOND, Telling


class Time:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


def test_what_changes_the_story_is_kept_and_ticks_are_not() -> None:
    telling = Telling(Time())
    steps = [
        (Step("Copy.", 0.1), True), (Step("Copy.", 0.2), False), (Step("Copy.", 0.3, whole="copied"), True),
        (Step("Copy.", 0.4), False), (Step("Read.", 0.5), True), (Step("Read.", 0.6), False),
    ]  # fmt: skip
    for step, kept in steps:
        assert telling.tell(step) is kept
    assert [event.number for event in telling.kept] == [0, 2, 4]
    assert [event.number for event in telling.after(-1)] == [0, 2, 4, 5]
    assert [event.number for event in telling.after(2)] == [4, 5]
    assert [event.number for event in telling.after(4)] == [5]
    assert telling.after(5) == []
    telling.end("Done.", {})
    assert [(event.number, event.ratio) for event in telling.after(5)] == [(6, 1.0)]


def test_a_tick_is_kept_once_a_second_and_later_less_often() -> None:
    time = Time()
    telling = Telling(time)
    for _ in range(10 * 3600 * 16):  # ten hours, sixteen a second
        telling.tell(Step("Copy.", 0.5))
        time.now += SECOND // 16
    assert 400 < len(telling.kept) < 500
    assert [event.number for event in telling.kept[:4]] == [0, 16, 32, 48]


def test_a_clock_that_is_set_back_keeps_ticks_all_the_same() -> None:
    time = Time()
    time.now = 10**18
    telling = Telling(time)
    telling.tell(Step("Copy.", 0.5))
    time.now -= 3600 * SECOND
    assert telling.tell(Step("Copy.", 0.5))


def test_actions_without_end_are_not_all_kept() -> None:
    telling = Telling(Time())
    for number in range(MOST_ACTIONS + 100):
        telling.tell(Step(f"Tensor {number}.", 0.5))
    assert len(telling.kept) == MOST_ACTIONS
    assert telling.tell(Step("Tensor.", 0.5, whole="tensors"))


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1))
def test_a_ratio_never_falls_and_is_one_at_the_end_alone(ratios: list[float]) -> None:
    telling = Telling(Time())
    seen: list[Event] = []
    for ratio in ratios:
        telling.tell(Step("Copy.", ratio))
        seen += telling.after(seen[-1].number if seen else -1)
    assert all(0 <= event.ratio <= ALMOST for event in seen)
    assert all(before.ratio <= after.ratio for before, after in pairwise(seen))
    telling.end("Done.", {})
    assert telling.kept[-1].ratio == 1


def test_what_json_cannot_carry_is_refused_before_it_is_kept() -> None:
    telling = Telling(Time())
    with pytest.raises(Garbled):
        telling.tell(Step("Copy.", 0.5, {"name": "\udcff"}))
    with pytest.raises(TypeError):
        telling.tell(Step("Copy.", 0.5, {"name": object()}))
    assert telling.kept == []
    assert telling.tell(Step("Copy.", 0.5))
    assert telling.kept[0].number == 0
