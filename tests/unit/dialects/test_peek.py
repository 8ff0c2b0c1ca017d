"""What passes through is looked at without being changed."""

from __future__ import annotations

import json

import pytest

from localmodels.core.errors import InvalidRequest, InvalidValue
from localmodels.dialects.peek import model_of, peek
from localmodels.dialects.table import WAYS

OPENAI, OLLAMA = WAYS["openai"], WAYS["ollama"]


@pytest.mark.parametrize(
    ("body", "model"),
    [
        (b'{"model": "a/b", "messages": []}', "a/b"),
        (b'{"messages": [1, {"model": "no"}], "model": "\\u0061"}', "a"),
        (b'{"model": 7}', ""),
        (b'{"model": null}', ""),
        (b"{}", ""),
        (b"[]", ""),
        (b'{"model": "a"', ""),
        (b"[" * 100_000, ""),
        (b'{"model": "\xff"}', ""),
        (b"", ""),
    ],
)
def test_the_model_of_any_bytes(body: bytes, model: str) -> None:
    assert model_of(body) == model


def test_every_value_but_the_models_is_the_callers_byte_for_byte() -> None:
    values = {
        "messages": b'[ {"role":"user", "content":"\\u00e9 \xc3\xa9 \\/ \\n"} ]',
        "temperature": b"0.70000000000000000001",
        "seed": b"123456789012345678901234567890",
        "x-unknown": b'{ "a" : [1.0, -0, 1E5] }',
    }
    body = b"{" + b" ,\n".join(b'"%b" : %b' % (k.encode(), v) for k, v in values.items()) + b', "model": "s/m"}'
    sent = peek(OLLAMA, body).addressed("m:latest")
    for value in values.values():
        assert value in sent
    assert json.loads(sent) == json.loads(body) | {"model": "m:latest"}


def test_the_models_name_cannot_break_out_of_its_place() -> None:
    sent = peek(OLLAMA, b'{"model": "x"}').addressed('a", "admin": "yes\n')
    assert json.loads(sent) == {"model": 'a", "admin": "yes\n'}


@pytest.mark.parametrize(
    ("way", "said", "stream"),
    [
        (OPENAI, "", False),
        (OLLAMA, "", True),
        (OPENAI, ', "stream": true', True),
        (OLLAMA, ', "stream": false', False),
        (OLLAMA, ', "stream": null', True),
        (OPENAI, ', "stream": null', False),
    ],
)
def test_whether_it_streams(way: object, said: str, stream: bool) -> None:
    body = f'{{"model": "m"{said}}}'.encode()
    assert peek(way, body).stream is stream  # type: ignore[arg-type]
    assert peek(way, body, streams=False).stream is False  # type: ignore[arg-type]


@pytest.mark.parametrize("said", ["1", '"true"', "[]", "{}"])
def test_a_stream_that_is_neither_true_nor_false_is_refused_by_name(said: str) -> None:
    with pytest.raises(InvalidValue, match="stream must be true or false"):
        peek(OPENAI, f'{{"stream": {said}}}'.encode())


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"nul", b'{"a": 1', b'{"model": "a", "model": "b"}', b'{"m":' * 99 + b"1" + b"}" * 99, b'"\xff"'],
)
def test_what_parsers_read_in_different_ways_does_not_pass(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        peek(OPENAI, body)


@pytest.mark.parametrize(
    ("said", "counted", "options"),
    [
        ("", False, {"include_usage": True}),
        (', "stream_options": null', False, {"include_usage": True}),
        (', "stream_options": {"include_usage": false, "x": 1}', False, {"include_usage": True, "x": 1}),
        (', "stream_options": {"include_usage": true}', True, {"include_usage": True}),
    ],
)
def test_a_stream_is_counted_whether_or_not_the_caller_asked(
    said: str,
    counted: bool,
    options: dict[str, object],
) -> None:
    asked = peek(OPENAI, f'{{"model": "m", "stream": true{said}}}'.encode())
    assert asked.counted is counted
    assert json.loads(asked.addressed("m"))["stream_options"] == options


def test_nothing_is_asked_for_where_it_is_told_anyway() -> None:
    assert b"stream_options" not in peek(OLLAMA, b'{"model": "m"}').addressed("m")
    assert b"stream_options" not in peek(OPENAI, b'{"model": "m"}').addressed("m")
