"""Custom tools: offered as functions, called as what they are."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.dialects import strategies as some

from localmodels.core.chat import (
    ChatRequest,
    Chunk,
    Done,
    Event,
    Fold,
    Message,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolChoice,
)
from localmodels.dialects.forced import ForcedCall, forced, shape
from localmodels.flows.answering.custom_tools import as_functions, text_of, turned_back

PATCH = Tool("patch", "Edits files", custom=True, grammar='start: "x"')
PLAIN = Tool("plain", "Does", {"type": "object"})
REQUEST = ChatRequest("m", (), (PATCH, PLAIN))


def told(events: list[Event]) -> list[Event]:
    read = turned_back(REQUEST)
    return [event for one in events for event in read([one])]


def test_a_custom_tool_is_offered_as_a_function_with_one_text() -> None:
    patch, plain = as_functions(REQUEST).tools
    assert plain is PLAIN
    assert not patch.custom
    assert 'start: "x"' in patch.description
    assert patch.parameters["properties"] == {"input": {"type": "string"}}
    assert as_functions(ChatRequest("m", (), (Tool("t", custom=True),))).tools[0].description == ""


def test_requests_without_custom_tools_stay_as_they_are() -> None:
    request = ChatRequest("m", (Message("assistant", tool_calls=(ToolCall("c", "plain", "{}"),)),), (PLAIN,))
    assert as_functions(request) is request
    events: list[Event] = [Chunk("x"), Done()]
    assert turned_back(request)(events) is events


def test_what_was_called_before_is_told_as_a_function() -> None:
    calls = (ToolCall("c1", "patch", 'say "hi"\n', custom=True), ToolCall("c2", "plain", "{}"))
    # Also where the tool itself is no longer offered.
    request = ChatRequest("m", (Message("assistant", tool_calls=calls),))
    first, second = as_functions(request).messages[0].tool_calls
    assert (json.loads(first.arguments), first.custom) == ({"input": 'say "hi"\n'}, False)
    assert second is calls[1]


def test_a_call_is_told_at_once_and_its_text_when_it_is_whole() -> None:
    assert told([
        Chunk("Now.", tool_calls=(ToolCallDelta(0, "c1", "patch", '{"inp'),)),
        Chunk(tool_calls=(ToolCallDelta(0, arguments='ut": "a\\nb"}'),)),
        Chunk(tool_calls=(ToolCallDelta(1, "c2", "plain", "{}"),)),
        Done("tool_calls"),
    ]) == [
        Chunk("Now.", tool_calls=(ToolCallDelta(0, "c1", "patch", custom=True),)),
        Chunk(tool_calls=(ToolCallDelta(1, "c2", "plain", "{}"),)),
        Chunk(tool_calls=(ToolCallDelta(0, arguments="a\nb", custom=True),)),
        Done("tool_calls"),
    ]  # fmt: skip


def test_a_call_that_breaks_off_has_no_text() -> None:
    assert told([Chunk(tool_calls=(ToolCallDelta(0, "c", "patch", '{"input": "a'),))]) == [
        Chunk(tool_calls=(ToolCallDelta(0, "c", "patch", custom=True),))
    ]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ('{"input": "x"}', "x"),
        ('{"input": "x", "note": "y"}', "x"),
        ('{"patch": "x"}', "x"),
        ('"x"', "x"),
        ("*** Begin Patch", "*** Begin Patch"),
        ('{"input": 3}', '{"input": 3}'),
        ('{"a": "x", "b": "y"}', '{"a": "x", "b": "y"}'),
        ("{}", "{}"),
        ('{"input": "broken of', '{"input": "broken of'),
        ("", ""),
    ],
)
def test_the_text_is_found_in_whatever_a_model_makes_of_it(arguments: str, text: str) -> None:
    assert text_of(arguments) == text


@given(some.texts, st.lists(st.integers(0, 100), max_size=4))
def test_every_text_comes_back_as_it_is(text: str, cuts: list[int]) -> None:
    call = as_functions(
        ChatRequest("m", (Message("assistant", tool_calls=(ToolCall("c", "patch", text, custom=True),)),))
    ).messages[0].tool_calls[0]  # fmt: skip
    pieces = [piece.decode() for piece in some.cut(call.arguments.encode("ascii", "backslashreplace"), cuts)]
    if not call.arguments.isascii():
        pieces = [call.arguments]
    fold = Fold()
    begun = Chunk(tool_calls=(ToolCallDelta(0, "c", "patch"),))
    for event in told([begun, *(Chunk(tool_calls=(ToolCallDelta(0, arguments=p),)) for p in pieces), Done()]):
        fold.add(event)
    assert fold.answer().tool_calls == (ToolCall("c", "patch", text, custom=True),)


def test_a_custom_call_that_must_be_made_is_forced_inside_and_turned_back_outside() -> None:
    asked = ChatRequest("m", (), (PATCH, PLAIN), ToolChoice("function", "patch"))
    tools = forced(as_functions(asked))
    assert [tool.name for tool in tools] == ["patch"]
    wanted = shape(tools).schema
    assert wanted is not None
    assert wanted["properties"]["arguments"]["properties"] == {"input": {"type": "string"}}
    read, call = turned_back(asked), ForcedCall()
    said: list[Event] = [Chunk('{"name": "patch", "arguments": {"input": '), Chunk('"a"}}'), Done()]
    events = [event for one in said for event in read(call.read(one))]
    fold = Fold()
    for event in events:
        fold.add(event)
    answer = fold.answer()
    assert [(made.name, made.arguments, made.custom) for made in answer.tool_calls] == [("patch", "a", True)]
    assert answer.done.reason == "tool_calls"
