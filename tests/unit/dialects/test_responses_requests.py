"""Requests of the Responses API: tools, choices, options, and what is said back."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from localmodels.core.chat import Format, Tool, ToolChoice
from localmodels.core.errors import InvalidRequest, InvalidValue, LocalModelsError, Unsupported
from localmodels.dialects.responses.requests import Create, read_create

FUNCTION = {"type": "function", "name": "f", "description": "does", "parameters": {"type": "object"}, "strict": True}
PATCH = {"type": "custom", "name": "p", "format": {"type": "grammar", "syntax": "lark", "definition": "start: X"}}

SHAPE = {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True, "description": "d"}


def create(**fields: Any) -> Create:
    return read_create(json.dumps({"model": "m", "input": "hi", **fields}).encode())


def test_everything_that_a_model_is_asked() -> None:
    sent = create(
        stream=True, max_output_tokens=9, temperature=0.5, top_p=0.9, seed=7, stop=["x"], num_ctx=512, top_logprobs=3,
        truncation="auto", parallel_tool_calls=False, options={"top_k": 5}, reasoning={"effort": "high"},
        include=["message.output_text.logprobs", "reasoning.encrypted_content", "file_search_call.results"],
    ).request  # fmt: skip
    options = sent.options
    assert (options.num_predict, options.temperature, options.top_p, options.seed) == (9, 0.5, 0.9, 7)
    assert (options.stop, options.num_ctx, options.top_k) == (("x",), 512, 5)
    assert (sent.stream, sent.logprobs, sent.top_logprobs, sent.truncate) == (True, True, 3, True)
    assert (sent.parallel_tool_calls, sent.think, sent.think_wish) == (False, "high", True)


def test_nothing_is_shortened_and_nobody_is_made_to_think_unasked() -> None:
    sent = create().request
    assert (sent.truncate, sent.think, sent.logprobs, sent.stream) == (False, None, False, False)
    assert create(reasoning={"effort": "none"}).request.think is False
    assert create(reasoning=None, tools=None, text=None, metadata=None, include=None).request == sent


def test_tools_of_all_kinds() -> None:
    space = {"type": "namespace", "name": "ns", "description": "d", "tools": [FUNCTION, {"type": "web_search"}]}
    regex = {"type": "custom", "name": "r", "format": {"type": "grammar", "syntax": "regex", "definition": "[a-z]+"}}
    sent = create(tools=[FUNCTION, PATCH, regex, space, {"type": "web_search_preview"}, {"type": "local_shell"}])
    assert sent.request.tools == (
        Tool("f", "does", {"type": "object"}),
        Tool("p", custom=True, grammar="start: X"),
        Tool("r", custom=True, grammar="start: /[a-z]+/"),
        Tool("ns.f", "does", {"type": "object"}),
    )
    assert sent.namespaces == {"ns.f": ("ns", "f")}
    assert sent.ignored_tools == ("web_search", "web_search_preview", "local_shell")


def test_tools_that_an_item_offers() -> None:
    space = {"type": "namespace", "name": "functions", "description": "", "tools": [FUNCTION, PATCH]}
    more = {"type": "additional_tools", "role": "developer", "tools": [space, {"type": "web_search"}]}
    sent = create(tools=[FUNCTION], input=[more, {"role": "user", "content": "hi"}])
    assert [tool.name for tool in sent.request.tools] == ["f", "functions.f", "functions.p"]
    assert (sent.ignored_tools, sent.ignored_items) == (("web_search",), ())
    assert [message.role for message in sent.after().messages] == ["user"]
    with pytest.raises(InvalidValue) as raised:
        create(input=[{"type": "additional_tools", "tools": [{"type": "function", "name": 4}]}])
    assert raised.value.param == "input[0].tools[0].name"


@pytest.mark.parametrize(
    ("sent", "choice", "tools"),
    [
        ("none", ToolChoice("none"), ["f", "p"]),
        ("required", ToolChoice("required"), ["f", "p"]),
        ({"type": "function", "name": "f"}, ToolChoice("function", "f"), ["f", "p"]),
        ({"type": "custom", "name": "p"}, ToolChoice("function", "p"), ["f", "p"]),
        ({"type": "allowed_tools", "mode": "required", "tools": [{"type": "custom", "name": "p"}]},
         ToolChoice("required"), ["p"]),
    ],
)  # fmt: skip
def test_choices(sent: Any, choice: ToolChoice, tools: list[str]) -> None:
    request = create(tools=[FUNCTION, PATCH], tool_choice=sent).request
    assert (request.tool_choice, [tool.name for tool in request.tools]) == (choice, tools)


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ({"format": {"type": "text"}, "verbosity": "low"}, None),
        ({"format": {"type": "json_object"}}, Format()),
        ({"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}},
         Format({"type": "object"}, "n")),
    ],
)  # fmt: skip
def test_shapes(text: Any, shape: Format | None) -> None:
    assert create(text=text).request.format == shape


@pytest.mark.parametrize(
    ("fields", "kind", "param"),
    [
        ({"conversation": "conv_1"}, Unsupported, "conversation"),
        ({"prompt": {"id": "p"}}, Unsupported, "prompt"),
        ({"background": True, "store": False}, InvalidRequest, "background"),
        ({"max_output_tokens": 0}, InvalidValue, "max_output_tokens"),
        ({"max_output_tokens": "many"}, InvalidValue, "max_output_tokens"),
        ({"temperature": 99}, InvalidValue, "temperature"),
        ({"truncation": "sometimes"}, InvalidValue, "truncation"),
        ({"top_logprobs": 21}, InvalidValue, "top_logprobs"),
        ({"reasoning": {"effort": "much"}}, InvalidValue, "reasoning.effort"),
        ({"metadata": {str(i): "" for i in range(17)}}, InvalidValue, "metadata"),
        ({"metadata": {"k" * 65: ""}}, InvalidValue, f"metadata.{'k' * 64}"),
        ({"metadata": {"k": "v" * 513}}, InvalidValue, "metadata.k"),
        ({"tool_choice": "required"}, InvalidRequest, "tool_choice"),
        ({"tool_choice": "perhaps"}, InvalidValue, "tool_choice"),
        ({"tool_choice": {"type": "function", "name": "g"}, "tools": [FUNCTION]}, InvalidRequest, "tool_choice"),
        ({"tool_choice": {"type": "file_search"}, "tools": [{"type": "file_search"}]}, Unsupported, "tool_choice"),
        ({"tool_choice": "required", "tools": [{"type": "web_search"}]}, InvalidRequest, "tool_choice"),
        ({"tools": [{"type": "function"}]}, InvalidRequest, "tools[0].name"),
        ({"tools": [{"name": "f"}]}, InvalidRequest, "tools[0].type"),
        ({"tools": [4]}, InvalidValue, "tools[0]"),
        ({"tools": [{"type": "namespace", "name": "n", "tools": [{"type": "function", "name": 4}]}]}, InvalidValue,
         "tools[0].tools[0].name"),
        ({"tools": [{"type": "custom", "name": "p", "format": {"type": "grammar"}}]}, InvalidRequest,
         "tools[0].format.definition"),
        ({"text": {"format": {"type": "xml"}}}, InvalidValue, "text.format.type"),
        ({"model": ""}, InvalidRequest, "model"),
        ({"input": 4}, InvalidValue, "input"),
    ],
)  # fmt: skip
def test_what_cannot_be_honoured_is_refused_by_name(
    fields: dict[str, Any], kind: type[LocalModelsError], param: str
) -> None:
    with pytest.raises(kind) as raised:
        create(**fields)
    assert type(raised.value) is kind
    assert raised.value.param == param


def test_what_was_asked_is_said_back() -> None:
    asked: dict[str, Any] = {
        "instructions": "be brief", "max_output_tokens": 9, "max_tool_calls": 2, "metadata": {"a": "b"}, "user": "u",
        "reasoning": {"effort": "low", "summary": "auto"}, "temperature": 0.5, "top_p": 0.25, "store": False,
        "tools": [FUNCTION, {"type": "web_search"}], "tool_choice": "none", "truncation": "auto", "top_logprobs": 2,
        "parallel_tool_calls": False, "prompt_cache_key": "k", "safety_identifier": "s",
        "text": {"format": SHAPE, "verbosity": "low"}, "previous_response_id": "resp_0",
    }  # fmt: skip
    echo = json.loads(msgspec.json.encode(create(**asked).echo))
    assert {name: echo[name] for name in asked} == asked
    assert echo["background"] is False


def test_fields_that_nobody_needs_are_passed_over() -> None:
    create(service_tier="flex", client_metadata={"a": 1}, prompt_cache_retention="24h", moderation={}, surprise=[1])
    create(stream_options={"include_obfuscation": False}, context_management=[{"type": "compaction"}])
