"""What a real server sends as the Responses API, read: recorded from llama.cpp build 11549.

It numbers neither events nor items, and says at the end what it leaves out before.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from localmodels.core.chat import Answer, Done, Event, Fold, ToolCall, Usage
from localmodels.core.errors import StreamCut
from localmodels.dialects.responses import Responses

HERE = Path(__file__).parent / "llamacpp"
RESPONSES = Responses()
CALL = ToolCall("call_h1Q9Al43yCcv1aYmx7BPJFggdNQJqWBF", "get_weather", '{"city": "Paris"}')
STREAMS = {
    "responses.sse": Answer(Done("stop", Usage(16, 11)), "The capital of France is Paris."),
    "responses-tools.sse": Answer(Done("tool_calls", Usage(69, 22, 1)), tool_calls=(CALL,)),
}


def folded(events: list[Event]) -> Answer:
    fold = Fold()
    for event in events:
        fold.add(event)
    return fold.answer()


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_a_recorded_stream_says_what_it_said(name: str, size: int) -> None:
    data, reader = (HERE / name).read_bytes(), RESPONSES.chat_reader()
    events = [event for start in range(0, len(data), size) for event in reader.feed(data[start : start + size])]
    reader.close()
    assert folded(events) == STREAMS[name]


@pytest.mark.parametrize("name", STREAMS)
def test_a_recorded_stream_that_is_cut_is_an_error(name: str) -> None:
    data = (HERE / name).read_bytes()
    for length in range(0, data.rindex(b"\n\n"), 13):
        reader = RESPONSES.chat_reader()
        reader.feed(data[:length])
        with pytest.raises(StreamCut):
            reader.close()


def test_a_recorded_answer_in_one_piece_says_the_same() -> None:
    answer = RESPONSES.read_chat_answer((HERE / "responses-whole.json").read_bytes())
    assert (answer.text, answer.done.reason) == (STREAMS["responses.sse"].text, "stop")
    assert answer.done.usage == Usage(16, 11, 15)
