"""Answers on their way through, in which the model has the caller's name for it and nothing else is changed."""

from __future__ import annotations

import json

import pytest

from localmodels.dialects.passage import Passage
from localmodels.dialects.renaming import Renaming, renaming
from localmodels.dialects.table import WAYS

NAMES = renaming("m:latest", "far/m")


def names() -> Renaming:
    assert NAMES is not None
    return NAMES


def test_one_name_is_no_renaming() -> None:
    assert renaming("m", "m") is None


@pytest.mark.parametrize(
    "frame",
    [
        b'{"model":"m:latest","created_at":"x","message":{"role":"assistant","content":"m:latest"},"done":false}\n',
        b'{"choices":[{"delta":{"content":"\\"model\\":\\"m:latest\\""}}],"model": "m:latest","object":"x"}',
        b'{ "done" : false , "model": "m:latest" }',
    ],
)
def test_every_other_byte_stays(frame: bytes) -> None:
    there, here = b'"m:latest"', b'"far/m"'
    key = b'"model": ' if b'"model": ' in frame else b'"model":'
    assert names().of(frame, frame.strip()) == frame.replace(key + there, key + here)


@pytest.mark.parametrize(
    "message",
    [
        b'{"model":"m:latest","message":{"tool_calls":[{"function":{"arguments":{"model":"m:latest"}}}]}}',
        b'{"message":{"tool_calls":[{"function":{"arguments":{"model":"m:latest"}}}]},"model" : "m:latest"}',
        b'{"model" :"m:latest","message":{"content":"x"}}',
        b'{"mod\\u0065l":"m:latest","message":{"content":"\\"model\\":"}}',
        b'{"type":"message_start","message":{"id":"x","model":"m\\u003alatest"}}',
    ],
)
def test_it_is_the_models_name_and_no_argument_of_that_name(message: bytes) -> None:
    before, after = json.loads(message), json.loads(names().of(message, message))
    (before if "model" in before else before["message"])["model"] = "far/m"
    assert after == before


STREAMS = {
    "ollama": [
        b'{"model":"%b","message":{"role":"assistant","content":"\\"model\\":\\"m:latest\\""},"done":false}\n',
        b'{"model":"%b","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop"}\n',
    ],
    "openai": [
        b'data: {"id":"x","model":"%b","choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n',
        b": a comment\n\n",
        b'data: {"id":"x","model":"%b","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n',
        b"data: [DONE]\n\n",
    ],
    "anthropic": [
        b'event: message_start\ndata: {"type":"message_start","message":{"id":"x","model":"%b","usage":{}}}\n\n',
        b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"\\"model\\""}}\n\n',
        b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"}}\n\n',
        b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
    ],
}


def said(dialect: str, model: bytes) -> bytes:
    return b"".join(frame.replace(b"%b", model) for frame in STREAMS[dialect])


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize("dialect", STREAMS)
def test_a_stream_goes_out_with_the_name_that_was_asked_for(dialect: str, size: int) -> None:
    passage, body = Passage(WAYS[dialect], renaming=NAMES), said(dialect, b"m:latest")
    out = b"".join(passage.feed(body[at : at + size]) for at in range(0, len(body), size))
    assert out == said(dialect, b"far/m")
    passage.close()


@pytest.mark.parametrize("dialect", STREAMS)
def test_what_a_server_says_of_its_own_stays(dialect: str) -> None:
    body = said(dialect, b"m-2026-11-22")
    assert Passage(WAYS[dialect], renaming=NAMES).feed(body) == body
    assert Passage(WAYS[dialect]).feed(said(dialect, b"m:latest")) == said(dialect, b"m:latest")
