"""Anthropic's dialect: what requests mean, what is refused and how, and what errors look like."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from localmodels.core import errors
from localmodels.core.catalog import Model
from localmodels.core.chat import (
    Answer,
    ChatRequest,
    Chunk,
    Done,
    Format,
    Image,
    Message,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    Usage,
    unfold,
)
from localmodels.core.errors import InvalidRequest, InvalidValue, LocalModelsError, Unsupported
from localmodels.core.options import Options
from localmodels.dialects.anthropic import Anthropic
from localmodels.dialects.anthropic.models import Page, read_page
from localmodels.dialects.protocol import Stamp

DIALECT = Anthropic()
STAMP = Stamp("msg_7", "tiny", 0, request_id="req_1")
HELLO = [{"role": "user", "content": "Hello!"}]
PIXEL = b64encode(b"\x89PNG\r\n\x1a\n").decode()
NOW = {"name": "now", "description": "The time.", "input_schema": {"type": "object", "properties": {}}}
SEARCH = {"type": "web_search_20250305", "name": "web_search"}
USED = {"type": "tool_use", "id": "toolu_1", "name": "now", "input": {"zone": "UTC"}}


def read(**fields: Any) -> ChatRequest:
    return DIALECT.read_chat(msgspec.json.encode({"model": "tiny", "max_tokens": 64, "messages": HELLO, **fields}))


def said(*blocks: dict[str, Any], role: str = "user") -> tuple[Message, ...]:
    """What one message of these blocks becomes, between two that keep it from being the last."""
    return read(messages=[{"role": role, "content": list(blocks)}]).messages


def refused(kind: type[LocalModelsError], **fields: Any) -> str:
    with pytest.raises(kind) as raised:
        read(**fields)
    body = msgspec.json.decode(DIALECT.write_error(raised.value))
    assert DIALECT.status(raised.value) == 400
    assert body["error"]["type"] == "invalid_request_error"
    assert str(raised.value.param) in body["error"]["message"]
    return str(raised.value.param)


def written(answer: Answer, **fields: Any) -> dict[str, Any]:
    """The whole answer to a request with these fields."""
    whole: dict[str, Any] = msgspec.json.decode(DIALECT.write_chat_answer(STAMP, read(**fields), answer))
    return whole


def test_the_least_that_is_asked() -> None:
    assert read() == ChatRequest(
        "tiny",
        (Message("user", (Text("Hello!"),)),),
        options=Options(num_predict=64),
        stream=False,
        think_wish=True,
        early_prompt=True,
    )


def test_the_system_text_comes_first() -> None:
    assert read(system="Be brief.").messages[0] == Message("system", (Text("Be brief."),))
    blocks = [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "b"}]
    assert read(system=blocks).messages[0] == Message("system", (Text("a"), Text("b")))
    assert read(system=[]).messages == read().messages


def test_a_hash_that_changes_with_each_request_does_not_change_the_prompt() -> None:
    head = "x-anthropic-billing-header: cc_version=2.1.101.e51; cc_entrypoint=cli; cch={}; You are Claude Code."
    one, other = (read(system=[{"type": "text", "text": head.format(text)}]) for text in ("a5145", "09b3e"))
    assert one == other
    assert "cc_version=2.1.101.e51" in one.messages[0].text
    assert "You are Claude Code." in one.messages[0].text
    assert read(system="My cch=a5145; is mine").messages[0].text == "My cch=a5145; is mine"


def test_results_of_tools_are_messages_before_what_is_said() -> None:
    asked = [
        *HELLO,
        {"role": "assistant", "content": [{"type": "text", "text": "Wait."}, USED]},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "And?"},
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": "noon"},
                {"type": "tool_result", "tool_use_id": "toolu_2", "content": [{"type": "text", "text": "no"}],
                 "is_error": True},
                {"type": "tool_result", "tool_use_id": "toolu_3", "is_error": True},
                {"type": "tool_result", "tool_use_id": "toolu_4"},
            ],
        },
    ]  # fmt: skip
    assert read(messages=asked).messages[1:] == (
        Message("assistant", (Text("Wait."),), tool_calls=(ToolCall("toolu_1", "now", '{"zone":"UTC"}'),)),
        Message("tool", (Text("noon"),), tool_call_id="toolu_1"),
        Message("tool", (Text("Error: no"),), tool_call_id="toolu_2"),
        Message("tool", (Text("Error: "),), tool_call_id="toolu_3"),
        Message("tool", tool_call_id="toolu_4"),
        Message("user", (Text("And?"),)),
    )


def test_neighbours_of_one_role_are_one_turn() -> None:
    asked = [
        {"role": "user", "content": "a"},
        {"role": "user", "content": [{"type": "text", "text": "b"}]},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "x"}]},
        {"role": "assistant", "content": "The answer"},
        {"role": "assistant", "content": " is"},
    ]
    assert read(messages=asked).messages == (
        Message("user", (Text("a\n\nb"),)),
        Message("assistant", (Text("The answer is"),), thinking="hm"),
    )


def test_a_system_message_in_the_middle_stays_there() -> None:
    middle = [*HELLO, {"role": "system", "content": [{"type": "text", "text": "Be brief."}]}, *HELLO]
    assert [message.role for message in read(messages=middle).messages] == ["user", "system", "user"]
    older = said(
        {"type": "text", "text": "a"},
        {"type": "mid_conv_system", "content": [{"type": "text", "text": "Be brief."}]},
        {"type": "text", "text": "b"},
    )
    spoken = [(message.role, message.text) for message in older]
    assert spoken == [("user", "a"), ("system", "Be brief."), ("user", "b")]


def test_what_a_model_can_read_becomes_text_or_a_picture() -> None:
    document = {"type": "document", "title": "Notes", "context": "Mine.", "source": {"type": "text", "data": "abc"}}
    inner = {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "x"}]}}
    found = {"type": "search_result", "title": "T", "source": "S", "content": [{"type": "text", "text": "y"}]}
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
    (message,) = said(document, inner, found, picture, {"type": "text", "text": "What is it?"})
    assert message.parts == (
        Text("Notes\n"), Text("Mine.\n"), Text("abc"), Text("x"), Text("T\n"), Text("S\n"), Text("y"),
        Image(b"\x89PNG\r\n\x1a\n", "image/png"), Text("What is it?"),
    )  # fmt: skip
    reference = {"type": "tool_reference", "tool_name": "n"}
    (message,) = said({"type": "tool_result", "tool_use_id": "t", "content": [picture, reference]})
    assert message.parts == (Image(b"\x89PNG\r\n\x1a\n", "image/png"), Text("n"))


def test_traces_of_hosted_tools_and_sealed_thoughts_say_nothing() -> None:
    (message,) = said(
        {"type": "redacted_thinking", "data": "EvAB"},
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}},
        {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": {"error_code": "unavailable"}},
        {"type": "text", "text": "Found."},
        role="assistant",
    )
    assert message == Message("assistant", (Text("Found."),))


@pytest.mark.parametrize(
    ("block", "param"),
    [
        ({"type": "image", "source": {"type": "url", "url": "http://127.0.0.1/x"}}, "source.type"),
        ({"type": "image", "source": {"type": "file", "file_id": "f"}}, "source.type"),
        ({"type": "document", "source": {"type": "base64", "data": "JVBE"}}, "source.type"),
        ({"type": "document", "source": {"type": "url", "url": "http://127.0.0.1/x"}}, "source.type"),
    ],
)
def test_what_lies_elsewhere_or_is_no_text_is_refused(block: dict[str, Any], param: str) -> None:
    asked = [{"role": "user", "content": [block]}]
    assert refused(Unsupported, messages=asked) == f"messages[0].content[0].{param}"
    wrapped = [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [block]}]}]
    assert refused(Unsupported, messages=wrapped) == f"messages[0].content[0].content[0].{param}"


@pytest.mark.parametrize(
    ("block", "kind", "param"),
    [
        ({"type": "text"}, InvalidRequest, "text"),
        ({"type": "nonsense" * 99}, InvalidValue, "type"),
        ({"type": "image"}, InvalidRequest, "source"),
        ({"type": "image", "source": "http://x"}, InvalidValue, "source"),
        ({"type": "image", "source": {"type": "base64"}}, InvalidRequest, "source.data"),
        ({"type": "image", "source": {"type": "base64", "data": "%"}}, InvalidValue, "source.data"),
        ({"type": "tool_result", "content": "x"}, InvalidRequest, "tool_use_id"),
        ({"type": "tool_result", "tool_use_id": "t", "content": 7}, InvalidValue, "content"),
        ({"type": "tool_result", "tool_use_id": "t", "content": [7]}, InvalidValue, "content"),
        ({"type": "tool_result", "tool_use_id": "t", "content": [{"type": "x"}]}, InvalidValue, "content[0].type"),
        (USED, InvalidRequest, "type"),
    ],
)
def test_a_users_hostile_block_is_refused_by_name(block: Any, kind: type[LocalModelsError], param: str) -> None:
    asked = [{"role": "user", "content": [{"type": "text", "text": "a"}, block]}]
    assert refused(kind, messages=asked) == f"messages[0].content[1].{param}"


@pytest.mark.parametrize(
    ("block", "kind", "param"),
    [
        ({**USED, "input": "text"}, InvalidValue, "input"),
        ({**USED, "input": None}, InvalidValue, "input"),
        ({**USED, "name": ""}, InvalidRequest, "name"),
        ({**USED, "id": None}, InvalidRequest, "id"),
        ({"type": "tool_result", "tool_use_id": "t"}, InvalidRequest, "type"),
        ({"type": "image", "source": {"type": "base64", "data": PIXEL}}, InvalidRequest, "type"),
    ],
)
def test_a_models_hostile_block_is_refused_by_name(block: Any, kind: type[LocalModelsError], param: str) -> None:
    asked = [*HELLO, {"role": "assistant", "content": [block]}]
    assert refused(kind, messages=asked) == f"messages[1].content[0].{param}"


@pytest.mark.parametrize(
    ("fields", "kind", "param"),
    [
        ({"max_tokens": None}, InvalidRequest, "max_tokens"),
        ({"max_tokens": -1}, InvalidValue, "max_tokens"),
        ({"max_tokens": "many"}, InvalidValue, "max_tokens"),
        ({"model": ""}, InvalidRequest, "model"),
        ({"messages": []}, InvalidRequest, "messages"),
        ({"messages": [{"role": "user", "content": []}]}, InvalidRequest, "messages"),
        ({"messages": [{"content": "x"}]}, InvalidRequest, "messages[0].role"),
        ({"messages": [{"role": "king", "content": "x"}]}, InvalidValue, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 7}]}, InvalidValue, "messages[0].content"),
        ({"system": [{"type": "image"}]}, InvalidValue, "system[0].type"),
        ({"temperature": 9}, InvalidValue, "temperature"),
        ({"stop_sequences": ["x"] * 17}, InvalidValue, "stop_sequences"),
        ({"stop_sequences": [1]}, InvalidValue, "stop_sequences"),
        ({"tools": [{"name": "now"}]}, InvalidRequest, "tools[0].input_schema"),
        ({"tools": [{**NOW, "name": ""}]}, InvalidRequest, "tools[0].name"),
        ({"tools": [NOW] * 257}, InvalidValue, "tools"),
        ({"tools": [NOW, {**NOW, "input_schema": {"$ref": "#/no"}}]}, InvalidValue, "tools[1].input_schema"),
        ({"tool_choice": {"type": "any"}}, InvalidRequest, "tool_choice"),
        ({"tool_choice": {"type": "king"}}, InvalidValue, "tool_choice.type"),
        ({"tools": [SEARCH], "tool_choice": {"type": "tool", "name": "web_search"}}, InvalidRequest,
         "tool_choice.name"),
        ({"thinking": {"type": "much"}}, InvalidValue, "thinking.type"),
        ({"thinking": {"type": "enabled", "budget_tokens": 0}}, InvalidValue, "thinking.budget_tokens"),
        ({"output_config": {"effort": "huge"}}, InvalidValue, "output_config.effort"),
        ({"output_config": {"format": {"type": "xml"}}}, InvalidValue, "output_config.format.type"),
        ({"output_format": {"type": "json_schema"}}, InvalidRequest, "output_format.schema"),
        ({"truncation": "never"}, InvalidValue, "truncation"),
        ({"messages": [*HELLO, {"role": "assistant", "content": [USED]}]}, InvalidRequest, "messages[1]"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(fields: dict[str, Any], kind: type[LocalModelsError], param: str) -> None:
    assert refused(kind, **fields) == param


def test_fields_of_no_use_here_are_passed_over() -> None:
    assert (
        read(
            metadata={"user_id": "u"},
            service_tier="auto",
            container=None,
            context_management={"edits": []},
            cache_control={"type": "ephemeral"},
            betas=["x"],
            inference_geo="eu",
            speed="fast",
            mcp_servers=[],
        )
        == read()
    )


def test_options_and_where_they_stand() -> None:
    asked = read(temperature=0.5, top_p=0.9, top_k=7, stop_sequences=["END"], options={"seed": 1, "min_p": 0.1})
    assert asked.options == Options(
        temperature=0.5, top_p=0.9, top_k=7, stop=("END",), num_predict=64, seed=1, min_p=0.1
    )
    assert read(stop_sequences=["a"], options={"stop": ["b"]}).options.stop == ("b",)
    assert read(max_tokens=0).options.num_predict == 0
    assert read(keep_alive="5m").keep_alive == 300


def test_tools_of_the_client_are_offered_and_the_others_named() -> None:
    asked = read(tools=[NOW, SEARCH, {**NOW, "name": "then", "type": "custom"}, {"type": "memory_20250818"}])
    assert asked.tools == (
        Tool("now", "The time.", {"type": "object", "properties": {}}),
        Tool("then", "The time.", {"type": "object", "properties": {}}),
    )
    assert asked.ignored_tools == ("web_search", "memory_20250818")


@pytest.mark.parametrize(
    ("sent", "choice", "parallel"),
    [
        ({"type": "auto"}, ToolChoice("auto"), None),
        ({"type": "any", "disable_parallel_tool_use": True}, ToolChoice("required"), False),
        ({"type": "none"}, ToolChoice("none"), None),
        ({"type": "tool", "name": "now", "disable_parallel_tool_use": False}, ToolChoice("function", "now"), True),
    ],
)
def test_which_tool_is_called(sent: dict[str, Any], choice: ToolChoice, parallel: bool | None) -> None:
    asked = read(tools=[NOW], tool_choice=sent)
    assert (asked.tool_choice, asked.parallel_tool_calls) == (choice, parallel)


@pytest.mark.parametrize(
    ("thinking", "effort", "think", "budget"),
    [
        (None, None, None, None),
        ({"type": "adaptive"}, None, True, None),
        ({"type": "between_tools"}, None, True, None),
        ({"type": "enabled", "budget_tokens": 2048}, None, True, 2048),
        ({"type": "enabled", "budget_tokens": 2048}, "xhigh", "max", 2048),
        ({"type": "disabled"}, "high", False, None),
        (None, "low", "low", None),
    ],
)
def test_how_hard_to_think(thinking: Any, effort: str | None, think: Any, budget: int | None) -> None:
    asked = read(thinking=thinking, output_config={"effort": effort})
    assert (asked.think, asked.think_budget, asked.think_wish) == (think, budget, True)


@pytest.mark.parametrize("place", ["output_config", "output_format"])
def test_the_shape_of_the_answer(place: str) -> None:
    shape = {"type": "json_schema", "schema": {"type": "object"}}
    asked = read(**{place: {"format": shape} if place == "output_config" else shape})
    assert asked.format == Format({"type": "object"})


def test_a_count_needs_no_limit() -> None:
    body = msgspec.json.encode({"model": "tiny", "messages": HELLO, "tools": [NOW]})
    asked = DIALECT.read_count(body)
    assert (asked.messages, asked.tools[0].name) == (read().messages, "now")
    assert DIALECT.read_count(DIALECT.write_count_request(asked)) == asked
    assert DIALECT.read_count_answer(DIALECT.write_count(7)) == 7


@pytest.mark.parametrize(
    ("done", "reason", "stop"),
    [
        (Done("stop"), "end_turn", None),
        (Done("stop", stop="END"), "stop_sequence", "END"),
        (Done("stop", stop="<|im_end|>"), "end_turn", None),
        (Done("length", Usage(9, 64)), "max_tokens", None),
        (Done("length", Usage(9, 63)), "model_context_window_exceeded", None),
        (Done("length"), "max_tokens", None),
        (Done("tool_calls"), "end_turn", None),
        (Done("load"), "end_turn", None),
    ],
)
def test_why_an_answer_ended(done: Done, reason: str, stop: str | None) -> None:
    whole = written(Answer(done, "x"), stop_sequences=["END"])
    assert (whole["stop_reason"], whole["stop_sequence"]) == (reason, stop)


def test_an_answer_that_calls_ends_in_a_call() -> None:
    call = ToolCall("toolu_1", "now", "{}")
    assert written(Answer(Done("stop"), tool_calls=(call,)))["stop_reason"] == "tool_use"
    assert written(Answer(Done("length"), tool_calls=(call,)))["stop_reason"] == "max_tokens"


def test_a_call_that_cannot_be_run_is_text() -> None:
    calls = (ToolCall("a", "now", "{broken"), ToolCall("b b", "now", '{"zone":1}'), ToolCall("", "", "{}"))
    assert written(Answer(Done("tool_calls"), "Hm. ", tool_calls=calls))["content"] == [
        {"type": "text", "text": 'Hm. {"name":"now","arguments":"{broken"}', "citations": None},
        {"type": "tool_use", "id": "b_b", "name": "now", "input": {"zone": 1}},
        {"type": "text", "text": '{"name":"","arguments":"{}"}', "citations": None},
    ]


def test_thoughts_are_sealed_and_may_be_hidden() -> None:
    answer = Answer(Done("stop"), "42", "Hm.")
    shown, hidden = written(answer), written(answer, thinking={"type": "adaptive", "display": "omitted"})
    assert [block.get("thinking") for block in shown["content"]] == ["Hm.", None]
    assert hidden["content"][0] == {"type": "thinking", "thinking": "", "signature": shown["content"][0]["signature"]}
    assert shown["content"][0]["signature"]


def test_tokens_from_the_cache_are_counted_apart() -> None:
    usage = written(Answer(Done("stop", Usage(100, 7, 60, 5)), "x"))["usage"]
    assert usage == {
        "input_tokens": 40,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 60,
        "output_tokens": 7,
        "output_tokens_details": {"thinking_tokens": 5},
        "service_tier": "standard",
    }
    assert written(Answer(Done("stop"), "x"))["usage"].keys() == usage.keys() - {"output_tokens_details"}


def test_the_prompt_is_counted_first_where_it_is_known() -> None:
    def start(*events: Any) -> dict[str, Any]:
        writer = DIALECT.chat_writer(STAMP, read())
        first = writer.write(events[0]).split(b"\n")[1]
        usage: dict[str, Any] = msgspec.json.decode(first.removeprefix(b"data: "))["message"]["usage"]
        return usage

    assert start(Chunk(prompt=Usage(10, 0, 4)))["input_tokens"] == 6
    assert start(Chunk(prompt=Usage(10, 0, 4)))["cache_read_input_tokens"] == 4
    assert start(Chunk("x"))["input_tokens"] == 0
    assert start(Done("stop", Usage(10, 3)))["input_tokens"] == 10


def test_calls_are_told_before_what_is_said_after_them() -> None:
    called, _ = unfold(Answer(Done(), tool_calls=(ToolCall("a", "now", "{}"),)))
    writer = DIALECT.chat_writer(STAMP, read())
    data = b"".join(map(writer.write, (called, Chunk("Done."), Done("tool_calls"))))
    starts = [msgspec.json.decode(line[6:]) for line in data.split(b"\n") if b'"content_block_start"' in line[:40]]
    assert [block["content_block"]["type"] for block in starts] == ["tool_use", "text"]


def kinds(root: type[LocalModelsError]) -> Iterator[type[LocalModelsError]]:
    yield root
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:  # what a room has for itself alone says nothing to clients
            yield from kinds(child)


def example(kind: type[LocalModelsError]) -> LocalModelsError:
    if kind is errors.ContextLengthExceeded:
        return errors.ContextLengthExceeded(9, 8)
    if kind is errors.OutOfMemory:
        return errors.OutOfMemory(2, 1)
    return kind("why")


STATUSES = {
    errors.InvalidRequest: (400, "invalid_request_error"),
    errors.InvalidValue: (400, "invalid_request_error"),
    errors.Unauthenticated: (401, "authentication_error"),
    errors.Forbidden: (403, "permission_error"),
    errors.ModelNotFound: (404, "not_found_error"),
    errors.Conflict: (409, "conflict_error"),
    errors.TooLarge: (413, "request_too_large"),
    errors.RateLimited: (429, "rate_limit_error"),
    errors.QuotaExceeded: (429, "rate_limit_error"),
    errors.LocalModelsError: (500, "api_error"),
    errors.BackendError: (502, "api_error"),
    errors.BackendTimeout: (504, "timeout_error"),
    errors.Unavailable: (529, "overloaded_error"),
    errors.OutOfMemory: (529, "overloaded_error"),
    errors.DiskFull: (529, "overloaded_error"),
}


@pytest.mark.parametrize("kind", STATUSES)
def test_errors_have_anthropics_status_and_type(kind: type[LocalModelsError]) -> None:
    error = example(kind)
    body = msgspec.json.decode(DIALECT.write_error(error))
    assert (DIALECT.status(error), body["error"]["type"]) == STATUSES[kind]
    assert body["error"]["details"] == {"error_code": kind.code}


@pytest.mark.parametrize("kind", [*kinds(LocalModelsError)])
def test_every_error_is_read_back_as_what_it_is(kind: type[LocalModelsError]) -> None:
    error = example(kind)
    read_back = DIALECT.read_error(DIALECT.status(error), DIALECT.write_error(error))
    assert read_back.code == kind.code
    assert read_back.message == error.message
    in_band = DIALECT.chat_writer(STAMP, read()).fail(error)
    name, data = in_band.decode().removesuffix("\n\n").split("\n")
    assert name == "event: error"
    assert msgspec.json.decode(data.removeprefix("data: "))["request_id"] == "req_1"
    with pytest.raises(LocalModelsError) as raised:
        DIALECT.chat_reader().feed(in_band)
    assert raised.value.code == kind.code


MODELS = [Model(name, 1, "d", "2026-11-21T00:00:00Z", context_length=512) for name in "abcde"]


@pytest.mark.parametrize(
    ("query", "names", "more"),
    [
        ({}, "abcde", False),
        ({"limit": "2"}, "ab", True),
        ({"limit": "2", "after_id": "b"}, "cd", True),
        ({"limit": "2", "after_id": "d"}, "e", False),
        ({"limit": "2", "before_id": "e"}, "cd", True),
        ({"limit": "9", "before_id": "c"}, "ab", False),
        ({"after_id": "e"}, "", False),
    ],
)
def test_pages_of_models(query: dict[str, str], names: str, more: bool) -> None:
    body = DIALECT.write_models(MODELS, read_page(query))
    page = msgspec.json.decode(body)
    assert DIALECT.read_models(body) == tuple(names)
    assert page["has_more"] is more
    assert (page["first_id"], page["last_id"]) == ((names[0], names[-1]) if names else (None, None))


@pytest.mark.parametrize(
    "query", [{"limit": "0"}, {"limit": "1001"}, {"limit": "x"}, {"after_id": "a", "before_id": "b"}]
)
def test_a_page_that_is_none_is_refused(query: dict[str, str]) -> None:
    with pytest.raises((InvalidValue, InvalidRequest)):
        read_page(query)
    with pytest.raises(InvalidRequest, match="after_id"):
        DIALECT.write_models(MODELS, Page(after="z"))
