"""Who wants no calls in parallel gets one."""

from __future__ import annotations

from localmodels.core.chat import ChatRequest, Chunk, Done, Event, Tool, ToolCallDelta
from localmodels.flows.answering.single_tool_call import one_call

EVENTS: list[Event] = [
    Chunk("hm", tool_calls=(ToolCallDelta(0, "a", "f", "{"), ToolCallDelta(1, "b", "g", "{}"))),
    Chunk(tool_calls=(ToolCallDelta(1, arguments=" "),)),
    Chunk(tool_calls=(ToolCallDelta(0, arguments="}"),)),
    Done("tool_calls"),
]


def told(parallel: bool | None, events: list[Event] = EVENTS) -> list[Event]:
    request = ChatRequest("m", (), (Tool("f"), Tool("g")), parallel_tool_calls=parallel)
    read = one_call(request)
    return [event for one in events for event in read([one])]


def test_one_call_is_told_whole_and_of_the_others_nothing() -> None:
    assert told(parallel=False) == [
        Chunk("hm", tool_calls=(ToolCallDelta(0, "a", "f", "{"),)),
        Chunk(tool_calls=(ToolCallDelta(0, arguments="}"),)),
        Done("tool_calls"),
    ]


def test_whoever_does_not_mind_gets_all() -> None:
    assert told(parallel=None) == told(parallel=True) == EVENTS


def test_the_call_that_begins_first_counts_whatever_its_number() -> None:
    events: list[Event] = [Chunk(tool_calls=(ToolCallDelta(3, "d", "g", "{}"),)), *EVENTS]
    assert told(parallel=False, events=events) == [events[0], Chunk("hm"), Done("tool_calls")]
