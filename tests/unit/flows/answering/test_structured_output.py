"""Every beginning of some JSON is one, and what is none is noticed with its first wrong sign."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmodels.core.chat import Chunk, Done, Event, fold
from localmodels.core.errors import EngineError
from localmodels.flows.answering.structured_output import JsonText, kept

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def is_json_so_far(*pieces: str) -> bool:
    text = JsonText()
    sound = [text.feed(piece) for piece in pieces]
    return all(sound)


def is_whole(text: str) -> bool:
    reader = JsonText()
    return reader.feed(text) and reader.whole


def parses(text: str) -> bool:
    def refuse(name: str) -> None:
        raise ValueError(name)  # NaN and Infinity, which Python takes

    try:
        json.loads(text, parse_constant=refuse)
    except ValueError:
        return False
    return True


@given(value=JSON, wide=st.booleans(), indent=st.sampled_from([None, 0, 2]))
def test_every_beginning_of_some_json_is_one(*, value: object, wide: bool, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=wide, indent=indent)
    assert is_json_so_far(*text)
    assert [end for end in range(len(text) + 1) if is_whole(text[:end]) != parses(text[:end])] == []


@given(st.text(alphabet='{}[],:"\\u0a1e+-. \ntrue', max_size=12))
def test_whole_is_what_a_parser_takes(text: str) -> None:
    assert is_whole(text) == parses(text)


@given(value=JSON, at=st.integers(0, 40), sign=st.sampled_from('{}[],:"\\x0.e-'))
def test_what_goes_wrong_stays_wrong_and_what_is_wrong_never_parses(value: object, at: int, sign: str) -> None:
    text = json.dumps(value)
    spoiled = text[:at] + sign + text[at:]
    if not is_json_so_far(spoiled):
        assert not parses(spoiled)
        assert not is_json_so_far(spoiled, "}")
    else:
        assert is_whole(spoiled) == parses(spoiled)


NO_JSON = """tpai|Hello|{name|{"a" 1|{"a": 1}}|[1 2|'a'|nulls|"a" "b"|{}x|tru e|1 2"""
MORE = """01|1.e|-a|[,|{,|[1,]|{"a":1,}|"\\x"|"\\u00g|]|:"""


@pytest.mark.parametrize("text", [*NO_JSON.split("|"), *MORE.split("|"), '"\n"'])
def test_what_is_no_json_is_noticed(text: str) -> None:
    assert not is_json_so_far(text)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 50_000, "9" * 100_000, '"' + "a" * 100_000])
def test_no_depth_and_no_length_is_too_much(text: str) -> None:
    assert is_json_so_far(*text)


class Counted(str):
    """A text that counts how often one of its signs was looked at."""

    looks = 0

    def __getitem__(self, key: object) -> str:
        Counted.looks += 1
        return super().__getitem__(key)  # type: ignore[index]


def test_each_sign_is_looked_at_once_or_twice_however_long_the_answer() -> None:
    Counted.looks = 0
    pieces = [Counted('{"a": [1, 2.5, true], '), *[Counted('"b": "c", ')] * 1000]
    assert is_json_so_far(*pieces)
    assert Counted.looks <= 2 * sum(map(len, pieces))


def streamed(*texts: str, reason: Literal["stop", "length"] = "length") -> AsyncGenerator[list[Event], None]:
    async def stream() -> AsyncGenerator[list[Event], None]:
        for text in texts:
            yield [Chunk(text)]
        yield [Done(reason)]

    return kept(stream())


def test_an_answer_that_is_none_ends_with_an_error() -> None:
    assert asyncio.run(fold(streamed('{"a"', ": [1, ", "2"))).text == '{"a": [1, 2'
    with pytest.raises(EngineError, match="could not keep"):
        asyncio.run(fold(streamed("Once", " upon")))


@pytest.mark.parametrize("text", ["", '{"a":', "[1", "tru", "-", '"a'])
def test_half_of_it_is_no_answer_unless_it_was_cut_off(text: str) -> None:
    assert asyncio.run(fold(streamed(text))).text == text
    with pytest.raises(EngineError, match="could not keep"):
        asyncio.run(fold(streamed(text, reason="stop")))
    assert asyncio.run(fold(streamed('{"a"', ": 1}", " ", reason="stop"))).text == '{"a": 1} '
