"""The option table against hostile values (threats V-17 and V-35): in range and typed, or refused by name."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmodels.core.errors import InvalidValue
from localmodels.core.options import NO_OPTIONS, OPTIONS, Option, Options, check, parse_options

HOSTILE: tuple[Any, ...] = (
    -1, 0, 1, 0.5, -0.0, 2**31 - 1, 2**31, 2**32, 2**63, -(2**63), 1e308, -1e308, 5e-324, math.nan, math.inf, -math.inf,
    "", "1", "true", "\ud800", "x" * 257, "x" * 10**6, [], [1], [""], ["a"] * 17, ["x" * 257], ["é" * 200], [None],
    [[]], {}, {"1": 1}, {"-1": 1}, {"1": math.nan}, {"1": 10**5000}, {"²": 1}, {1: 1}, {True: 1}, {"9" * 5000: 1},
    {"a": 1}, {"1": True}, {"1": "1"}, {"1": 101}, {str(n): 1 for n in range(1025)}, True, False, 10**5000, -(10**5000),
    b"1", 1j, object(), (), ("a",), {1}, Ellipsis,
)  # fmt: skip


def edges(option: Option) -> tuple[Any, ...]:
    around = (option.low - 1, option.low, option.high, option.high + 1)
    return (*around, *(int(one) for one in around), *option.choices)


def in_range(option: Option, value: Any) -> bool:
    match option.kind:
        case "int":
            return type(value) is int and option.low <= value <= option.high
        case "float":
            return type(value) is float and option.low <= value <= option.high
        case "bool":
            return type(value) is bool
        case "choice":
            return value in option.choices
        case "strings":
            return (
                isinstance(value, tuple)
                and len(value) <= option.high
                and all(isinstance(one, str) and 0 < len(one.encode()) <= 256 for one in value)
            )
        case "bias":
            return len(value) <= option.high and all(
                type(token) is int and type(bias) is float and 0 <= token < 10**9 and -100 <= bias <= 100
                for token, bias in value
            )


CASES = [(option, value) for option in OPTIONS.values() for value in (*HOSTILE, *edges(option))]


def test_every_value_is_taken_in_range_or_refused_by_name() -> None:
    taken = 0
    for option, value in CASES:
        try:
            result = check(option, value, param=f"options.{option.name}")
        except InvalidValue as error:
            assert error.param == f"options.{option.name}", (option.name, value)  # noqa: PT017
            assert len(error.message) < 250  # noqa: PT017
            error.message.encode()
        else:
            taken += 1
            assert in_range(option, result), (option.name, value, result)
    assert taken > len(OPTIONS)  # the test must not pass by refusing everything


@pytest.mark.parametrize(
    "option", [row for row in OPTIONS.values() if row.kind in {"int", "float"}], ids=lambda row: row.name
)
def test_the_ends_of_a_range_are_in_it_and_their_neighbours_are_not(option: Option) -> None:
    for value in (option.low, option.high):
        assert check(option, value, param="p") == value
    for value in (option.low - 1, option.high + 1, math.nextafter(option.high, math.inf)):
        with pytest.raises(InvalidValue):
            check(option, value, param="p")


@given(st.sampled_from(list(OPTIONS.values())), st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=300),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=12), inner, max_size=5),
    max_leaves=10,
))  # fmt: skip
def test_any_json_value_is_taken_in_range_or_refused_by_name(option: Option, value: Any) -> None:
    try:
        options = parse_options({option.name: value}, prefix="o.")
    except InvalidValue as error:
        assert error.param == f"o.{option.name}"  # noqa: PT017
        error.message.encode()
    else:
        result = getattr(options, option.name)
        assert result is None if value is None else in_range(option, result)


def test_the_table_and_the_value_have_the_same_names() -> None:
    assert set(OPTIONS) == set(Options.__struct_fields__) - {"ignored"}


def test_unknown_names_are_told_and_do_nothing() -> None:
    options = parse_options({"temprature": 0.1, "top_k": 3})
    assert options == Options(top_k=3, ignored=("temprature",))


def test_no_more_than_sixteen_unknown_names_are_told_and_each_is_short() -> None:
    options = parse_options({f"{n}" + "x" * 1000: 1 for n in range(100)})
    assert len(options.ignored) == 16
    assert all(len(name) <= 60 for name in options.ignored)


def test_none_is_not_given() -> None:
    assert parse_options({"seed": None}) == NO_OPTIONS


def test_whole_floats_are_whole_numbers() -> None:
    assert parse_options({"seed": 3.0}).seed == 3


def test_one_stop_text_is_a_list_of_one_and_empty_ones_stop_nothing() -> None:
    assert parse_options({"stop": "a"}).stop == ("a",)
    assert parse_options({"stop": ["", "a", ""]}).stop == ("a",)


def test_what_is_asked_goes_over_the_defaults() -> None:
    asked = Options(temperature=0.0, ignored=("'x'",))
    merged = asked.over(Options(temperature=1.0, top_k=5, ignored=("'y'",)))
    assert merged == Options(temperature=0.0, top_k=5, ignored=("'x'",))
