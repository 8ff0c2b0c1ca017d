"""Every beginning of some JSON is one, and what is none is noticed with its first wrong sign."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmodels.core.chat import Chunk, Done, Event, fold
from localmodels.core.errors import EngineError
from localmodels.flows.shapes import is_json_so_far, kept

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(value=JSON, wide=st.booleans())
def test_every_beginning_of_some_json_is_one(*, value: object, wide: bool) -> None:
    text = json.dumps(value, ensure_ascii=wide, indent=1 if wide else None)
    assert [end for end in range(len(text) + 1) if not is_json_so_far(text[:end])] == []


@pytest.mark.parametrize(
    "text", ["tpai", "Hello", "{name", '{"a" 1', '{"a": 1}}', "[1 2", "'a'", "nulls", '"a" "b"', "{}x", "tru e", "1 2"]
)
def test_what_is_no_json_is_noticed(text: str) -> None:
    assert not is_json_so_far(text)


def streamed(*texts: str) -> AsyncGenerator[list[Event], None]:
    async def stream() -> AsyncGenerator[list[Event], None]:
        for text in texts:
            yield [Chunk(text)]
        yield [Done("length")]

    return kept(stream())


def test_an_answer_that_is_none_ends_with_an_error() -> None:
    assert asyncio.run(fold(streamed('{"a"', ": [1, ", "2"))).text == '{"a": [1, 2'
    with pytest.raises(EngineError, match="could not keep"):
        asyncio.run(fold(streamed("Once", " upon")))
