"""The ``anthropic`` package as a judge, unmodified, in its blocking and its asynchronous form."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import anthropic
import httpx2
import pytest
from anthropic.types import Message
from pydantic import BaseModel
from tests.acceptance.gateway import world
from tests.acceptance.judges import Awaiting, Blocking, Judge
from tests.acceptance.serving import Served, serve

from localmodels.backends.fake import Break, Script
from localmodels.core.chat import Chunk, Done, Usage

HELLO = [{"role": "user", "content": "Hello!"}]
WHY = [{"role": "user", "content": "Why is the sky blue?"}]
ASKED = [{"role": "user", "content": "What is the weather in Paris?"}]
WEATHER = {
    "name": "get_weather",
    "description": "Get the current weather in a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 2}
GREEDY = {"extra_body": {"temperature": 0}}
LONG = [
    turn
    for i in range(40)
    for turn in ({"role": "user", "content": f"Turn {i}?"}, {"role": "assistant", "content": "Yes."})
]
# A grammar lets a model that makes no sense write a lot of white space.
ROOMY = {"model": "tiny", "max_tokens": 1000, "messages": HELLO, "extra_body": {"options": {"seed": 1}}}


class Reading(BaseModel):
    """Short whatever a model makes of it."""

    sky: Literal["clear", "cloudy"]
    wet: bool


@pytest.fixture(params=["sync", "async"])
def judge(request: pytest.FixtureRequest, served: Served) -> Iterator[Judge]:
    settings: dict[str, Any] = {"base_url": served.url, "api_key": "any", "max_retries": 0, "timeout": 60}
    if request.param == "sync":
        with anthropic.Anthropic(**settings) as client:
            yield Blocking(client)
        return
    with asyncio.Runner() as loop:
        awaiting = anthropic.AsyncAnthropic(**settings)
        yield Awaiting(awaiting, loop)
        loop.run(awaiting.close())


def asked(arguments: dict[str, Any]) -> dict[str, Any]:
    return {"model": "endless", "max_tokens": 16, "messages": HELLO, **GREEDY, **arguments}


def create(judge: Judge, **arguments: Any) -> Message:
    answer = judge.ask(lambda client: client.messages.create(**asked(arguments)))
    assert isinstance(answer, Message)
    return answer


def streamed(judge: Judge, **arguments: Any) -> tuple[list[Any], Any]:
    """The events of a stream, and the message that the SDK puts together of them."""
    return judge.ask(lambda client: finished(client.messages.stream(**asked(arguments))))  # type: ignore[no-any-return]


def finished(manager: Any) -> Any:
    """Both; of the asynchronous SDK a coroutine that gives them."""
    if hasattr(manager, "__aenter__"):

        async def wait() -> tuple[list[Any], Any]:
            async with manager as stream:
                return [event async for event in stream], await stream.get_final_message()

        return wait()
    with manager as stream:
        return list(stream), stream.get_final_message()


def told(message: Any) -> list[dict[str, Any]]:
    """The blocks, without what the SDK adds and without the ids of calls, which are drawn anew each time."""
    kept = {"text": ("text",), "thinking": ("thinking",), "tool_use": ("name", "input")}
    return [{name: getattr(block, name) for name in ("type", *kept[block.type])} for block in message.content]


def text(message: Any) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def error(judge: Judge, kind: type[anthropic.APIStatusError], **arguments: Any) -> anthropic.APIStatusError:
    with pytest.raises(kind) as raised:
        create(judge, **arguments)
    assert raised.value.request_id
    return raised.value


def test_models_are_listed_and_retrieved(judge: Judge) -> None:
    listed = {model.id: model for model in judge.ask(lambda client: client.models.list(limit=1000)).data}
    assert {"tiny:latest", "embedder:latest", "localmodels:latest"} <= set(listed)
    one = judge.ask(lambda client: client.models.retrieve("tiny"))
    assert one == listed["tiny:latest"]
    assert (one.type, one.lifecycle, one.display_name) == ("model", "active", "tiny:latest")
    assert one.created_at.year >= 2026
    with pytest.raises(anthropic.NotFoundError):
        judge.ask(lambda client: client.models.retrieve("nobody"))


def test_the_list_comes_in_pages(served: Served) -> None:
    with anthropic.Anthropic(base_url=served.url, api_key="any") as client:
        whole = [model.id for model in client.models.list(limit=1000).data]
        assert [model.id for model in client.models.list(limit=2)] == whole  # the SDK asks for page after page
        (before,) = client.models.list(limit=1, before_id=whole[2]).data
        assert before.id == whole[1]


def test_openais_clients_still_get_their_list(served: Served) -> None:
    assert served.get("/v1/models").json()["object"] == "list"
    assert served.get("/v1/models", headers={"anthropic-version": "2023-06-01"}).json()["has_more"] is False


def test_an_answer_ends_at_its_limit_and_counts(judge: Judge) -> None:
    answer = create(judge)
    assert answer.id.startswith("msg_")
    assert (answer.type, answer.role, answer.model) == ("message", "assistant", "endless")
    assert (answer.stop_reason, answer.stop_sequence) == ("max_tokens", None)
    assert [block.type for block in answer.content] == ["text"]
    assert answer.usage.output_tokens == 16
    assert answer._request_id


def test_a_turn_that_ends_by_itself_says_so(judge: Judge) -> None:
    answer = create(judge, model="localmodels", messages=WHY, max_tokens=100)
    assert answer.stop_reason == "end_turn"
    assert "blue" in text(answer)


def test_a_stream_is_the_whole_in_pieces_with_one_end(judge: Judge) -> None:
    events, final = streamed(judge)
    whole = create(judge)
    assert told(final) == told(whole)
    assert (final.stop_reason, final.usage.output_tokens) == (whole.stop_reason, 16)
    kinds = [event.type for event in events if event.type != "text"]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert len([event for event in events if event.type == "text"]) > 8, "pieces come as they are made"


def test_the_prompt_is_counted_before_the_first_piece(judge: Judge) -> None:
    events, final = streamed(judge)
    first = events[0].message.usage

    def prompt(usage: Any) -> int:
        return int(usage.input_tokens + usage.cache_read_input_tokens)

    assert prompt(first) == prompt(final.usage) > 0
    assert first.output_tokens == 0


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"system": "You are brief."},
        {"system": [{"type": "text", "text": "You are"}, {"type": "text", "text": "brief."}]},
        {"tools": [WEATHER, SEARCH]},
        {"thinking": {"type": "adaptive"}},
        {"messages": [*HELLO, {"role": "assistant", "content": "Well,"}]},
    ],
    ids=["plain", "system", "blocks", "tools", "thinking", "prefill"],
)
def test_tokens_are_counted_as_the_engine_counts_them(judge: Judge, more: dict[str, Any]) -> None:
    asked = {"model": "localmodels", "messages": HELLO, **more}
    counted = judge.ask(lambda client: client.messages.count_tokens(**asked)).input_tokens
    usage = create(judge, **asked).usage
    assert counted == usage.input_tokens + (usage.cache_read_input_tokens or 0)


def test_a_stop_sequence_ends_the_answer_and_is_named(judge: Judge) -> None:
    whole = text(create(judge))
    stop = whole[5:7]
    before = whole[: whole.index(stop)]
    asked = {"stop_sequences": ["never said by anybody", stop]}
    answer, (_, final) = create(judge, **asked), streamed(judge, **asked)
    for message in (answer, final):
        assert (text(message), message.stop_reason, message.stop_sequence) == (before, "stop_sequence", stop)
    other = create(judge, model="localmodels", messages=WHY, max_tokens=100, stop_sequences=["never said"])
    assert (other.stop_reason, other.stop_sequence) == ("end_turn", None)


def test_an_answer_goes_on_from_its_beginning(judge: Judge) -> None:
    asked = {"model": "localmodels", "max_tokens": 100}
    whole = text(create(judge, messages=WHY, **asked))
    beginning, rest = whole[: whole.index(" because")], whole[whole.index(" because") :]
    answer = create(judge, messages=[*WHY, {"role": "assistant", "content": beginning}], **asked)
    assert text(answer) == rest
    halves = [{"role": "assistant", "content": part} for part in (beginning[:4], beginning[4:])]
    assert text(create(judge, messages=[*WHY, *halves], **asked)) == rest


@pytest.mark.parametrize("choice", ["auto", "any", "tool"])
def test_a_call_comes_back_whole(judge: Judge, choice: str) -> None:
    chosen = {"type": choice, "name": "get_weather"} if choice == "tool" else {"type": choice}
    asked = {"model": "localmodels", "messages": ASKED, "max_tokens": 300, "tools": [WEATHER], "tool_choice": chosen}
    answer, (events, final) = create(judge, **asked), streamed(judge, **asked)
    assert (answer.stop_reason, final.stop_reason) == ("tool_use", "tool_use")
    (call,) = told(answer)
    assert (call["name"], set(call["input"])) == ("get_weather", {"city"})
    assert told(final) == [call]
    assert answer.content[0].type == "tool_use"
    assert answer.content[0].id
    pieces = [event.partial_json for event in events if event.type == "input_json"]
    assert pieces


def test_the_beta_form_of_the_sdk_is_answered_alike(served: Served) -> None:
    """The path has ``?beta=true`` at its end, and there is a header with the names of what is tried out."""
    asked: Any = {"model": "localmodels", "max_tokens": 300, "messages": ASKED, "tools": [WEATHER], **GREEDY}
    with anthropic.Anthropic(base_url=served.url, api_key="any", max_retries=0) as client:
        answer = client.beta.messages.create(**asked, betas=["context-management-2025-06-27"])
        with client.beta.messages.stream(**asked) as stream:
            final = stream.get_final_message()
        counted = client.beta.messages.count_tokens(model="localmodels", messages=ASKED, tools=[WEATHER])  # type: ignore[arg-type, list-item]
        assert "tiny:latest" in {model.id for model in client.beta.models.list(limit=1000).data}
    assert (answer.stop_reason, final.stop_reason) == ("tool_use", "tool_use")
    assert told(final) == told(answer)
    assert counted.input_tokens == answer.usage.input_tokens + (answer.usage.cache_read_input_tokens or 0)


def test_a_tool_that_must_not_be_called_is_not(judge: Judge) -> None:
    asked = {"model": "localmodels", "messages": ASKED, "tools": [WEATHER], "tool_choice": {"type": "none"}}
    assert [block["type"] for block in told(create(judge, **asked))] == ["text"]


def test_tools_of_anthropics_servers_are_left_out_and_named(judge: Judge) -> None:
    asked = {"model": "localmodels", "messages": ASKED, "max_tokens": 300, "tools": [SEARCH, WEATHER], **GREEDY}
    response = judge.ask(lambda client: client.messages.with_raw_response.create(**asked))
    assert response.headers["x-localmodels-ignored-tools"] == "web_search"
    assert response.headers["request-id"] == response.headers["x-request-id"]


def test_a_wish_to_think_is_dropped_where_a_model_cannot(judge: Judge) -> None:
    asked = {"model": "localmodels", "messages": HELLO, "max_tokens": 2000, **GREEDY}
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
    response = judge.ask(lambda client: client.messages.with_raw_response.create(**asked, **thinking))
    assert response.headers["x-localmodels-ignored-options"] == "think"


def test_a_shape_is_kept_to(judge: Judge) -> None:
    answer = judge.ask(lambda client: client.messages.parse(**ROOMY, output_format=Reading))
    assert isinstance(answer.parsed_output, Reading)


def test_a_hash_in_the_system_text_does_not_cost_the_cache(served: Served) -> None:
    """Claude Code's first block differs with every request; the prompt has to begin the same all the same."""
    head = "x-anthropic-billing-header: cc_version=2.1.101.e51; cc_entrypoint=cli; cch={};"
    rest = {"type": "text", "text": "You are Claude Code. " * 8, "cache_control": {"type": "ephemeral"}}
    with anthropic.Anthropic(base_url=served.url, api_key="any") as client:
        usages = [
            client.messages.create(**asked({"system": [{"type": "text", "text": head.format(word)}, rest]})).usage
            for word in ("a5145", "09b3e")
        ]
    assert usages[1].input_tokens <= 2
    assert usages[1].cache_read_input_tokens


def test_an_unknown_model_is_not_found(judge: Judge) -> None:
    failed = error(judge, anthropic.NotFoundError, model="nobody")
    assert (failed.type, failed.error_code) == ("not_found_error", "model_not_found")


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "http://x"}}]}]},
         "messages[0].content[0].source.type"),
        ({"messages": [*HELLO, {"role": "assistant", "content": [
            {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {}}]}]}, "messages[1]"),
        ({"tools": [{"name": "x"}]}, "tools[0].input_schema"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"extra_body": {"temperature": 9}}, "temperature"),
        ({"extra_body": {"max_tokens": "many"}}, "max_tokens"),
    ],
    ids=["no messages", "a king", "a picture elsewhere", "a call at the end", "no schema", "no tools", "hot", "many"],
)  # fmt: skip
def test_what_is_wrong_is_a_bad_request_that_names_it(judge: Judge, wrong: dict[str, Any], name: str) -> None:
    failed = error(judge, anthropic.BadRequestError, **wrong)
    assert failed.type == "invalid_request_error"
    assert name in str(failed.api_message)


def test_a_model_that_does_not_fit_is_overload(tmp_path: Path) -> None:
    with (
        serve("--memory-limit", "1MiB", home=tmp_path) as small,
        anthropic.Anthropic(base_url=small.url, api_key="any", max_retries=0) as client,
        pytest.raises(anthropic.OverloadedError) as raised,
    ):
        client.messages.create(**asked({"model": "localmodels"}))
    failed = raised.value
    assert (failed.status_code, failed.type, failed.error_code) == (529, "overloaded_error", "out_of_memory")


def test_a_conversation_that_is_too_long_and_must_not_be_cut_is_refused(judge: Judge) -> None:
    whole = {"model": "narrow", "messages": [*LONG, *HELLO], "extra_body": {"truncation": "disabled"}}
    assert error(judge, anthropic.BadRequestError, **whole).error_code == "context_length_exceeded"


def test_the_context_ends_an_answer_before_its_limit(judge: Judge) -> None:
    answer = create(judge, model="narrow", max_tokens=5000)
    assert answer.stop_reason == "model_context_window_exceeded"


def test_errors_at_anthropics_paths_are_anthropics(served: Served) -> None:
    for path, status, kind in (
        ("/v1/messages/batches", 404, "not_found_error"),
        ("/v1/messages", 405, "invalid_request_error"),
    ):
        answer = served.get(path)
        assert (answer.status_code, answer.json()["error"]["type"]) == (status, kind)
    answer = served.get("/v1/nothing", headers={"anthropic-version": "2023-06-01"})
    assert answer.json()["type"] == "error"


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        (b"", 400, "invalid_request_error"),
        (b"{", 400, "invalid_request_error"),
        (b"[]", 400, "invalid_request_error"),
        (b"[" * 100_000, 400, "invalid_request_error"),
        (b'{"model": "tiny", "model": "tiny"}', 400, "invalid_request_error"),
        (b'{"model": "\xff"}', 400, "invalid_request_error"),
        (b'{"messages": ' + b" " * (32 << 20) + b"}", 413, "request_too_large"),
    ],
    ids=["empty", "half", "a list", "deep", "twice", "no text", "large"],
)
def test_a_hostile_body_is_refused_in_anthropics_form(
    served: Served, path: str, body: bytes, status: int, kind: str
) -> None:
    answer = httpx2.post(served.url + path, content=body, timeout=60)
    assert answer.status_code == status
    assert answer.json()["type"] == "error"
    assert answer.json()["error"]["type"] == kind
    assert answer.headers["request-id"]


def test_thoughts_calls_and_an_answer_that_breaks_off() -> None:
    """What no model here does by itself, from a server behind us that is played by a script."""
    said = (Chunk(thinking="Hm, "), Chunk(thinking="well."), Chunk("42"))

    async def run() -> tuple[Any, anthropic.APIStatusError]:
        asked: Any = {"model": "openai/patient/x", "max_tokens": 64, "messages": HELLO}
        async with (
            world(Script(said, Done("stop", Usage(9, 4)))) as whole,
            anthropic.AsyncAnthropic(base_url=f"http://127.0.0.1:{whole.port}", api_key="x", max_retries=0) as client,
            client.messages.stream(**asked) as stream,
        ):
            message = await stream.get_final_message()
        async with (
            world(Script(said, breaks=Break("cut", 2))) as cut,
            anthropic.AsyncAnthropic(base_url=f"http://127.0.0.1:{cut.port}", api_key="x", max_retries=0) as client,
        ):
            with pytest.raises(anthropic.APIStatusError) as raised:
                async with client.messages.stream(**asked) as stream:
                    await stream.get_final_message()
        return message, raised.value

    message, broken = asyncio.run(run())
    assert told(message) == [{"type": "thinking", "thinking": "Hm, well."}, {"type": "text", "text": "42"}]
    assert message.content[0].signature
    assert (broken.type, broken.error_code) == ("api_error", "stream_cut")
