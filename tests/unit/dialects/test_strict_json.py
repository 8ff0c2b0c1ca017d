"""What may come in: one reading of every body, and objections in the caller's own terms."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct
from tests.unit.dialects import strategies as some

from localmodels.core.errors import InvalidRequest, InvalidValue
from localmodels.dialects.strict_json import MAX_DEPTH, MAX_QUOTES, SLICE, USUAL, check, parsed, read


class _Inner(Struct):
    size: int


class _Body(Struct):
    name: str = ""
    inner: list[_Inner] | None = None
    either: str | list[str] | None = None
    extra: Any = None


DECODER = msgspec.json.Decoder(_Body)


@given(some.json_values)
def test_whatever_json_can_say_passes(value: Any) -> None:
    for body in (json.dumps(value), json.dumps(value, indent=1), json.dumps(value, ensure_ascii=False)):
        check(body.encode())


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":1,"a":2}',
        b'{"a":1 , "b":{}, "a" : 2}',
        b'{"a":1,"\\u0061":2}',
        b'{"\\"":1,"\\u0022":2}',
        b'{"\\\\":1,"\\\\":2}',
        b'[{"x":{"a":[{"b":1}],"c":{},"a":null}}]',
        '{"ж":1,"\\u0436":2}'.encode(),
    ],
)
def test_a_key_twice_in_one_object_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="appears twice"):
        check(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":{"a":{"a":1}},"b":[{"a":1},{"a":2}]}',
        b'{"a":"a","b":"a","c":["a","a"]}',
        b'{"a\\"":1,"a\\\\":2,"a__":3}',
        b'{"a":"\\",\\"a\\":1","b":"{\\"b\\":"}',
        b'{"a":"\\\\","b":"\\\\\\"a\\":"}',
    ],
)
def test_the_same_word_elsewhere_is_no_second_key(body: bytes) -> None:
    check(body)
    assert json.loads(body)


# Keys as they are written, some of which mean the same; and bodies of them, as they are written.
KEYS = st.sampled_from(['"a"', '"b"', '"\\u0061"', '"a:"', '"\\""', '"\\u0022"', '"{"', '"\\\\"', '"ж"', '"\\u0436"'])
BODIES = st.recursive(
    st.sampled_from(["1", "-2.5e3", "null", "true", '""', '":"', '"a\\":{"', '"\\\\"', "[]", "{}"]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(lambda values: f"[{' ,'.join(values)}]"),
        st.lists(st.tuples(KEYS, inner), max_size=4).map(
            lambda pairs: "{" + ", ".join(f"{key} : {value}" for key, value in pairs) + "}"
        ),
    ),
    max_leaves=12,
)


def unlike(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) < len(pairs):
        raise KeyError


@pytest.mark.parametrize("pad", [0, USUAL], ids=["usual", "large"])
@given(body=BODIES)
def test_keys_are_twice_there_for_us_where_they_are_for_another_parser(body: str, pad: int) -> None:
    """Small bodies and large ones are gone through in two ways."""
    whole = f'[{body}, "{"x" * pad}"]'
    try:
        json.loads(whole, object_pairs_hook=unlike)
    except KeyError:
        with pytest.raises(InvalidRequest, match="appears twice"):
            check(whole.encode())
    else:
        check(whole.encode())


@pytest.mark.parametrize("pair", [b"[]", b"{}"])
def test_64_levels_and_no_more(pair: bytes) -> None:
    opening, closing = (b"[", b"]") if pair == b"[]" else (b'{"a":', b"1" + b"}" * MAX_DEPTH)
    check(opening * MAX_DEPTH + (closing * MAX_DEPTH if pair == b"[]" else closing))
    for body in (opening * (MAX_DEPTH + 1), b"[" + opening * MAX_DEPTH + (closing * MAX_DEPTH)[: MAX_DEPTH + 1] + b"]"):
        with pytest.raises(InvalidRequest, match="deeper than 64"):
            check(body)


def test_brackets_in_texts_are_no_levels() -> None:
    check(json.dumps({"a": "[" * 500 + '{"' * 500}).encode())


def test_too_many_texts_are_refused_before_they_are_split() -> None:
    with pytest.raises(InvalidRequest, match="texts"):
        check(b'"' * (MAX_QUOTES + 1))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b'{"name":NaN}',
        b'{"extra":Infinity}',
        b'{"unknown":-Infinity}',
        b'{"name":"\\ud800"}',
        b'{"unknown":"\\udc00"}',
        b'{"unknown":"\xff"}',
        b'{"\xff":1}',
        b'{"name":"\n"}',
        b'{"name":"a"}}',
        b'}{"name":"a"}',
        '{"name":"a"}'.encode("utf-16"),
        b"\xef\xbb\xbf{}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"a\\":1}',
    ],
)
def test_what_is_not_json_is_an_invalid_request(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        read(body, DECODER)


@pytest.mark.parametrize("body", [b"[]", b'"x"', b"3", b"null"])
def test_the_body_must_be_an_object(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="the body must be an object"):
        read(body, DECODER)


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        (b'{"name":3}', "name", "name must be a text, not a whole number"),
        (b'{"either":true}', "either", "either must be a text or a list, not true or false"),
        (b'{"either":[1]}', "either[0]", "either[0] must be a text, not a whole number"),
        (b'{"inner":[{"size":"x"}]}', "inner[0].size", "inner[0].size must be a whole number, not a text"),
        (b'{"inner":[{"size":1.5}]}', "inner[0].size", "inner[0].size must be a whole number, not a number"),
        (b'{"extra":1e999}', "extra", "extra is not valid: Number out of range"),
    ],
)
def test_a_wrong_type_names_the_field_and_what_would_be_right(body: bytes, param: str, message: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        read(body, DECODER)
    assert (caught.value.param, caught.value.message) == (param, message)


def test_a_missing_field_names_its_place() -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(b'{"inner":[{}]}', DECODER)
    assert (caught.value.param, caught.value.status) == ("inner[0].size", 400)


def test_a_number_of_ten_thousand_digits_is_refused() -> None:
    with pytest.raises(InvalidValue):
        read(b'{"inner":[{"size":' + b"9" * 10_000 + b"}]}", DECODER)


def test_a_body_of_brackets_costs_nothing() -> None:
    for body in (b"[" * 4_000_000, b"[" + b"[]," * 1_000_000 + b"[]]"):
        tracemalloc.start()
        with pytest.raises(InvalidRequest):
            check(body)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 16 * 2**20


@pytest.mark.parametrize(
    ("body", "what"), [(b'{"x":[1' + b",1" * (2**20 + 1) + b"]}", "values"), (b"{}" * 2**18, "objects")]
)
def test_more_than_a_request_needs_is_refused_before_it_is_parsed(body: bytes, what: str) -> None:
    with pytest.raises(InvalidRequest, match=f"more than [0-9,]+ {what}"):
        check(body)


def test_signs_in_texts_do_not_count() -> None:
    check(json.dumps({"x": ",[{" * 2**20}).encode())


@pytest.mark.parametrize("before", range(-3, 4))
@pytest.mark.parametrize("run", [1, 2, 3, 4, SLICE, SLICE + 1])
def test_escapes_are_seen_where_the_body_is_cut(before: int, run: int) -> None:
    """A run of backslashes around the end of a slice, then a quote: it ends the text, or it is in it."""
    start = b'{"a":"' + b"x" * (SLICE + before - run // 2 - 6)
    even = run // 2 * 2
    check(start + b"\\" * even + b'","b":"a"}')
    with pytest.raises(InvalidRequest, match="'a' appears twice"):
        check(start + b"\\" * even + b'","a":1}')
    check(start + b"\\" * (even + 1) + b'","a":1,"}')


@pytest.mark.parametrize("cut", range(5))
def test_characters_are_whole_where_the_body_is_cut(cut: int) -> None:
    start = b'{"a":"' + b"x" * (SLICE - 6 - cut)
    check(start + "\N{GRINNING FACE}".encode() + b'"}')
    with pytest.raises(InvalidRequest, match=rf"not UTF-8 \(byte {len(start)}\)"):
        check(start + "\N{GRINNING FACE}".encode()[:3] + b'"}')


DEEP = b'{"x": ' + b"[" * 20_000 + b"]" * 20_000 + b"}"


@pytest.mark.parametrize("text", ["[" * 300_000, DEEP, b'"\xff"', "", "nonsense"])
def test_what_a_stranger_says_is_read_or_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        parsed(text)


def test_what_a_stranger_says_has_the_shape_that_is_asked_for() -> None:
    assert parsed('{"a": [1, 2]}') == {"a": [1, 2]}
    assert parsed(b"[1]", list[int]) == [1]
    with pytest.raises(ValueError, match="Expected"):
        parsed(b"{}", list[int])
