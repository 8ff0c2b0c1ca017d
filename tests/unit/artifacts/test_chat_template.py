"""A conversation becomes the prompt that Ollama makes of it: its own code made ``chat_template_cases.json``."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmodels.artifacts.chat_template import ChatTemplate, read_chat_template, render_chat, render_insert
from localmodels.core.chat import Image, Message, Text, Tool, ToolCall
from localmodels.core.errors import InvalidRequest, InvalidValue, ModelDamaged, Unsupported

TODAY = datetime.date(2026, 3, 1)
KNOWN = json.loads(Path(__file__).with_name("chat_template_cases.json").read_text(encoding="utf-8"))
CATALOG = tuple(
    Tool(function["name"], function.get("description", ""), function["parameters"])
    for function in (tool["function"] for tool in KNOWN["tools"])
)


def message(sent: dict[str, Any]) -> Message:
    calls = (
        ToolCall(call.get("id", ""), call["function"]["name"], json.dumps(call["function"]["arguments"]))
        for call in sent.get("tool_calls", ())
    )
    return Message(
        sent["role"],
        (Text(sent["content"]),),
        thinking=sent.get("thinking", ""),
        tool_calls=tuple(calls),
        tool_call_id=sent.get("tool_call_id", ""),
        tool_name=sent.get("tool_name", ""),
    )


CONVERSATIONS = [tuple(map(message, sent)) for sent in KNOWN["conversations"]]


def user(text: str, *images: bytes) -> Message:
    return Message("user", (Text(text), *map(Image, images)))


def assistant(text: str, **more: Any) -> Message:
    return Message("assistant", (Text(text),), **more)


def chat(template: str, *messages: Message, **more: Any) -> str:
    return render_chat(read_chat_template(template), messages, today=TODAY, **more).text


def render(template: ChatTemplate, case: dict[str, Any]) -> str:
    if "suffix" in case:
        return render_insert(template, case["prompt"], case["suffix"], think=case["think"], today=TODAY)
    turns, tools = CONVERSATIONS[case["conversation"]], CATALOG if case["tools"] else ()
    return render_chat(template, turns, tools=tools, think=case["think"], today=TODAY).text


@pytest.mark.parametrize("case", KNOWN["cases"], ids=lambda case: f"{case['name']}-{case.get('conversation')}")
def test_as_ollama(case: dict[str, Any]) -> None:
    source = case.get("template", KNOWN["templates"].get(case["name"]))
    if case.get("fails") == "read":
        with pytest.raises(InvalidRequest):
            read_chat_template(source)
        return
    template = read_chat_template(source)
    assert sorted(template.names) == case["names"]
    assert list(template.thinking_tags) == case["tags"]
    assert template.tool_tag == case["tool_tag"]
    if case.get("fails") == "run":
        with pytest.raises(ModelDamaged):
            render(template, case)
    else:
        assert render(template, case) == case["text"]


@pytest.mark.parametrize(
    ("source", "capabilities"),
    [
        ("{{ .Prompt }}", set()),
        ("{{ .Prompt }}{{ .Suffix }}", {"insert"}),
        ("{{ range .Messages }}{{ end }}{{ $.Tools }}", {"tools"}),
        ("{{ range .Messages }}{{ if .Thinking }}<t>{{ .Thinking }}</t>{{ end }}{{ end }}", {"thinking"}),
        ("{{ range .Messages }}{{ if .Thinking }}<t>{{ .Thinking }}{{ end }}{{ end }}", set()),
        ("{{ .Thinking }}", set()),
    ],
)
def test_a_template_shows_what_the_model_can_do(source: str, capabilities: set[str]) -> None:
    assert read_chat_template(source).capabilities == capabilities


def test_where_thoughts_are_shown_thinking_is_on_unless_told_otherwise() -> None:
    source = (
        "{{ range .Messages }}{{ if .Thinking }}<t>{{ .Thinking }}</t>{{ end }}{{ end }}{{ .Think }} {{ .ThinkLevel }}"
    )
    assert chat(source, user("q")) == "true medium"
    assert chat(source, user("q"), think=False) == "false "
    assert chat(source, user("q"), think="high") == "true high"
    assert chat("{{ range .Messages }}{{ end }}{{ .IsThinkSet }}", user("q")) == "false"


def test_an_answer_that_was_begun_is_gone_on_with() -> None:
    assert chat("Q {{ .Prompt }} A {{ .Response }} END", user("q"), assistant("I th")) == "Q q A I th"


@pytest.mark.parametrize(
    ("source", "prompt"),
    [
        ("{{ if .System }}{{ .System }}{{ .Response }}x{{ else }}{{ .Prompt }}|{{ .Response }}y{{ end }}z", "q|"),
        ("{{ if .Prompt }}{{ .Prompt }}{{ .Response }}x{{ else if .System }}y{{ end }}z", "q"),
    ],
)
def test_each_way_through_a_template_ends_at_its_own_answer(source: str, prompt: str) -> None:
    assert chat(source, user("q")) == prompt


def test_functions_work_in_templates_of_one_exchange() -> None:
    assert chat("{{ currentDate }} {{ json .Prompt }}", user("q")) == '2026-03-01 "q"'


# Pictures

MESSAGES = "{{ range .Messages }}{{ .Content }}({{ len .Images }});{{ end }}"


def test_pictures_are_marked_in_front_or_where_the_text_says() -> None:
    prompt = render_chat(
        read_chat_template(MESSAGES),
        (user("two", b"1", b"2"), assistant("ok"), user("here [img] and [img]", b"3", b"4", b"5")),
        today=TODAY,
    )
    assert prompt.text == "[img-0][img-1]two(2);ok(0);[img-4]here [img-2] and [img-3](3);"
    assert [image.data for image in prompt.images] == [b"1", b"2", b"3", b"4", b"5"]


def test_pictures_in_a_template_of_one_exchange() -> None:
    assert chat("{{ .Prompt }}:", user("see", b"1")) == "[img-0]see:"


def test_joined_messages_lose_nothing() -> None:
    calls = (ToolCall("1", "f", "{}"),)
    text = chat(
        "{{ range .Messages }}{{ .Role }} {{ .Thinking }} {{ .Content }} {{ len .ToolCalls }};{{ end }}",
        assistant("a", thinking="t"),
        assistant("b", tool_calls=calls),
        Message("tool", (Text("1"),)),
        Message("tool", (Text("2"),)),
    )
    assert text == "assistant t a\n\nb 1;tool  1 0;tool  2 0;"


# Tools

TOOLS = (
    "{{ range .Tools }}{{ .Function }}{{ end }}"
    "{{ range .Messages }}{{ range .ToolCalls }}{{ .Function.Arguments }}{{ end }}{{ end }}"
)


def test_a_function_prints_as_json() -> None:
    tool = Tool("f", "does < more", {"type": "object", "properties": {"b": {"type": "string", "minLength": 3}}})
    assert chat(TOOLS, user("q"), tools=(tool,)) == (
        '{"name":"f","description":"does \\u003c more","parameters":{"type":"object",'
        '"properties":{"b":{"type":"string"}}}}'
    )


def test_arguments_print_sorted_with_go_s_numbers() -> None:
    call = ToolCall("1", "f", '{"z": 1, "a": [1.0, 1e21, 0.0000001, 12345678901], "é": {"y": null, "x": true}}')
    assert chat(TOOLS, assistant("", tool_calls=(call,))) == (
        '{"a":[1,1e+21,1e-7,12345678901],"z":1,"é":{"x":true,"y":null}}'
    )


@pytest.mark.parametrize(
    "arguments", ["{", "[]", "1", '"a"', '{"a": NaN}', '{"a": 1', "nul", "[" * 5000, '{"\ud800": 1}']
)
def test_arguments_that_are_no_object_are_refused(arguments: str) -> None:
    with pytest.raises(InvalidRequest, match="the arguments of the tool call 'f' must be a JSON object") as refused:
        chat(TOOLS, assistant("", tool_calls=(ToolCall("1", "f", arguments),)))
    assert refused.value.param == "messages"


def test_arguments_nested_too_deep_are_refused() -> None:
    with pytest.raises(InvalidValue, match="nested more than 64 deep"):
        chat(TOOLS, assistant("", tool_calls=(ToolCall("1", "f", '{"a":' + "[" * 100 + "]" * 100 + "}"),)))


def test_a_number_that_no_prompt_can_say_is_refused() -> None:
    with pytest.raises(InvalidValue, match="a number is too large"):
        chat(TOOLS, assistant("", tool_calls=(ToolCall("1", "f", '{"a":' + "9" * 400 + "}"),)))


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": 1}, "tools[0].parameters.type must be a text, not 1"),
        ({"properties": []}, "tools[0].parameters.properties must be an object, not []"),
        ({"properties": {"a": True}}, "tools[0].parameters.properties.a must be an object, not True"),
        ({"properties": {"a": {"type": {}}}}, "tools[0].parameters.properties.a.type must be a list, not {}"),
        ({"properties": {"a": {"enum": "x"}}}, "tools[0].parameters.properties.a.enum must be a list, not 'x'"),
        ({"required": ["a", 1]}, "tools[0].parameters.required must be a text, not 1"),
        ({"properties": {"a": {"anyOf": [1]}}}, "tools[0].parameters.properties.a.anyOf must be an object, not 1"),
    ],
)
def test_a_schema_that_no_prompt_can_say_is_refused_by_name(schema: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        chat(TOOLS, user("q"), tools=(Tool("f", "", schema),))
    assert refused.value.message == words
    assert refused.value.param == "tools"


def test_a_schema_nested_too_deep_is_refused() -> None:
    schema: dict[str, Any] = {}
    for _ in range(200):
        schema = {"properties": {"a": schema}}
    with pytest.raises(InvalidValue, match="nested more than 64 deep"):
        chat(TOOLS, user("q"), tools=(Tool("f", "", schema),))


# Filling in


def test_filling_in_needs_a_place_for_the_suffix() -> None:
    template = read_chat_template("<{{ .Prompt }}|{{ .Suffix }}>")
    assert render_insert(template, "a", "b", today=TODAY) == "<a|b>"
    with pytest.raises(Unsupported, match="no place for a suffix"):
        render_insert(read_chat_template("{{ .Prompt }}"), "a", "b", today=TODAY)


# What holds for all conversations

TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
TURNS = st.lists(
    st.builds(Message, st.sampled_from(["system", "user", "assistant"]), st.builds(lambda t: (Text(t),), TEXTS))
)


@given(TURNS)
def test_every_text_reaches_the_prompt(turns: list[Message]) -> None:
    prompt = chat("{{ range .Messages }}{{ .Content }}\n{{ end }}", *turns)
    assert all(turn.text in prompt for turn in turns)


@given(TURNS)
def test_the_last_question_and_the_answer_begun_end_the_prompt(turns: list[Message]) -> None:
    begun = (user("Q?"), assistant("and so"))
    assert chat("<{{ .System }}>{{ .Prompt }}:{{ .Response }}!", *turns, *begun).endswith("Q?:and so")


@pytest.mark.parametrize(
    ("calls", "texts"),
    [
        ("<call>{{ range .ToolCalls }}{{ .Function.Name }}}\n{{ end }}</call>", ("<call>", "}\n</call>")),
        ("{{ range .ToolCalls }}<call>{{ .Function.Name }}}\n</call>{{ end }}", ("<call>", "}\n</call>")),
        ("[CALLS] [{{ range .ToolCalls }}{{ .Function.Name }}{{ end }}]</s>", ("[CALLS] [", "]</s>")),
        ("<s>{{ range .ToolCalls }}<c>{{ .ID }}<a>{{ .Function.Name }}<z>{{ end }}</s>", ("<s><c>", "<z></s>")),
        (
            "{{ if .Content }}<one>{{ else }}<other>{{ end }}{{ range .ToolCalls }}{{ .ID }}{{ end }}",
            ("<one><other>", ""),
        ),
        ("<call>", ("<call>", "")),
    ],
)
def test_what_stands_around_a_call(calls: str, texts: tuple[str, str]) -> None:
    source = f"{{{{ range .Messages }}}}{{{{ if .ToolCalls }}}}{calls}{{{{ end }}}}<end>{{{{ end }}}}"
    assert read_chat_template(source).tool_texts == texts
    assert read_chat_template("{{ .Prompt }}").tool_texts == ("", "")
