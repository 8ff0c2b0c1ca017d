"""The ``openai`` package as a judge, unmodified, in its blocking and its asynchronous form."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from math import hypot
from typing import Any, Literal

import openai
import pytest
from openai.types.chat import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionMessageCustomToolCall,
    ChatCompletionMessageFunctionToolCall,
)
from pydantic import BaseModel, Field
from tests.acceptance.judges import Awaiting, Blocking, Judge
from tests.acceptance.serving import Served

HELLO = [{"role": "user", "content": "Hello!"}]
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the current weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
ASKED = [{"role": "user", "content": "What is the weather in Paris?"}]


LONG = [
    turn
    for i in range(40)
    for turn in ({"role": "user", "content": f"Turn {i}?"}, {"role": "assistant", "content": "Yes."})
]


# A grammar lets a model that makes no sense write a lot of white space.
ROOMY = {"max_tokens": 1000, "seed": 1}


class Reading(BaseModel):
    """Short whatever a model makes of it."""

    sky: Literal["clear", "cloudy"]
    degrees: int = Field(ge=-9, le=9)
    tags: list[Literal["wet", "dry"]] = Field(max_length=2)


@pytest.fixture(params=["sync", "async"])
def judge(request: pytest.FixtureRequest, served: Served) -> Iterator[Judge]:
    settings: dict[str, Any] = {"base_url": f"{served.url}/v1", "api_key": "any", "max_retries": 0, "timeout": 60}
    if request.param == "sync":
        with openai.OpenAI(**settings) as client:
            yield Blocking(client)
        return
    with asyncio.Runner() as loop:
        awaiting = openai.AsyncOpenAI(**settings)
        yield Awaiting(awaiting, loop)
        loop.run(awaiting.close())


def chat(judge: Judge, **arguments: Any) -> ChatCompletion:
    asked = {"model": "endless", "messages": HELLO, "max_tokens": 16, **arguments}
    answer = judge.ask(lambda client: client.chat.completions.create(**asked))
    assert isinstance(answer, ChatCompletion)
    return answer


def streamed(judge: Judge, **arguments: Any) -> list[ChatCompletionChunk]:
    asked = {"model": "endless", "messages": HELLO, "max_tokens": 16, "stream": True, **arguments}
    return judge.pieces(lambda client: client.chat.completions.create(**asked))


def text(answer: ChatCompletion) -> str:
    content = answer.choices[0].message.content
    assert content
    return content


def joined(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def reasons(chunks: list[ChatCompletionChunk]) -> list[str]:
    return [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]


def picture(url: str) -> list[dict[str, Any]]:
    """A conversation that shows one."""
    return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]


def error(judge: Judge, kind: type[openai.APIStatusError], **arguments: Any) -> Any:
    """The body of the error that a chat ends in."""
    with pytest.raises(kind) as raised:
        chat(judge, **arguments)
    return raised.value.body


def test_models_are_listed_and_retrieved(judge: Judge) -> None:
    listed = {model.id: model for model in judge.ask(lambda client: client.models.list()).data}
    assert {"tiny:latest", "embedder:latest", "localmodels:latest"} <= set(listed)
    one = judge.ask(lambda client: client.models.retrieve("tiny"))
    assert one == listed["tiny:latest"]
    assert one.object == "model"
    assert one.created > 0
    with pytest.raises(openai.NotFoundError):
        judge.ask(lambda client: client.models.retrieve("nobody"))


def test_a_chat_ends_at_its_limit_and_counts(judge: Judge) -> None:
    answer = chat(judge)
    assert answer.id.startswith("chatcmpl-")
    assert answer.object == "chat.completion"
    assert (answer.choices[0].finish_reason, answer.choices[0].index) == ("length", 0)
    assert answer.choices[0].message.role == "assistant"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 16
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 16


def test_a_turn_that_ends_by_itself_says_stop(judge: Judge) -> None:
    answer = chat(judge, model="tiny", temperature=0, logit_bias={"258": 100})
    assert answer.choices[0].finish_reason == "stop"


def test_a_stream_is_the_whole_in_pieces_with_one_end(judge: Judge) -> None:
    chunks = streamed(judge, temperature=0, stream_options={"include_usage": True})
    assert joined(chunks) == text(chat(judge, temperature=0))
    assert reasons(chunks) == ["length"]
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 16
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert len(chunks) > 8, "pieces come as they are made"


def test_a_stream_says_no_usage_unless_asked(judge: Judge) -> None:
    chunks = streamed(judge)
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)


def test_the_newer_name_of_the_limit_counts(judge: Judge) -> None:
    answer = chat(judge, max_tokens=openai.omit, max_completion_tokens=5)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 5


def test_a_stop_text_ends_the_answer_and_is_not_in_it(judge: Judge) -> None:
    whole = text(chat(judge, temperature=0))
    stop = whole[5:7]
    before = whole[: whole.index(stop)]
    answer = chat(judge, temperature=0, stop=[stop])
    assert (answer.choices[0].message.content or "", answer.choices[0].finish_reason) == (before, "stop")
    chunks = streamed(judge, temperature=0, stop=stop)
    assert (joined(chunks), reasons(chunks)) == (before, ["stop"])


def test_the_same_seed_gives_the_same_text_and_another_another(judge: Judge) -> None:
    def drawn(seed: int) -> str:
        return text(chat(judge, temperature=1, seed=seed))

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert joined(streamed(judge, temperature=1, seed=1)) == drawn(1)


def test_logprobs_are_those_of_the_text(judge: Judge) -> None:
    answer = chat(judge, temperature=0, logprobs=True, top_logprobs=3, max_tokens=6)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    rows = logprobs.content
    assert rows is not None
    assert "".join(row.token for row in rows) == text(answer)
    assert len(rows) == 6
    for row in rows:
        assert row.logprob <= 0
        assert bytes(row.bytes or ()).decode() == row.token
        assert len(row.top_logprobs) == 3
        assert row.top_logprobs[0].token == row.token, "at temperature 0 the likeliest is taken"


def test_streamed_logprobs_are_the_same(judge: Judge) -> None:
    chunks = streamed(judge, temperature=0, logprobs=True, top_logprobs=0, max_tokens=6)
    rows = [
        row for chunk in chunks for choice in chunk.choices if choice.logprobs for row in choice.logprobs.content or ()
    ]
    assert "".join(row.token for row in rows) == joined(chunks)
    assert [row.top_logprobs for row in rows] == [[]] * 6


@pytest.mark.parametrize("choice", ["auto", "required", {"type": "function", "function": {"name": "get_weather"}}])
def test_a_tool_call_comes_back_whole(judge: Judge, choice: Any) -> None:
    asked = {"model": "localmodels", "messages": ASKED, "tools": [WEATHER], "tool_choice": choice, "temperature": 0}
    answer = chat(judge, max_tokens=300, **asked)
    assert answer.choices[0].finish_reason == "tool_calls"
    calls = answer.choices[0].message.tool_calls
    assert calls
    (call,) = calls
    assert isinstance(call, ChatCompletionMessageFunctionToolCall)
    assert call.id
    assert call.function.name == "get_weather"
    assert isinstance(json.loads(call.function.arguments)["city"], str)


def test_a_streamed_tool_call_can_be_put_together(judge: Judge) -> None:
    chunks = streamed(judge, model="localmodels", messages=ASKED, tools=[WEATHER], temperature=0, max_tokens=300)
    deltas = [call for chunk in chunks for choice in chunk.choices for call in choice.delta.tool_calls or ()]
    assert {delta.index for delta in deltas} == {0}
    assert [delta.function.name for delta in deltas if delta.function and delta.function.name] == ["get_weather"]
    assert len([delta.id for delta in deltas if delta.id]) == 1
    arguments = "".join(delta.function.arguments or "" for delta in deltas if delta.function)
    assert set(json.loads(arguments)) == {"city"}
    assert reasons(chunks) == ["tool_calls"]


def test_a_tool_that_must_not_be_called_is_not(judge: Judge) -> None:
    answer = chat(judge, model="localmodels", messages=ASKED, tools=[WEATHER], tool_choice="none", temperature=0)
    assert not answer.choices[0].message.tool_calls


def test_the_result_of_a_tool_is_read(judge: Judge) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}
    told = [
        *ASKED,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": '{"sky": "clear"}'},
    ]
    with_result = chat(judge, messages=told, tools=[WEATHER])
    without = chat(judge, messages=ASKED, tools=[WEATHER])
    assert with_result.usage is not None
    assert without.usage is not None
    assert with_result.usage.prompt_tokens > without.usage.prompt_tokens + 20


def test_a_schema_is_kept_to(judge: Judge) -> None:
    asked = {"model": "tiny", "messages": HELLO, **ROOMY}
    answer = judge.ask(lambda client: client.chat.completions.parse(**asked, response_format=Reading))
    assert isinstance(answer.choices[0].message.parsed, Reading)
    assert answer.choices[0].finish_reason == "stop"


def test_a_streamed_schema_is_kept_to(judge: Judge) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "reading", "schema": Reading.model_json_schema()}}
    chunks = streamed(judge, model="tiny", **ROOMY, response_format=schema)
    Reading.model_validate_json(joined(chunks))


def test_json_mode_gives_an_object(judge: Judge) -> None:
    closing = {str(ord("}")): 100}  # in this vocabulary the first 256 tokens are the bytes
    answer = chat(judge, response_format={"type": "json_object"}, temperature=0, logit_bias=closing)
    assert (json.loads(text(answer)), answer.choices[0].finish_reason) == ({}, "stop")


def test_completions_go_on_with_a_raw_text(judge: Judge) -> None:
    asked: dict[str, Any] = {"model": "endless", "prompt": "Once upon", "max_tokens": 8, "temperature": 0}
    whole = judge.ask(lambda client: client.completions.create(**asked))
    assert whole.object == "text_completion"
    assert whole.choices[0].finish_reason == "length"
    assert whole.usage.completion_tokens == 8
    chunks = judge.pieces(lambda client: client.completions.create(**asked, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == whole.choices[0].text
    echoed = judge.ask(lambda client: client.completions.create(**asked, echo=True))
    assert echoed.choices[0].text == "Once upon" + whole.choices[0].text


def test_logprobs_of_completions_are_columns(judge: Judge) -> None:
    asked = {"model": "endless", "prompt": "Once", "max_tokens": 4, "temperature": 0, "logprobs": 2}
    choice = judge.ask(lambda client: client.completions.create(**asked)).choices[0]
    assert "".join(choice.logprobs.tokens) == choice.text
    assert len(choice.logprobs.token_logprobs) == len(choice.logprobs.text_offset) == 4
    assert [len(top) for top in choice.logprobs.top_logprobs] == [2] * 4


@pytest.mark.parametrize("model", ["embedder", "localmodels"])
def test_embeddings_are_the_same_in_both_encodings(judge: Judge, model: str) -> None:
    inputs = ["a cat", "a dog", "a cat"]

    def vectors(**arguments: Any) -> list[list[float]]:
        answer = judge.ask(lambda client: client.embeddings.create(model=model, input=inputs, **arguments))
        assert [row.index for row in answer.data] == [0, 1, 2]
        assert answer.usage.prompt_tokens == answer.usage.total_tokens > 0
        return [row.embedding for row in answer.data]

    # Without a word about it, this SDK asks for base64 and unpacks it.
    numbers, packed = vectors(encoding_format="float"), vectors()
    assert numbers[0] == pytest.approx(packed[0], abs=1e-6)
    assert numbers[0] == pytest.approx(numbers[2], abs=1e-4)
    assert numbers[0] != pytest.approx(numbers[1], abs=1e-4)
    assert [hypot(*vector) for vector in numbers] == pytest.approx([1, 1, 1], abs=1e-4)


def test_embeddings_can_be_shortened(judge: Judge) -> None:
    answer = judge.ask(lambda client: client.embeddings.create(model="embedder", input="a cat", dimensions=16))
    (row,) = answer.data
    assert len(row.embedding) == 16
    assert hypot(*row.embedding) == pytest.approx(1, abs=1e-4)


def test_embeddings_take_token_ids(judge: Judge) -> None:
    answer = judge.ask(lambda client: client.embeddings.create(model="embedder", input=[[72, 105], [72, 105]]))
    assert answer.data[0].embedding == pytest.approx(answer.data[1].embedding, abs=1e-4)


def test_an_unknown_model_is_not_found(judge: Judge) -> None:
    body = error(judge, openai.NotFoundError, model="nobody")
    assert (body["code"], body["param"]) == ("model_not_found", "model")
    assert "nobody" in body["message"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"messages": []},
        {"top_logprobs": 3},
        {"tools": [{"type": "web_search"}]},
        {"messages": picture(f"data:image/png;base64,{PIXEL}")},
        {"messages": picture("http://127.0.0.1/x.png")},
    ],
    ids=[
        "no messages",
        "top_logprobs alone",
        "a tool of somebody else's",
        "a picture for a blind model",
        "a picture elsewhere",
    ],
)
def test_what_cannot_be_done_is_a_bad_request(judge: Judge, wrong: dict[str, Any]) -> None:
    assert error(judge, openai.BadRequestError, **wrong)["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("name", "value"),
    [("temperature", 99), ("top_p", -1), ("max_tokens", "many"), ("messages", [{"role": "king", "content": "x"}])],
)
def test_a_value_out_of_range_cannot_be_processed(judge: Judge, name: str, value: Any) -> None:
    body = error(judge, openai.UnprocessableEntityError, **{name: value})
    assert body["param"].startswith(name)
    assert body["code"] == "invalid_value"


def test_a_stream_that_cannot_begin_is_a_status(judge: Judge) -> None:
    with pytest.raises(openai.NotFoundError):
        streamed(judge, model="nobody")


def test_a_conversation_that_is_too_long_and_must_not_be_cut_is_refused(judge: Judge) -> None:
    whole = {"model": "narrow", "messages": [*LONG, *HELLO], "extra_body": {"truncation": "disabled"}}
    body = error(judge, openai.BadRequestError, **whole)
    assert body["code"] == "context_length_exceeded"
    assert "256 tokens" in body["message"]
    assert len([word for word in body["message"].split() if word.isdecimal()]) == 2


def test_a_conversation_that_is_too_long_loses_its_oldest_turns_and_says_so(judge: Judge) -> None:
    asked = {"model": "narrow", "messages": [*LONG, *HELLO], "max_tokens": 4}
    response = judge.ask(lambda client: client.chat.completions.with_raw_response.create(**asked))
    assert int(response.headers["x-localmodels-truncated"]) > 0


def test_a_message_that_is_too_long_by_itself_is_refused(judge: Judge) -> None:
    body = error(judge, openai.BadRequestError, model="narrow", messages=[{"role": "user", "content": "x " * 900}])
    assert body["code"] == "context_length_exceeded"


DRAWN = {"temperature": 1.0, "max_tokens": 12}


def test_several_answers_are_those_of_single_requests_with_the_next_seeds(judge: Judge) -> None:
    answer = chat(judge, n=3, seed=41, **DRAWN)
    singles = [chat(judge, seed=seed, **DRAWN) for seed in (41, 42, 43)]
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert [choice.message.content for choice in answer.choices] == [text(single) for single in singles]
    assert len({choice.message.content for choice in answer.choices}) == 3
    assert {choice.finish_reason for choice in answer.choices} == {"length"}
    assert answer.usage is not None
    assert singles[0].usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (singles[0].usage.prompt_tokens, 36)


def test_several_answers_stream_together(judge: Judge) -> None:
    chunks = streamed(judge, n=3, seed=41, stream_options={"include_usage": True}, **DRAWN)
    whole = chat(judge, n=3, seed=41, **DRAWN)
    texts, ends = ["", "", ""], list[int]()
    for choice in (choice for chunk in chunks for choice in chunk.choices):
        texts[choice.index] += choice.delta.content or ""
        ends += [choice.index] if choice.finish_reason else []
    assert texts == [choice.message.content for choice in whole.choices]
    assert sorted(ends) == [0, 1, 2]
    assert whole.usage is not None
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)


def test_several_prompts_are_answered_in_their_order(judge: Judge) -> None:
    asked = {"model": "endless", "seed": 5, **DRAWN}

    def completed(prompt: Any, **arguments: Any) -> Any:
        return judge.ask(lambda client: client.completions.create(prompt=prompt, **asked, **arguments))

    answer = completed(["Once", "Twice"], n=2, echo=True)
    singles = [completed(prompt, n=2).choices for prompt in ("Once", "Twice")]
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert [choice.text for choice in answer.choices] == [
        prompt + choice.text for prompt, choices in zip(("Once", "Twice"), singles, strict=True) for choice in choices
    ]
    chunks = judge.pieces(lambda client: client.completions.create(prompt=["Once", "Twice"], stream=True, **asked))
    texts = ["", ""]
    for choice in (choice for chunk in chunks for choice in chunk.choices):
        texts[choice.index] += choice.text
    assert texts == [choices[0].text for choices in singles]


@pytest.mark.parametrize("wrong", [{"n": 9}, {"n": 0}])
def test_more_answers_than_are_made_are_refused(judge: Judge, wrong: dict[str, Any]) -> None:
    assert error(judge, openai.UnprocessableEntityError, **wrong)["param"] == "n"


PATCH = {"type": "custom", "custom": {"name": "apply_patch", "description": "Changes a file by a patch."}}
CHOSEN = {"type": "custom", "custom": {"name": "apply_patch"}}


def test_a_custom_tool_is_called_with_a_text(judge: Judge) -> None:
    asked = {"model": "localmodels", "tools": [PATCH], "tool_choice": CHOSEN, "max_tokens": 200, "temperature": 0}
    answer = chat(judge, **asked)
    assert answer.choices[0].message.tool_calls is not None
    (call,) = answer.choices[0].message.tool_calls
    assert isinstance(call, ChatCompletionMessageCustomToolCall)
    assert call.custom.name == "apply_patch"
    assert answer.choices[0].finish_reason == "tool_calls"
    deltas = [
        delta
        for chunk in streamed(judge, **asked)
        for choice in chunk.choices
        for delta in choice.delta.tool_calls or ()
    ]
    told = [delta.model_dump() for delta in deltas]
    assert {one["type"] for one in told if one["id"]} == {"custom"}
    assert "".join(one["custom"].get("input") or "" for one in told) == call.custom.input
    turns = [
        *HELLO,
        {"role": "assistant", "tool_calls": [call.model_dump()]},
        {"role": "tool", "tool_call_id": call.id, "content": "done"},
    ]
    assert chat(judge, model="localmodels", messages=turns, tools=[PATCH]).choices


def test_one_call_at_a_time_where_no_others_are_wanted(judge: Judge) -> None:
    for parallel in (False, True):
        answer = chat(
            judge, model="localmodels", messages=ASKED, tools=[WEATHER], tool_choice="required", temperature=0,
            parallel_tool_calls=parallel, max_tokens=300,
        )  # fmt: skip
        assert len(answer.choices[0].message.tool_calls or ()) == 1
