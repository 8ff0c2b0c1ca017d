"""Calls that must be made: the shape that is asked for, and the call that is read from it, in any pieces."""

from __future__ import annotations

import json
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmodels.core.chat import ChatRequest, Chunk, Done, Event, Fold, Message, Text, Tool, ToolChoice
from localmodels.dialects.forced import CallReader, forced
from localmodels.dialects.llamacpp import LlamaCpp

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER, NOW = Tool("weather", "", CITY), Tool("now")
DIALECT = LlamaCpp()


def ask(mode: str, *tools: Tool, name: str = "") -> ChatRequest:
    return ChatRequest("m", (Message("user", (Text("hi"),)),), tools=tools, tool_choice=ToolChoice(mode, name))  # type: ignore[arg-type]


def schema(request: ChatRequest) -> dict[str, object]:
    sent = msgspec.json.decode(DIALECT.write_chat(request))
    found: dict[str, object] = sent["response_format"]["json_schema"]["schema"]
    return found


def answered(request: ChatRequest, said: str, *, reason: str = "stop", cuts: list[int] | None = None) -> Fold:
    """The answer whose content is ``said``, in pieces."""
    edges = [0, *sorted(min(cut, len(said)) for cut in cuts or []), len(said)]
    contents = [said[a:b] for a, b in pairwise(edges) if a < b]
    lines: list[dict[str, object]] = [{"choices": [{"index": 0, "delta": {"content": text}}]} for text in contents]
    lines.append({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
    lines.append({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}})
    reader = DIALECT.chat_reader(request)
    folded = Fold()
    for line in (*(b"data: " + msgspec.json.encode(line) + b"\n\n" for line in lines), b"data: [DONE]\n\n"):
        for event in reader.feed(line):
            folded.add(event)
    reader.close()
    return folded


def test_nothing_is_forced_where_the_model_may_choose() -> None:
    for mode in ("auto", "none"):
        assert forced(ask(mode, WEATHER)) == ()
        assert "response_format" not in msgspec.json.decode(DIALECT.write_chat(ask(mode, WEATHER)))
        assert not isinstance(DIALECT.chat_reader(ask(mode, WEATHER)), CallReader)


def test_name_and_arguments_of_a_tool_are_the_shape() -> None:
    for request in (ask("required", WEATHER), ask("function", NOW, WEATHER, name="weather")):
        assert schema(request)["properties"] == {"name": {"const": "weather"}, "arguments": CITY}
        sent = msgspec.json.decode(DIALECT.write_chat(request))
        assert [tool["function"]["name"] for tool in sent["tools"]] == ["weather"]


def test_any_of_several_may_be_called() -> None:
    found = schema(ask("required", WEATHER, NOW))
    assert [call["properties"]["name"]["const"] for call in found["anyOf"]] == ["weather", "now"]  # type: ignore[attr-defined]


PLACE = {
    "type": "object",
    "properties": {
        "home": {"$ref": "#/$defs/Address"},
        "more": {"type": "array", "items": {"$ref": "#/$defs/Address"}},
        "inner": {"$ref": "#"},
        "$ref": {"type": "string", "default": {"$ref": "#/is data"}},
    },
    "$defs": {"Address": {"type": "object", "properties": {"street": {"type": "string"}}}},
}


def resolved(node: object, root: dict[str, object], depth: int = 3) -> object:
    """The schema with its references replaced by what they point at, ``depth`` levels of them."""
    if isinstance(node, list):
        return [resolved(item, root, depth) for item in node]
    if not isinstance(node, dict):
        return node
    if isinstance(node.get("$ref"), str):
        target: object = root
        for step in node["$ref"].removeprefix("#").split("/")[1:]:
            assert isinstance(target, dict)
            target = target[step]
        return resolved(target, root, depth - 1) if depth else ...
    return {key: value if key == "default" else resolved(value, root, depth) for key, value in node.items()}


@pytest.mark.parametrize("tools", [(Tool("p", "", PLACE),), (Tool("p", "", PLACE), NOW, Tool("q", "", PLACE), WEATHER)])
@pytest.mark.parametrize("mode", ["required", "function"])
def test_references_of_a_tool_find_what_they_mean(mode: str, tools: tuple[Tool, ...]) -> None:
    root = schema(ask(mode, *tools, name="p"))
    calls = root.get("anyOf", [root])
    assert isinstance(calls, list)
    wanted = {tool.name: tool.parameters for tool in tools}
    for call in calls:
        name, arguments = call["properties"]["name"]["const"], call["properties"]["arguments"]
        if parameters := wanted[name]:
            given = resolved(arguments, root, depth=4 if "$ref" in arguments else 3)
            without = {key: value for key, value in given.items() if key != "$defs"}  # type: ignore[attr-defined]
            assert without == {k: v for k, v in resolved(parameters, parameters).items() if k != "$defs"}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "arguments", ['{"a": 1e999}', '{"a": "\\ud800"}', "[" * 5000, '{"a": ' + "9" * 5000 + "}", '{"a": ' * 3000]
)
def test_arguments_without_an_end_are_no_call(arguments: str) -> None:
    said = f'{{"name": "now", "arguments": {arguments}}}'
    answer = answered(ask("required", NOW), said, reason="length").answer()
    assert (answer.tool_calls, answer.text) == ((), said)


@given(
    st.dictionaries(st.text(max_size=5), st.text(max_size=9) | st.integers(-9, 9), max_size=3),
    st.lists(st.integers(0, 60)),
)
def test_the_call_is_read_in_any_pieces(arguments: dict[str, object], cuts: list[int]) -> None:
    said = json.dumps(arguments)
    for tools in ((NOW,), (WEATHER, NOW)):
        answer = answered(ask("required", *tools), f'{{"name": "now", "arguments": {said}}}', cuts=cuts).answer()
        assert [(call.name, json.loads(call.arguments)) for call in answer.tool_calls] == [("now", arguments)]
        assert answer.tool_calls[0].id.startswith("call_")
        assert (answer.text, answer.done.reason, answer.done.usage.completion_tokens) == ("", "tool_calls", 2)


def test_what_breaks_off_is_no_call() -> None:
    answer = answered(ask("required", WEATHER, NOW), '{"name": "now", "argu', reason="length").answer()
    assert (answer.tool_calls, answer.text, answer.done.reason) == ((), '{"name": "now", "argu', "length")


def test_thoughts_come_through() -> None:
    class Thinks:
        def feed(self, data: bytes) -> list[Event]:
            return [Chunk(thinking="hm"), Chunk('{"name": "now", "arguments": {}}'), Done()]

        def close(self) -> None: ...

    events = CallReader(Thinks()).feed(b"")
    assert isinstance(events[0], Chunk)
    assert events[0].thinking == "hm"
    assert isinstance(events[-1], Done)
    assert events[-1].reason == "tool_calls"


@pytest.mark.parametrize("tools", [(NOW,), (NOW, WEATHER)])
def test_a_tool_without_parameters_takes_an_empty_object(tools: tuple[Tool, ...]) -> None:
    assert b'"additionalProperties":false' in DIALECT.write_chat(ask("required", *tools))
