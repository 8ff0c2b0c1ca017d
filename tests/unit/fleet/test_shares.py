"""Whose the places at a server are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmodels.fleet.shares import parts

WANTED = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 40), min_size=1)


@pytest.mark.parametrize(
    ("most", "wanted", "given"),
    [
        (4, {"a": 0}, {"a": 4}),
        (4, {"a": 0, "b": 0}, {"a": 2, "b": 2}),
        (4, {"a": 9, "b": 0}, {"a": 4, "b": 0}),
        (4, {"a": 9, "b": 1}, {"a": 3, "b": 1}),
        (4, {"a": 9, "b": 9}, {"a": 2, "b": 2}),
        (9, {"a": 1, "b": 3}, {"a": 4, "b": 5}),
        (9, {"a": 2, "b": 9, "c": 9}, {"a": 2, "b": 4, "c": 3}),
        (4, {"a": -3, "b": 9}, {"a": 0, "b": 4}),
        (0, {"a": 3}, {"a": 0}),
        (4, {}, {}),
    ],
)
def test_the_parts(most: int, wanted: dict[str, int], given: dict[str, int]) -> None:
    assert parts(most, wanted) == given


@given(st.integers(0, 50), WANTED, st.integers(0, 100))
def test_they_come_to_all_that_there_is(most: int, wanted: dict[str, int], turn: int) -> None:
    given = parts(most, wanted, turn)
    assert given.keys() == wanted.keys()
    assert sum(given.values()) == most
    assert min(given.values()) >= 0
    assert given == parts(most, dict(reversed(wanted.items())), turn), "everybody makes the same"
    short = [name for name in wanted if given[name] < wanted[name]]
    for name in short:  # nobody who is short has less than another one, but for what cannot be parted
        assert given[name] >= max(given.values()) - 1


@given(st.integers(1, 5), st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 9), min_size=1))
def test_everybody_has_his_turn(most: int, wanted: dict[str, int]) -> None:
    for name in wanted:
        assert any(parts(most, wanted, turn)[name] for turn in range(len(wanted)))
