"""Custom tools in OpenAI's chats: read, chosen, called and told back as what they are."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from localmodels.core.chat import (
    Answer,
    ChatRequest,
    Chunk,
    Done,
    Event,
    Message,
    Text,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolChoice,
)
from localmodels.core.errors import InvalidRequest, InvalidValue, LocalModelsError, Unsupported
from localmodels.dialects.openai import OpenAI
from localmodels.dialects.protocol import Stamp

DIALECT = OpenAI()
STAMP = Stamp("chatcmpl-1", "m", 0)
PATCH = {"type": "custom", "custom": {"name": "patch", "description": "Applies a patch."}}
NOW = {"type": "function", "function": {"name": "now"}}


def chat(**fields: Any) -> ChatRequest:
    sent = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "tools": [PATCH, NOW], **fields}
    return DIALECT.read_chat(msgspec.json.encode(sent))


def grammar(**fields: Any) -> dict[str, Any]:
    form = {"type": "grammar", "grammar": fields}
    return {"type": "custom", "custom": {"name": "patch", "format": form}}


def test_a_custom_tool_takes_a_text() -> None:
    assert chat().tools == (Tool("patch", "Applies a patch.", custom=True), Tool("now"))


@pytest.mark.parametrize(
    ("syntax", "definition", "expected"),
    [("lark", "start: WORD", "start: WORD"), ("regex", "[a-z]+", "start: /[a-z]+/")],
)
def test_its_grammar_is_in_larks_notation(syntax: str, definition: str, expected: str) -> None:
    (tool,) = chat(tools=[grammar(syntax=syntax, definition=definition)]).tools
    assert tool.grammar == expected


@pytest.mark.parametrize(
    ("choice", "names", "expected"),
    [
        ({"type": "custom", "custom": {"name": "patch"}}, ["patch", "now"], ToolChoice("function", "patch")),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [
                {"type": "custom", "custom": {"name": "patch"}}]}},
            ["patch"],
            ToolChoice("required"),
        ),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [
                {"type": "function", "function": {"name": "now"}}]}},
            ["now"],
            ToolChoice("auto"),
        ),
    ],
)  # fmt: skip
def test_it_can_be_chosen(choice: dict[str, Any], names: list[str], expected: ToolChoice) -> None:
    request = chat(tool_choice=choice)
    assert ([tool.name for tool in request.tools], request.tool_choice) == (names, expected)


@pytest.mark.parametrize(
    ("fields", "param", "kind"),
    [
        ({"tools": [{"type": "custom"}]}, "tools[0].custom", InvalidRequest),
        ({"tools": [{"type": "custom", "custom": {}}]}, "tools[0].custom.name", InvalidRequest),
        ({"tools": [grammar(syntax="lark")]}, "tools[0].custom.format.grammar.definition", InvalidRequest),
        (
            {"tools": [{"type": "custom", "custom": {"name": "p", "format": {"type": "xml"}}}]},
            "tools[0].custom.format.type",
            InvalidValue,
        ),
        ({"tool_choice": {"type": "custom", "custom": {"name": "now"}}}, "tool_choice", InvalidRequest),
        ({"tool_choice": {"type": "function", "function": {"name": "patch"}}}, "tool_choice", InvalidRequest),
        ({"tool_choice": {"type": "custom"}}, "tool_choice", Unsupported),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"type": "custom", "custom": {"input": "x"}}]}]},
            "messages[0].tool_calls[0].custom.name",
            InvalidRequest,
        ),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], param: str, kind: type[LocalModelsError]) -> None:
    with pytest.raises(kind) as caught:
        chat(**fields)
    assert (type(caught.value), caught.value.param) == (kind, param)


def test_a_request_with_custom_tools_and_their_calls_reads_back_what_was_written() -> None:
    calls = (ToolCall("c1", "patch", "*** Begin", custom=True), ToolCall("c2", "now", "{}"))
    request = ChatRequest(
        "m",
        (Message("user", (Text("hi"),)), Message("assistant", tool_calls=calls)),
        (Tool("patch", "Applies.", custom=True, grammar="start: WORD"), Tool("now")),
        ToolChoice("function", "patch"),
    )
    assert DIALECT.read_chat(DIALECT.write_chat(request)) == request


CALLED: list[Event] = [
    Chunk(tool_calls=(ToolCallDelta(0, "c1", "patch", "", custom=True),)),
    Chunk(tool_calls=(ToolCallDelta(0, arguments="*** Begin\n", custom=True),)),
    Chunk(tool_calls=(ToolCallDelta(1, "c2", "now", "{}"),)),
    Done("tool_calls"),
]


def test_calls_are_told_as_what_they_are() -> None:
    writer = DIALECT.chat_writer(STAMP, chat(stream=True))
    data = b"".join(map(writer.write, CALLED))
    assert b'{"index":0,"id":"c1","type":"custom","custom":{"name":"patch","input":""}}' in data
    assert b'{"index":0,"custom":{"input":"*** Begin\\n"}}' in data
    assert b'{"index":1,"id":"c2","type":"function","function":{"name":"now","arguments":"{}"}}' in data
    assert DIALECT.chat_reader().feed(data) == CALLED


def test_whole_calls_are_told_as_what_they_are() -> None:
    calls = (ToolCall("c1", "patch", "x", custom=True), ToolCall("c2", "now", "{}"))
    answer = Answer(Done("tool_calls"), tool_calls=calls)
    body = DIALECT.write_chat_answer(STAMP, chat(), answer)
    first, second = msgspec.json.decode(body)["choices"][0]["message"]["tool_calls"]
    assert first == {"id": "c1", "type": "custom", "custom": {"name": "patch", "input": "x"}}
    assert second == {"id": "c2", "type": "function", "function": {"name": "now", "arguments": "{}"}}
    assert DIALECT.read_chat_answer(body) == answer
