"""What servers of Anthropic's API send, read: recorded from llama.cpp build 11549, and in the shape of Anthropic's own.

llama-server sends no pings, closes its blocks at the end and says ``end_turn`` where a stop text ended the answer.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from localmodels.core.chat import Answer, Chunk, Done, Event, Fold, ToolCall, Usage
from localmodels.core.errors import Unavailable
from localmodels.dialects.anthropic import Anthropic

HERE = Path(__file__).parent / "anthropic"
DIALECT = Anthropic()
ANSWERS = {
    "llamacpp-chat.sse": Answer(Done("length", Usage(14, 6)), "The sky is blue because air"),
    "llamacpp-stop.sse": Answer(Done("stop", Usage(14, 4, 13), stop="blue"), "The sky is "),
    "llamacpp-tools.sse": Answer(
        Done("tool_calls", Usage(71, 22)),
        tool_calls=(ToolCall("RbkDPCwqXeOnoU0cMqvIdI5hwzcrsgDj", "get_weather", '{"city": "Paris"}'),),
    ),
    "messages.sse": Answer(
        Done("tool_calls", Usage(1121, 89, 1000, 12)),
        "Let me look.",
        "Which day?",
        (ToolCall("toolu_01", "calendar", '{"month": 11}'), ToolCall("toolu_02", "now", "{}")),
    ),
}


def streamed(data: bytes, size: int) -> list[Event]:
    reader = DIALECT.chat_reader()
    events = [event for start in range(0, len(data), size) for event in reader.feed(data[start : start + size])]
    reader.close()
    return events


@pytest.mark.parametrize("size", [1, 7, 2**20])
@pytest.mark.parametrize("name", ANSWERS)
def test_a_stream_is_read(name: str, size: int) -> None:
    fold = Fold()
    for event in streamed((HERE / name).read_bytes(), size):
        fold.add(event)
    assert fold.answer() == ANSWERS[name]


def test_the_prompt_is_known_first() -> None:
    first = streamed((HERE / "messages.sse").read_bytes(), 2**20)[0]
    assert first == Chunk(prompt=Usage(1121, 0, 1000))


def test_a_whole_answer_is_read() -> None:
    answer = DIALECT.read_chat_answer((HERE / "llamacpp-tools.json").read_bytes())
    assert answer.done == Done("tool_calls", Usage(71, 22, 70))
    assert [(call.name, call.arguments) for call in answer.tool_calls] == [("get_weather", '{"city":"Paris"}')]


def test_a_count_is_read() -> None:
    assert DIALECT.read_count_answer((HERE / "llamacpp-count.json").read_bytes()) == 17


@pytest.mark.parametrize("size", [1, 2**20])
def test_an_overload_in_the_middle_is_one(size: int) -> None:
    with pytest.raises(Unavailable, match="Overloaded"):
        streamed((HERE / "overloaded.sse").read_bytes(), size)
