"""The official SDK reads what the codec writes, without a socket: whole, in pieces, cut anywhere, and broken off."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import anthropic
import httpx2
import pytest

from localmodels.core.chat import ChatRequest, Chunk, Done, Event, ToolCallDelta, Usage
from localmodels.core.errors import BackendTimeout, LocalModelsError, RunnerDied, Unavailable
from localmodels.core.options import Options
from localmodels.dialects.anthropic import Anthropic
from localmodels.dialects.protocol import Stamp

DIALECT = Anthropic()
REQUEST = ChatRequest("tiny", (), options=Options(stop=("END",), num_predict=64))
STAMP = Stamp("msg_7", "tiny", 0, request_id="req_1")
STREAMS: dict[str, list[Event]] = {
    "text": [Chunk(prompt=Usage(9, 0, 4)), Chunk("Hé"), Chunk("llo"), Done("stop", Usage(9, 2, 4), stop="END")],
    "thoughts": [Chunk(thinking="Hm, "), Chunk(thinking="well."), Chunk("No."), Done("length", Usage(9, 64))],
    "calls": [
        Chunk("Wait."),
        Chunk(tool_calls=(ToolCallDelta(0, "call_1", "weather", '{"city": "Pa'),)),
        Chunk(tool_calls=(ToolCallDelta(0, arguments='ris"}'), ToolCallDelta(1, "call_2", "now", ""))),
        Done("tool_calls", Usage(30, 20)),
    ],
    "nothing": [Done("stop", Usage(9))],
}


def written(events: Iterable[Event]) -> bytes:
    writer = DIALECT.chat_writer(STAMP, REQUEST)
    return b"".join(map(writer.write, events))


def final(data: bytes) -> Any:
    """The message that the SDK makes of a stream."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": DIALECT.stream_type}, content=data)

    with (
        httpx2.Client(transport=httpx2.MockTransport(answer)) as http,
        anthropic.Anthropic(api_key="none", base_url="http://test", http_client=http, max_retries=0) as client,
        client.messages.stream(model="tiny", max_tokens=64, messages=[{"role": "user", "content": "?"}]) as stream,
    ):
        return stream.get_final_message()


def blocks(message: Any) -> list[dict[str, Any]]:
    unsaid = {"citations", "parsed_output", "caller", "toolset_name"}
    return [{name: value for name, value in block.to_dict().items() if name not in unsaid} for block in message.content]


def test_text_with_its_stop_sequence() -> None:
    message = final(written(STREAMS["text"]))
    assert blocks(message) == [{"type": "text", "text": "Héllo"}]
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "END")
    usage = message.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (5, 4, 2)


def test_thoughts_before_text() -> None:
    message = final(written(STREAMS["thoughts"]))
    assert blocks(message) == [
        {"type": "thinking", "thinking": "Hm, well.", "signature": "localmodels"},
        {"type": "text", "text": "No."},
    ]
    assert message.stop_reason == "max_tokens"


def test_calls_with_their_input() -> None:
    message = final(written(STREAMS["calls"]))
    assert blocks(message) == [
        {"type": "text", "text": "Wait."},
        {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Paris"}},
        {"type": "tool_use", "id": "call_2", "name": "now", "input": {}},
    ]
    assert message.stop_reason == "tool_use"


def test_an_empty_answer() -> None:
    message = final(written(STREAMS["nothing"]))
    assert (message.content, message.stop_reason) == ([], "end_turn")


def verdict(data: bytes) -> Any:
    """The final message, None where there is none."""
    try:
        return final(data)
    except (RuntimeError, AssertionError, ValueError, anthropic.APIError):  # half a character is a ValueError
        return None


@pytest.mark.parametrize("name", STREAMS)
def test_no_cut_looks_like_an_end(name: str) -> None:
    """Whatever a cut leaves has no reason why it ended; where it has one, all of the answer is there."""
    data = written(STREAMS[name])
    whole = final(data)
    for length in range(len(data)):
        message = verdict(data[:length])
        if message is not None and message.stop_reason is not None:
            assert message.to_dict() == whole.to_dict()
            assert b"event: message_delta" in data[:length]


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RunnerDied("gone"), "api_error"),
        (BackendTimeout("silent"), "timeout_error"),
        (Unavailable("not now"), "overloaded_error"),
    ],
)
def test_a_broken_answer_raises_with_its_type(name: str, error: LocalModelsError, kind: str) -> None:
    writer = DIALECT.chat_writer(STAMP, REQUEST)
    data = b"".join(map(writer.write, STREAMS[name][:-1])) + writer.fail(error)
    with pytest.raises(anthropic.APIStatusError) as raised:
        final(data)
    assert (raised.value.type, raised.value.error_code) == (kind, error.code)
    assert raised.value.body["request_id"] == "req_1"  # type: ignore[index]


@pytest.mark.parametrize("name", STREAMS)
def test_no_cut_of_a_broken_answer_looks_like_an_end(name: str) -> None:
    writer = DIALECT.chat_writer(STAMP, REQUEST)
    data = b"".join(map(writer.write, STREAMS[name][:-1])) + writer.fail(RunnerDied("gone"))
    for length in range(len(data)):
        message = verdict(data[:length])
        assert message is None or message.stop_reason is None
