"""Anthropic's dialect: what it writes it reads back, and its blocks come in the order that clients are promised."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.unit.dialects import carried_anthropic as carried
from tests.unit.dialects import strategies as some
from tests.unit.dialects.carried import folded

from localmodels.core.chat import (
    Answer,
    ChatRequest,
    Chunk,
    Done,
    Event,
    Text,
    ToolCallDelta,
    Usage,
    unfold,
)
from localmodels.core.errors import BackendError, LocalModelsError, StreamCut
from localmodels.dialects.anthropic import Anthropic
from localmodels.dialects.protocol import EventReader, Stamp

DIALECT = Anthropic()
STAMP = Stamp("msg_7", "m", 0, request_id="req_1")
FRAME = re.compile(rb"event: (\w+)\ndata: ([^\n]*)\n\n")


def drain(reader: EventReader, pieces: list[bytes], seen: list[Event]) -> None:
    """Reads to the end; ``seen`` keeps what came before an error."""
    for piece in pieces:
        seen += reader.feed(piece)
    reader.close()


def streamed(pieces: list[bytes]) -> list[Event]:
    seen: list[Event] = []
    drain(DIALECT.chat_reader(), pieces, seen)
    return seen


def written(events: list[Event], request: ChatRequest | None = None) -> bytes:
    writer = DIALECT.chat_writer(STAMP, request or ChatRequest("m", ()))
    return b"".join(writer.write(event) for event in events)


def frames(data: bytes) -> list[dict[str, Any]]:
    """The events, each under the name that it says; nothing may lie between them."""
    found = FRAME.findall(data)
    assert b"".join(b"event: %b\ndata: %b\n\n" % one for one in found) == data
    events = [(name.decode(), msgspec.json.decode(body)) for name, body in found]
    assert [event["type"] for _, event in events] == [name for name, _ in events]
    return [event for _, event in events]


GROWS = {
    "text": {"text_delta"},
    "thinking": {"thinking_delta", "signature_delta"},
    "tool_use": {"input_json_delta"},
}


class Order:
    """Replays a stream and insists on the order of Anthropic's events."""

    def __init__(self) -> None:
        self.open: str | None = None
        self.blocks = 0
        self.began = self.told = self.stopped = self.signed = False

    def take(self, event: dict[str, Any]) -> None:
        assert not self.stopped
        kind = event["type"]
        assert self.began is (kind != "message_start")
        getattr(self, kind)(event)

    def message_start(self, event: dict[str, Any]) -> None:
        self.began = True
        assert event["message"]["content"] == []
        assert event["message"]["stop_reason"] is None

    def content_block_start(self, event: dict[str, Any]) -> None:
        assert self.open is None
        assert not self.told
        assert event["index"] == self.blocks
        self.open, self.signed = event["content_block"]["type"], False
        assert self.open in GROWS
        if self.open == "tool_use":
            assert event["content_block"]["input"] == {}
            assert re.fullmatch(r"[a-zA-Z0-9_-]+", event["content_block"]["id"])
            assert event["content_block"]["name"]

    def content_block_delta(self, event: dict[str, Any]) -> None:
        assert self.open is not None
        assert event["index"] == self.blocks
        assert not self.signed, "a signature is the last of its block"
        assert event["delta"]["type"] in GROWS[self.open]
        self.signed = event["delta"]["type"] == "signature_delta"

    def content_block_stop(self, event: dict[str, Any]) -> None:
        assert event["index"] == self.blocks
        assert self.signed is (self.open == "thinking")
        self.open, self.blocks = None, self.blocks + 1

    def message_delta(self, event: dict[str, Any]) -> None:
        assert self.open is None
        assert not self.told
        self.told = True
        assert event["delta"]["stop_reason"]

    def message_stop(self, event: dict[str, Any]) -> None:
        assert self.told
        self.stopped = True


@given(some.chat_requests(fewest=1))
def test_requests(request: ChatRequest) -> None:
    expected = carried.chat(request)
    told = [message for message in expected.messages if message.role != "system"]
    assume(told)
    assume(not expected.messages[-1].tool_calls)
    assume(all(call.id for message in told for call in message.tool_calls))
    assume(all(message.tool_call_id for message in told if message.role == "tool"))
    assert DIALECT.read_chat(DIALECT.write_chat(request)) == expected


@given(some.chat_requests(fewest=1), st.integers(1, 2**31 - 1), st.booleans())
def test_how_to_think_is_carried(request: ChatRequest, budget: int, shown: bool) -> None:
    messages = (msgspec.structs.replace(request.messages[0], role="user", parts=(Text("?"),), tool_calls=()),)
    asked = msgspec.structs.replace(request, messages=messages, think=True, think_budget=budget, include_thinking=shown)
    read = DIALECT.read_chat(DIALECT.write_chat(asked))
    assert (read.think, read.think_budget, read.include_thinking) == (True, budget, shown)


@given(some.event_streams(), some.cuts)
def test_streams(events: list[Event], cuts: list[int]) -> None:
    assert folded(streamed(some.cut(written(events), cuts))) == carried.answered(events, "7")


@given(some.event_streams(), st.booleans())
def test_the_order_of_blocks(events: list[Event], shown: bool) -> None:
    order = Order()
    for event in frames(written(events, ChatRequest("m", (), include_thinking=shown))):
        order.take(event)
    assert order.stopped


@given(some.answers)
def test_whole_answers(answer: Answer) -> None:
    whole = DIALECT.write_chat_answer(STAMP, ChatRequest("m", ()), answer)
    assert DIALECT.read_chat_answer(whole) == carried.answered(unfold(answer), "7")


@given(some.event_streams())
def test_the_whole_is_what_the_stream_leads_to(events: list[Event]) -> None:
    answer = folded(events)
    told = DIALECT.read_chat_answer(DIALECT.write_chat_answer(STAMP, ChatRequest("m", ()), answer))
    assert told == folded(streamed([written(list(unfold(answer)))]))


@given(some.event_streams(), some.cuts, some.texts)
def test_after_a_failure_there_is_no_success(events: list[Event], cuts: list[int], words: str) -> None:
    writer = DIALECT.chat_writer(STAMP, ChatRequest("m", ()))
    data = b"".join(map(writer.write, events[:-1])) + writer.fail(BackendError(words))
    assert b"message_stop" not in data
    reader = DIALECT.chat_reader()
    seen: list[Event] = []
    with pytest.raises(LocalModelsError) as raised:
        drain(reader, some.cut(data, cuts), seen)
    assert not any(isinstance(event, Done) for event in seen)
    assert raised.value.code == "backend_error"


STREAMS: list[list[Event]] = [
    [Done()],
    [Chunk(prompt=Usage(9, 0, 4)), Chunk("a\r\u2028ж😀"), Chunk("", "hm\n"), Done("length", Usage(9, 2, 4))],
    [
        Chunk("Let me see.", "Weather."),
        Chunk("", tool_calls=(ToolCallDelta(0, "c1", "weather", '{"city":'),)),
        Chunk("", tool_calls=(ToolCallDelta(0, arguments='"Paris"}'), ToolCallDelta(1, "c2", "now", "{}"))),
        Done("tool_calls", Usage(30, 20)),
    ],
]


@pytest.mark.parametrize("events", STREAMS)
def test_every_cut_is_a_cut(events: list[Event]) -> None:
    data = written(events)
    whole = streamed([data])
    for length in range(len(data)):
        reader = DIALECT.chat_reader()
        seen = reader.feed(data[:length])
        assert seen == whole[: len(seen)]
        assert len(seen) < len(whole)
        with pytest.raises(StreamCut):
            reader.close()
