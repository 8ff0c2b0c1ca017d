"""The ``ollama`` package as a judge, unmodified, in its blocking and its asynchronous form."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import datetime
from math import hypot
from typing import Any

import ollama
import pytest
from tests.acceptance.judges import Awaiting, Blocking, Judge
from tests.acceptance.serving import Served, eventually

import localmodels

HELLO = [{"role": "user", "content": "Hello!"}]
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SHORT = {"num_predict": 12}
FIXED = {**SHORT, "temperature": 0}
# A grammar lets a model that makes no sense write a lot of white space.
ROOMY = {"num_predict": 1000, "seed": 1}
SCHEMA = {
    "type": "object",
    "properties": {"sky": {"enum": ["clear", "cloudy"]}, "wet": {"type": "boolean"}},
    "required": ["sky", "wet"],
}
LONG = [
    turn
    for i in range(40)
    for turn in ({"role": "user", "content": f"Turn {i}?"}, {"role": "assistant", "content": "Yes."})
]


def get_weather(city: str) -> str:
    """Get the current weather in a city.

    Args:
        city: The city
    """
    return f"clear in {city}"


@pytest.fixture(params=["sync", "async"])
def judge(request: pytest.FixtureRequest, served: Served) -> Iterator[Judge]:
    if request.param == "sync":
        with ollama.Client(host=served.url) as client:
            yield Blocking(client)
        return
    with asyncio.Runner() as loop:
        awaiting = ollama.AsyncClient(host=served.url)
        yield Awaiting(awaiting, loop)
        loop.run(awaiting.close())  # type: ignore[no-untyped-call]


def chat(judge: Judge, **arguments: Any) -> ollama.ChatResponse:
    asked = {"model": "endless", "messages": HELLO, "options": FIXED, **arguments}
    answer = judge.ask(lambda client: client.chat(**asked))
    assert isinstance(answer, ollama.ChatResponse)
    return answer


def generate(judge: Judge, **arguments: Any) -> ollama.GenerateResponse:
    asked = {"model": "endless", "prompt": "Once upon", "options": FIXED, **arguments}
    answer = judge.ask(lambda client: client.generate(**asked))
    assert isinstance(answer, ollama.GenerateResponse)
    return answer


def refused(judge: Judge, **arguments: Any) -> ollama.ResponseError:
    with pytest.raises(ollama.ResponseError) as raised:
        chat(judge, **arguments)
    return raised.value


def assert_figures(answer: ollama.ChatResponse | ollama.GenerateResponse, tokens: int) -> None:
    """Counts and durations of a finished answer, and that the parts are not more than the whole."""
    assert answer.done is True
    assert answer.eval_count == tokens
    figures = [answer.load_duration, answer.prompt_eval_duration, answer.eval_duration]
    assert answer.prompt_eval_count
    assert all(figures)
    assert answer.total_duration
    # The engine's clock and ours begin and end at different lines.
    assert answer.total_duration >= 0.95 * sum(figure or 0 for figure in figures)
    assert answer.created_at
    assert datetime.fromisoformat(answer.created_at[:26] + "+00:00").year > 2000


def test_models_are_listed(judge: Judge) -> None:
    models = {model.model: model for model in judge.ask(lambda client: client.list()).models}
    tiny = models["tiny:latest"]
    assert "localmodels:latest" in models
    assert tiny.digest
    assert len(tiny.digest) == 64
    assert tiny.size
    assert tiny.modified_at is not None
    assert tiny.details is not None
    assert (tiny.details.family, tiny.details.format) == ("llama", "gguf")


def test_a_model_is_shown(judge: Judge) -> None:
    shown = judge.ask(lambda client: client.show("tiny"))
    assert shown.modelinfo["general.architecture"] == "llama"
    assert shown.modelinfo["llama.context_length"] == 4096
    assert "messages" in shown.template
    assert "completion" in shown.capabilities
    assert judge.ask(lambda client: client.show("embedder")).capabilities == ["embedding"]
    with pytest.raises(ollama.ResponseError, match="nobody") as raised:
        judge.ask(lambda client: client.show("nobody"))
    assert raised.value.status_code == 404


def test_a_chat_ends_at_its_limit_and_its_figures_are_real(judge: Judge) -> None:
    answer = chat(judge)
    assert (answer.model, answer.message.role, answer.done_reason) == ("endless", "assistant", "length")
    assert answer.message.content
    assert_figures(answer, 12)


def test_a_streamed_chat_is_the_whole_in_pieces_with_one_end(judge: Judge) -> None:
    asked = {"model": "endless", "messages": HELLO, "options": FIXED, "stream": True}
    pieces = judge.pieces(lambda client: client.chat(**asked))
    assert "".join(piece.message.content or "" for piece in pieces) == chat(judge).message.content
    assert [piece.done for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert pieces[-1].done_reason == "length"
    assert_figures(pieces[-1], 12)
    assert len(pieces) > 6, "pieces come as they are made"


def test_a_turn_that_ends_by_itself_says_stop(judge: Judge) -> None:
    answer = chat(judge, model="brief", options={"num_predict": 500, "seed": 1})
    assert (answer.done, answer.done_reason) == (True, "stop")
    assert (answer.eval_count or 0) < 500


def test_a_stop_text_ends_the_answer_and_is_not_in_it(judge: Judge) -> None:
    whole = chat(judge).message.content or ""
    stop = whole[5:7]
    answer = chat(judge, options={**FIXED, "stop": [stop]})
    assert (answer.message.content, answer.done_reason) == (whole[: whole.index(stop)], "stop")


def test_the_same_seed_gives_the_same_text_and_another_another(judge: Judge) -> None:
    def drawn(seed: int) -> str | None:
        return chat(judge, options={**SHORT, "temperature": 1, "seed": seed}).message.content

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_logprobs_are_those_of_the_text(judge: Judge) -> None:
    for answer, text in (
        (said := chat(judge, logprobs=True, top_logprobs=2), said.message.content),
        (wrote := generate(judge, logprobs=True, top_logprobs=2), wrote.response),
    ):
        assert answer.logprobs is not None
        assert "".join(row.token for row in answer.logprobs) == text
        assert len(answer.logprobs) == answer.eval_count
        for row in answer.logprobs:
            assert row.logprob <= 0
            assert row.top_logprobs is not None
            assert (len(row.top_logprobs), row.top_logprobs[0].token) == (2, row.token)


def test_a_function_can_be_a_tool(judge: Judge) -> None:
    asked = [{"role": "user", "content": "What is the weather in Paris?"}]
    options = {"temperature": 0, "num_predict": 300}
    answer = chat(judge, model="localmodels", messages=asked, tools=[get_weather], options=options)
    (call,) = answer.message.tool_calls or ()
    assert call.function.name == "get_weather"
    assert isinstance(call.function.arguments["city"], str)
    assert answer.done_reason == "stop"


def test_streamed_tool_calls_come_whole(judge: Judge) -> None:
    options = {"temperature": 0, "num_predict": 300}
    asked = {"messages": [{"role": "user", "content": "What is the weather in Paris?"}], "tools": [get_weather]}
    pieces = judge.pieces(lambda client: client.chat(model="localmodels", options=options, stream=True, **asked))
    calls = [call for piece in pieces for call in piece.message.tool_calls or ()]
    assert [call.function.name for call in calls] == ["get_weather"]
    assert set(calls[0].function.arguments) == {"city"}


def test_the_result_of_a_tool_is_read(judge: Judge) -> None:
    asked = [{"role": "user", "content": "What is the weather in Paris?"}]
    call = {"function": {"name": "get_weather", "arguments": {"city": "Paris"}}}
    told = [
        *asked,
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_name": "get_weather", "content": get_weather("Paris")},
    ]
    before, after = (chat(judge, messages=messages, tools=[get_weather]) for messages in (asked, told))
    assert (after.prompt_eval_count or 0) > (before.prompt_eval_count or 0) + 20


@pytest.mark.parametrize("stream", [False, True])
def test_a_schema_is_kept_to(judge: Judge, *, stream: bool) -> None:
    if stream:
        asked = {"model": "tiny", "messages": HELLO, "format": SCHEMA, "options": ROOMY, "stream": True}
        text = "".join(piece.message.content for piece in judge.pieces(lambda client: client.chat(**asked)))
    else:
        text = chat(judge, model="tiny", format=SCHEMA, options=ROOMY).message.content or ""
    said = json.loads(text)
    assert said["sky"] in {"clear", "cloudy"}
    assert isinstance(said["wet"], bool)
    assert said.keys() == {"sky", "wet"}


def test_a_generated_text_keeps_to_a_schema_too(judge: Judge) -> None:
    for raw in (False, True):
        said = json.loads(generate(judge, format=SCHEMA, raw=raw, options=ROOMY).response or "")
        assert said.keys() == {"sky", "wet"}


def test_json_mode_gives_an_object(judge: Judge) -> None:
    answer = chat(judge, format="json", options={**FIXED, "num_predict": 60})
    assert (answer.message.content or "").startswith("{")


def test_a_text_is_generated_whole_and_in_pieces(judge: Judge) -> None:
    answer = generate(judge)
    assert answer.done_reason == "length"
    assert_figures(answer, 12)
    asked = {"model": "endless", "prompt": "Once upon", "options": FIXED, "stream": True}
    pieces = judge.pieces(lambda client: client.generate(**asked))
    assert "".join(piece.response for piece in pieces) == answer.response
    assert [piece.done for piece in pieces].count(True) == 1


def test_a_raw_prompt_goes_without_the_template(judge: Judge) -> None:
    with_template, raw = generate(judge), generate(judge, raw=True)
    assert (raw.prompt_eval_count or 0) + 3 < (with_template.prompt_eval_count or 0)


def test_a_system_prompt_is_heard(judge: Judge) -> None:
    without, with_one = generate(judge), generate(judge, system="You are a pirate.")
    assert (with_one.prompt_eval_count or 0) > (without.prompt_eval_count or 0) + 5


def test_a_gap_needs_a_model_that_fills_gaps(judge: Judge) -> None:
    with pytest.raises(ollama.ResponseError) as raised:
        generate(judge, suffix="the end")
    assert raised.value.status_code == 400
    assert "suffix" in raised.value.error or "nfill" in raised.value.error


def test_a_picture_needs_a_model_that_sees(judge: Judge) -> None:
    error = refused(judge, messages=[{"role": "user", "content": "What is this?", "images": [PIXEL]}])
    assert (error.status_code, "image" in error.error) == (400, True)
    with pytest.raises(ollama.ResponseError, match="image") as raised:
        generate(judge, images=[PIXEL])
    assert raised.value.status_code == 400


def test_an_answer_goes_on_from_an_earlier_context(judge: Judge) -> None:
    fresh = generate(judge)
    continued = generate(judge, context=[72, 101, 108, 108, 111])
    assert (continued.prompt_eval_count or 0) == (fresh.prompt_eval_count or 0) + 5
    # What comes back is the question and the answer; from there it goes on, and gives back all of it.
    assert fresh.context
    assert continued.context
    assert len(fresh.context) > (fresh.prompt_eval_count or 0)
    again = generate(judge, context=fresh.context)
    assert list(again.context or ())[: len(fresh.context)] == list(fresh.context)
    assert (again.prompt_eval_count or 0) == (fresh.prompt_eval_count or 0) + len(fresh.context)


def test_a_thinking_switch_is_taken_by_a_model_that_does_not_think(judge: Judge) -> None:
    assert chat(judge, think=False).message.thinking is None


def test_a_model_that_does_not_think_cannot_be_told_to(judge: Judge) -> None:
    error = refused(judge, think=True)
    assert (error.status_code, "think" in error.error) == (400, True)


def test_a_model_can_be_loaded_and_unloaded_without_a_word(judge: Judge, served: Served) -> None:
    loaded = judge.ask(lambda client: client.generate(model="leaver", keep_alive=60))
    assert (loaded.done, loaded.done_reason, loaded.response) == (True, "load", "")
    (row,) = [model for model in judge.ask(lambda client: client.ps()).models if model.model == "leaver:latest"]
    assert row.size > 0
    assert row.expires_at is not None
    assert row.context_length > 0
    unloaded = judge.ask(lambda client: client.chat(model="leaver", keep_alive=0))
    assert (unloaded.done, unloaded.done_reason) == (True, "unload")
    eventually(lambda: "leaver" not in served.running(), "the model is unloaded")


def test_a_model_that_is_kept_for_no_time_leaves_after_its_answer(judge: Judge, served: Served) -> None:
    assert generate(judge, model="leaver", keep_alive=0).done_reason == "length"
    eventually(lambda: "leaver" not in served.running(), "the model is unloaded")


@pytest.mark.parametrize("model", ["embedder", "localmodels"])
def test_texts_become_vectors(judge: Judge, model: str) -> None:
    answer = judge.ask(lambda client: client.embed(model=model, input=["a cat", "a dog", "a cat"]))
    first, second, third = answer.embeddings
    assert [hypot(*vector) for vector in answer.embeddings] == pytest.approx([1, 1, 1], abs=1e-4)
    assert first == pytest.approx(third, abs=1e-4)
    assert first != pytest.approx(second, abs=1e-4)
    assert answer.prompt_eval_count > 0
    assert answer.total_duration > 0
    one = judge.ask(lambda client: client.embed(model=model, input="a cat"))
    assert one.embeddings[0] == pytest.approx(first, abs=1e-4)
    legacy = judge.ask(lambda client: client.embeddings(model=model, prompt="a cat"))
    assert legacy.embedding == pytest.approx(first, abs=1e-4)


def test_vectors_can_be_shortened(judge: Judge) -> None:
    (vector,) = judge.ask(lambda client: client.embed(model="embedder", input="a cat", dimensions=8)).embeddings
    assert len(vector) == 8
    assert hypot(*vector) == pytest.approx(1, abs=1e-4)


def test_a_text_too_long_to_embed_is_cut_or_refused(judge: Judge) -> None:
    long = "word " * 5000
    assert judge.ask(lambda client: client.embed(model="embedder", input=long)).embeddings
    with pytest.raises(ollama.ResponseError) as raised:
        judge.ask(lambda client: client.embed(model="embedder", input=long, truncate=False))
    assert raised.value.status_code == 400


def test_an_unknown_model_is_not_found(judge: Judge) -> None:
    error = refused(judge, model="nobody")
    assert (error.status_code, error.error) == (404, "model 'nobody' not found")
    with pytest.raises(ollama.ResponseError, match="nobody"):
        judge.pieces(lambda client: client.chat(model="nobody", messages=HELLO, stream=True))


@pytest.mark.parametrize(
    "wrong",
    [
        {"options": {"temperature": 99}},
        {"options": {"num_predict": "many"}},
        {"options": {"top_k": -5}},
        {"messages": [{"role": "king", "content": "Hello!"}]},
        {"keep_alive": "soon"},
        {"format": "xml"},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_value_out_of_range_cannot_be_processed(served: Served, wrong: dict[str, Any]) -> None:
    # The SDK's own types refuse most of these before a server could.
    response = served.post("/api/chat", **{"model": "endless", "messages": HELLO, **wrong})
    assert response.status_code == 422
    name = next(iter(wrong))
    assert name in response.json()["error"]


def test_an_option_that_nobody_knows_is_named(served: Served) -> None:
    response = served.post(
        "/api/chat", model="endless", messages=HELLO, stream=False, options={**FIXED, "temprature": 1}
    )
    assert response.status_code == 200
    assert response.headers["x-localmodels-ignored-options"] == "temprature"


def test_a_conversation_that_is_too_long_loses_its_oldest_turns_and_says_so(served: Served) -> None:
    asked = {"model": "narrow", "messages": [*LONG, *HELLO], "options": {"num_predict": 4}}
    whole = served.post("/api/chat", **asked, stream=False)
    assert whole.json()["truncated_messages"] == int(whole.headers["x-localmodels-truncated"]) > 0
    last = json.loads(served.post("/api/chat", **asked).text.splitlines()[-1])
    assert last["truncated_messages"] == whole.json()["truncated_messages"]


def test_a_conversation_that_must_not_be_cut_is_refused_with_both_counts(served: Served) -> None:
    response = served.post("/api/chat", model="narrow", messages=[*LONG, *HELLO], truncate=False)
    assert response.status_code == 400
    assert len([word for word in response.json()["error"].split() if word.isdecimal()]) == 2


def test_a_message_that_is_too_long_by_itself_is_refused(judge: Judge) -> None:
    error = refused(judge, model="narrow", messages=[{"role": "user", "content": "x " * 900}])
    assert (error.status_code, "256 tokens" in error.error) == (400, True)


def test_the_version_is_told(served: Served) -> None:
    told = served.get("/api/version").json()
    assert told == {"version": localmodels.__version__, "gateway": told["gateway"]}
    assert told["gateway"], "by which other gateways know it"
