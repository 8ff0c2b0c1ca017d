"""Items of the Responses API: what they become, in which order, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from localmodels.core.chat import ChatRequest, Image, Message, Text, ToolCall
from localmodels.core.errors import InvalidRequest, InvalidValue, LocalModelsError, NotFound, Unsupported
from localmodels.dialects.responses.items import sealed
from localmodels.dialects.responses.requests import Create, read_chat, read_create

PIXEL = "data:image/png;base64,iVBORw0KGgo="


def create(**fields: Any) -> Create:
    return read_create(json.dumps({"model": "m", "input": "hi", **fields}).encode())


def read(*items: Any, **fields: Any) -> tuple[Message, ...]:
    return create(input=list(items), **fields).after().messages


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def said_in(part: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": [part]}


def call(call_id: str, name: str = "f", arguments: str = "{}") -> dict[str, Any]:
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}


def output(call_id: str, text: Any = "done") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": text}


def thought(text: str, **fields: Any) -> dict[str, Any]:
    content = [{"type": "reasoning_text", "text": text}] if text else []
    return {"type": "reasoning", "summary": [], "content": content, **fields}


def said(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}


def test_a_text_is_one_message_and_instructions_come_first() -> None:
    assert create(instructions="be brief").after().messages == (
        Message("system", (Text("be brief"),)),
        Message("user", (Text("hi"),)),
    )


def test_parts_and_roles() -> None:
    parts = [
        {"type": "input_text", "text": "what is it?"},
        {"type": "input_image", "image_url": PIXEL, "detail": "low"},
    ]
    assert read({"role": "developer", "content": "be brief"}, {"role": "user", "content": parts}) == (
        Message("system", (Text("be brief"),)),
        Message("user", (Text("what is it?"), Image(b"\x89PNG\r\n\x1a\n", "image/png"))),
    )


def test_what_a_model_said_in_items_is_one_turn() -> None:
    turn = (thought("hm"), said("Let me look."), call("c1"), call("c2", "g", '{"a": 1}'))
    assert read(user("?"), *turn, output("c1"), output("c2", [{"type": "input_text", "text": "2"}]), user("!"))[
        1:4
    ] == (
        Message(
            "assistant", (Text("Let me look."),), "hm", (ToolCall("c1", "f", "{}"), ToolCall("c2", "g", '{"a": 1}'))
        ),
        Message("tool", (Text("done"),), tool_call_id="c1", tool_name="f"),
        Message("tool", (Text("2"),), tool_call_id="c2", tool_name="g"),
    )


def test_what_was_replayed_between_a_call_and_its_output_belongs_to_the_call() -> None:
    roles = [message.role for message in read(user("?"), call("c1"), said("I have called."), output("c1"))]
    assert roles == ["user", "assistant", "tool"]
    both = read(user("?"), call("c1"), call("c2"), output("c1"), said("One is there."), output("c2"))
    assert [message.role for message in both] == ["user", "assistant", "tool", "tool"]
    assert both[1].text == "One is there."


def test_a_turn_after_the_outputs_is_a_new_one() -> None:
    roles = [
        m.role for m in read(user("?"), call("c1"), output("c1"), thought("so"), call("c2"), output("c2"), said("x"))
    ]
    assert roles == ["user", "assistant", "tool", "assistant", "tool", "assistant"]


def test_two_texts_of_the_model_in_a_row_are_one_message() -> None:
    assert [message.text for message in read(user("?"), said("One."), said("Two."))] == ["?", "One.\n\nTwo."]


def test_a_thought_alone_is_a_turn() -> None:
    assert read(user("?"), thought("hm"), user("!"))[1] == Message("assistant", thinking="hm")


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (thought("", encrypted_content=sealed("ours")), "ours"),
        (thought("", encrypted_content="Z0FBQUFB", summary=[{"type": "summary_text", "text": "s"}]), "s"),
        (thought("", encrypted_content="no base64 at all"), ""),
        (thought("plain", encrypted_content=sealed("other")), "plain"),
    ],
)
def test_thoughts_come_back_as_far_as_they_can_be_read(item: Any, text: str) -> None:
    assert read(user("?"), item, said("x"))[1].thinking == text


def test_calls_of_custom_tools_and_of_those_in_a_namespace() -> None:
    custom = {"type": "custom_tool_call", "call_id": "c1", "name": "apply_patch", "input": "*** Begin\n"}
    named = {**call("c2", "read"), "namespace": "files"}
    result = {"type": "custom_tool_call_output", "call_id": "c1", "output": "ok"}
    turn, first, second = read(user("?"), custom, named, result, output("c2"))[1:]
    assert turn.tool_calls == (ToolCall("c1", "apply_patch", "*** Begin\n", True), ToolCall("c2", "files.read", "{}"))
    assert (first.tool_name, second.tool_name) == ("apply_patch", "files.read")


def test_what_hosted_tools_left_behind_is_passed_over_and_named() -> None:
    items = [
        user("?"),
        {"type": "web_search_call", "action": {"query": "x"}},
        {"type": "mcp_call", "output": {}},
        said("x"),
    ]
    sent = create(input=[*items, {"type": "web_search_call"}])
    assert sent.ignored_items == ("web_search_call", "mcp_call")
    assert [message.role for message in sent.after().messages] == ["user", "assistant"]


def test_a_reference_says_nothing_new_of_what_is_there() -> None:
    items = [{**user("?"), "id": "msg_1"}, {"type": "item_reference", "id": "msg_1"}]
    assert len(read(*items)) == 1
    reference = create(input=[{"type": "item_reference", "id": "msg_0"}])
    assert [message.text for message in reference.after([{**said("before"), "id": "msg_0"}]).messages] == ["before"]
    with pytest.raises(NotFound, match="msg_0"):
        reference.after()


@pytest.mark.parametrize(
    ("items", "kind", "param"),
    [
        ([call("c1")], InvalidRequest, "input"),
        ([user("?"), call("c1"), said("x")], InvalidRequest, "input"),
        ([{"type": "function_call", "name": "f"}], InvalidRequest, "input[0].call_id"),
        ([{"type": "function_call", "call_id": "c"}], InvalidRequest, "input[0].name"),
        ([output("")], InvalidRequest, "input[0].call_id"),
        ([{"role": "king", "content": "x"}], InvalidValue, "input[0].role"),
        ([{"content": "x"}], InvalidRequest, "input[0].role"),
        ([said_in({"type": "input_text", "text": 3})], InvalidValue, "input[0].content[0].text"),
        ([said_in({"type": "input_file"})], InvalidRequest, "input[0].content[0]"),
        ([said_in({"type": "input_image", "file_id": "f"})], InvalidRequest, "input[0].content[0]"),
        ([said_in({"type": "input_image", "image_url": "http://x/y"})], InvalidRequest,
         "input[0].content[0].image_url"),
        ([said_in({"type": "sound"})], InvalidValue, "input[0].content[0]"),
        ([3], InvalidValue, "input[0]"),
        ([], InvalidRequest, "input"),
        ([{"type": "web_search_call"}], InvalidRequest, "input"),
        ([{"type": "item_reference", "id": ["x"]}], NotFound, "input[0].id"),
    ],
)  # fmt: skip
def test_what_is_no_conversation_is_refused_by_name(items: Any, kind: type[LocalModelsError], param: str) -> None:
    with pytest.raises(kind) as raised:
        read(*items)
    assert raised.value.param == param


def test_where_nothing_is_kept_nobody_goes_on_from_it() -> None:
    with pytest.raises(Unsupported) as raised:
        read_chat(b'{"model":"m","input":"hi","previous_response_id":"resp_1"}')
    assert raised.value.param == "previous_response_id"
    assert isinstance(read_chat(b'{"model":"m","input":"hi"}'), ChatRequest)
