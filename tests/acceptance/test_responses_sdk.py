"""The ``openai`` package as a judge of the Responses API, unmodified, blocking and asynchronous."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import httpx2
import openai
import pytest
from openai.types.responses import Response, ResponseCustomToolCall, ResponseFunctionToolCall
from pydantic import BaseModel, Field
from tests.acceptance.judges import Awaiting, Blocking, Judge
from tests.acceptance.serving import PATIENCE, Served, eventually, serve
from tests.unit.dialects import responses_order as order

WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "Get the current weather in a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
ASKED = "What is the weather in Paris?"
LONG = [{"role": role, "content": f"Turn {i}."} for i in range(40) for role in ("user", "assistant")]


class Reading(BaseModel):
    """Short whatever a model makes of it."""

    sky: Literal["clear", "cloudy"]
    degrees: int = Field(ge=-9, le=9)


def settings(served: Served) -> dict[str, Any]:
    return {"base_url": f"{served.url}/v1", "api_key": "any", "max_retries": 0, "timeout": PATIENCE}


@pytest.fixture(params=["sync", "async"])
def judge(request: pytest.FixtureRequest, served: Served) -> Iterator[Judge]:
    if request.param == "sync":
        with openai.OpenAI(**settings(served)) as client:
            yield Blocking(client)
        return
    with asyncio.Runner() as loop:
        awaiting = openai.AsyncOpenAI(**settings(served))
        yield Awaiting(awaiting, loop)
        loop.run(awaiting.close())


def respond(judge: Judge, **arguments: Any) -> Response:
    asked = {"model": "endless", "input": "Hello!", "max_output_tokens": 16, "temperature": 0, **arguments}
    answer = judge.ask(lambda client: client.responses.create(**asked))
    assert isinstance(answer, Response)
    return answer


def streamed(judge: Judge, **arguments: Any) -> list[Any]:
    asked = {"model": "endless", "input": "Hello!", "max_output_tokens": 16, "temperature": 0, **arguments}
    return judge.pieces(lambda client: client.responses.create(**asked, stream=True))


def error(judge: Judge, kind: type[openai.APIStatusError], **arguments: Any) -> Any:
    """The body of the error that a request ends in."""
    with pytest.raises(kind) as raised:
        respond(judge, **arguments)
    return raised.value.body


def test_a_response_has_everything(judge: Judge) -> None:
    response = respond(judge, model="localmodels", max_output_tokens=200, metadata={"a": "b"}, instructions="Be kind.")
    assert (response.status, response.object, response.error) == ("completed", "response", None)
    assert response.id.startswith("resp_")
    assert response.output_text
    assert (response.metadata, response.instructions, response.max_output_tokens) == ({"a": "b"}, "Be kind.", 200)
    assert response.usage is not None
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens
    assert set(response.to_dict()) >= order.RESPONSE


def test_an_answer_that_reaches_its_limit_is_incomplete(judge: Judge) -> None:
    response = respond(judge)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.usage is not None
    assert response.usage.output_tokens == 16


def test_a_stream_is_the_whole_in_pieces(judge: Judge) -> None:
    events = streamed(judge)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert len(deltas) > 8, "pieces come as they are made"
    assert "".join(deltas) == respond(judge).output_text == events[-1].response.output_text
    assert (events[0].type, events[-1].type) == ("response.created", "response.incomplete")


def test_events_are_in_order(served: Served) -> None:
    body = {"model": "localmodels", "input": ASKED, "stream": True, "tools": [WEATHER], "temperature": 0}
    for choice in ("none", "required"):
        answer = httpx2.post(f"{served.url}/v1/responses", json={**body, "tool_choice": choice}, timeout=PATIENCE)
        assert answer.headers["content-type"] == "text/event-stream"
        order.check(order.parsed(answer.content))


def test_the_streaming_helper_gets_its_final_response(served: Served) -> None:
    with (
        openai.OpenAI(**settings(served)) as client,
        client.responses.stream(model="localmodels", input="Hello!", temperature=0) as stream,
    ):
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        final = stream.get_final_response()
    assert (final.output_text, final.status) == (text, "completed")


def test_a_conversation_goes_on(judge: Judge) -> None:
    first = respond(judge, instructions="Speak like a pirate.")
    second = respond(judge, input="And then?", previous_response_id=first.id)
    said = {"role": "assistant", "content": first.output_text}
    resent = respond(
        judge, input=[{"role": "user", "content": "Hello!"}, said, {"role": "user", "content": "And then?"}]
    )
    assert second.previous_response_id == first.id
    assert second.instructions is None
    assert second.usage is not None
    assert resent.usage is not None
    assert second.usage.input_tokens == resent.usage.input_tokens, "the instructions were the first response's own"
    assert second.output_text == resent.output_text


def test_what_is_kept_can_be_had_again(judge: Judge) -> None:
    response = respond(judge, input=[{"role": "user", "content": text} for text in ("one", "two")])
    again = judge.ask(lambda client: client.responses.retrieve(response.id))
    assert again.model_dump() == response.model_dump()
    events = judge.pieces(lambda client: client.responses.retrieve(response.id, stream=True, starting_after=1))
    assert events[0].sequence_number == 2
    assert events[-1].response.output_text == response.output_text
    page = judge.ask(lambda client: client.responses.input_items.list(response.id, order="asc", limit=1))
    assert (page.data[0].content[0].text, page.has_more) == ("one", True)
    judge.ask(lambda client: client.responses.delete(response.id))
    with pytest.raises(openai.NotFoundError):
        judge.ask(lambda client: client.responses.retrieve(response.id))
    assert error(judge, openai.NotFoundError, previous_response_id=response.id)["param"] == "previous_response_id"


def test_what_is_not_kept_cannot(judge: Judge) -> None:
    response = respond(judge, store=False)
    assert response.to_dict()["store"] is False
    with pytest.raises(openai.NotFoundError):
        judge.ask(lambda client: client.responses.retrieve(response.id))


def test_a_response_in_the_background(judge: Judge) -> None:
    queued = respond(judge, background=True)
    assert queued.status == "queued"
    events = judge.pieces(lambda client: client.responses.retrieve(queued.id, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].response.output_text == respond(judge).output_text
    assert judge.ask(lambda client: client.responses.retrieve(queued.id)).status == "incomplete"


def test_the_background_can_be_cancelled(judge: Judge, served: Served) -> None:
    queued = respond(judge, model="leaver", background=True, max_output_tokens=100_000, truncation="auto")
    eventually(lambda: judge.ask(lambda client: client.responses.retrieve(queued.id)).output_text, "it says something")
    for _ in range(2):
        assert judge.ask(lambda client: client.responses.cancel(queued.id)).status == "cancelled"
    assert judge.ask(lambda client: client.responses.retrieve(queued.id)).status == "cancelled"
    with pytest.raises(openai.BadRequestError):
        judge.ask(lambda client: client.responses.cancel(kept(served)))


def kept(served: Served) -> str:
    """Id of a response that was not made in the background."""
    answer = served.post("/v1/responses", model="endless", input="Hi", max_output_tokens=1).json()
    return str(answer["id"])


def test_a_schema_is_kept_to(judge: Judge) -> None:
    response = judge.ask(
        lambda client: client.responses.parse(
            model="tiny", input="Hello!", text_format=Reading, max_output_tokens=1000, extra_body={"seed": 1}
        )
    )
    assert isinstance(response.output_parsed, Reading)


def test_a_tool_is_called_and_its_output_is_read(judge: Judge) -> None:
    asked: dict[str, Any] = {"model": "localmodels", "max_output_tokens": 300, "tools": [WEATHER]}
    first = respond(judge, input=ASKED, tool_choice="required", **asked)
    (call,) = first.output
    assert isinstance(call, ResponseFunctionToolCall)
    assert call.name == "get_weather"
    assert isinstance(json.loads(call.arguments)["city"], str)
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "22 degrees, sunny"}
    second = respond(judge, input=[result], previous_response_id=first.id, **asked)
    assert "22" in second.output_text


def test_a_streamed_call_can_be_put_together(judge: Judge) -> None:
    asked: dict[str, Any] = {"model": "localmodels", "max_output_tokens": 300, "tools": [WEATHER], "input": ASKED}
    events = streamed(judge, **asked)
    arguments = "".join(event.delta for event in events if event.type == "response.function_call_arguments.delta")
    (call,) = events[-1].response.output
    assert (json.loads(arguments), call.type) == (json.loads(call.arguments), "function_call")


def test_a_custom_tool_is_called_with_a_text(judge: Judge) -> None:
    tool = {"type": "custom", "name": "write", "description": "Writes a note", "format": {"type": "text"}}
    choice = {"type": "custom", "name": "write"}
    asked = {"model": "localmodels", "max_output_tokens": 300, "tools": [tool], "tool_choice": choice}
    first = respond(judge, input="Write down: buy milk", **asked)
    (call,) = first.output
    assert isinstance(call, ResponseCustomToolCall)
    assert (call.name, call.input.startswith("{")) == ("write", False)
    result = {"type": "custom_tool_call_output", "call_id": call.call_id, "output": "done"}
    second = respond(judge, input=[result], previous_response_id=first.id, **{**asked, "tool_choice": "none"})
    assert second.output_text


def test_tools_that_nobody_runs_are_named(judge: Judge) -> None:
    asked = {"model": "endless", "input": "Hello!", "max_output_tokens": 1, "tools": [{"type": "web_search"}]}
    answer = judge.ask(lambda client: client.responses.with_raw_response.create(**asked))
    assert answer.headers["x-localmodels-ignored-tools"] == "web_search"


def test_questions_are_counted_as_the_model_counts_them(judge: Judge) -> None:
    counted = judge.ask(lambda client: client.responses.input_tokens.count(model="localmodels", input="Hello!"))
    usage = respond(judge, model="localmodels").usage
    assert usage is not None
    assert (counted.object, counted.input_tokens) == ("response.input_tokens", usage.input_tokens)


def test_logprobs_are_those_of_the_text(judge: Judge) -> None:
    response = respond(judge, include=["message.output_text.logprobs"], top_logprobs=2, max_output_tokens=6)
    (message,) = response.output
    rows = message.to_dict()["content"][0]["logprobs"]  # type: ignore[index]
    assert "".join(row["token"] for row in rows) == response.output_text
    assert [len(row["top_logprobs"]) for row in rows] == [2] * 6


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        ({"model": "nobody"}, openai.NotFoundError),
        ({"previous_response_id": "resp_nobody"}, openai.NotFoundError),
        ({"input": []}, openai.BadRequestError),
        ({"conversation": "conv_1"}, openai.BadRequestError),
        ({"background": True, "store": False}, openai.BadRequestError),
        ({"tools": [{"type": "file_search"}], "tool_choice": {"type": "file_search"}}, openai.BadRequestError),
        ({"model": "narrow", "input": [*LONG, {"role": "user", "content": "!"}]}, openai.BadRequestError),
        ({"temperature": 9}, openai.UnprocessableEntityError),
    ],
)
def test_errors_are_the_sdks_own(judge: Judge, wrong: Any, kind: type[openai.APIStatusError]) -> None:
    body = error(judge, kind, **wrong)
    assert body["message"]
    assert body["code"]


def test_a_long_conversation_is_shortened_where_it_may_be(judge: Judge) -> None:
    asked = {"model": "narrow", "input": [*LONG, {"role": "user", "content": "!"}], "max_output_tokens": 4}
    answer = judge.ask(lambda client: client.responses.with_raw_response.create(**asked, truncation="auto"))
    assert int(answer.headers["x-localmodels-truncated"]) > 0


@pytest.mark.parametrize(
    "query", ["input_items?limit=0", "input_items?limit=x", "input_items?order=up", "?stream=true&starting_after=x"]
)
def test_a_query_that_makes_no_sense_is_refused(served: Served, query: str) -> None:
    path = f"/v1/responses/{kept(served)}/{query}".replace("/?", "?")
    answer = served.get(path)
    assert answer.status_code == 422
    assert answer.json()["error"]["param"] in query


def test_conversations_are_not_compacted(judge: Judge) -> None:
    with pytest.raises(openai.BadRequestError, match="does not compact"):
        judge.ask(lambda client: client.responses.compact(model="localmodels", input="Hello!"))


def test_a_response_is_there_for_its_key_alone(served: Served) -> None:
    def client(name: str) -> openai.OpenAI:
        key = served.post("/api/keys", name=name).json()["key"]
        return openai.OpenAI(**{**settings(served), "api_key": key})

    with client("one") as one, client("two") as two, openai.OpenAI(**settings(served)) as local:
        asked: dict[str, Any] = {"model": "endless", "input": "Hello!", "max_output_tokens": 1}
        response = one.responses.create(**asked)
        waiting = one.responses.create(**{**asked, "max_output_tokens": 100_000}, background=True)
        assert one.responses.retrieve(response.id).id == response.id
        for stranger in (two, local):
            for forbidden in (
                lambda found, other=stranger: other.responses.retrieve(found),
                lambda found, other=stranger: list(other.responses.retrieve(found, stream=True)),
                lambda found, other=stranger: other.responses.delete(found),
                lambda found, other=stranger: other.responses.cancel(found),
                lambda found, other=stranger: other.responses.input_items.list(found),
                lambda found, other=stranger: other.responses.create(**asked, previous_response_id=found),
            ):
                for found in (response.id, waiting.id):
                    with pytest.raises(openai.NotFoundError):
                        forbidden(found)
        assert one.responses.cancel(waiting.id).status == "cancelled"


def test_whoever_leaves_a_stream_leaves_what_was_said(served: Served) -> None:
    with openai.OpenAI(**settings(served)) as client:
        stream = client.responses.create(model="leaver", input="Hello!", stream=True, max_output_tokens=100_000)
        found = next(event.response.id for event in stream if event.type == "response.created")
        stream.close()

        def left() -> Response | None:
            try:
                return client.responses.retrieve(found)
            except openai.NotFoundError:
                return None

        response = eventually(left, "it is kept")
        assert response is not None
        assert (response.status, response.output[0].type) == ("cancelled", "message")


def test_a_server_that_keeps_nothing_says_so(models: dict[str, Path], tmp_path: Path) -> None:
    flags = ("--model", f"endless={models['endless']}", "--response-retention", "0")
    asked: dict[str, Any] = {"model": "endless", "input": "Hello!", "max_output_tokens": 1}
    with serve(*flags, home=tmp_path) as served, openai.OpenAI(**settings(served)) as client:
        assert client.responses.create(**asked).to_dict()["store"] is False
        with pytest.raises(openai.BadRequestError, match="keeps none"):
            client.responses.create(**asked, background=True)
    assert not (tmp_path / "responses.db").exists()


def test_what_is_kept_outlives_the_server_and_what_was_going_on_has_failed(
    models: dict[str, Path], tmp_path: Path
) -> None:
    flags = ("--model", f"endless={models['endless']}")
    with serve(*flags, home=tmp_path) as served, openai.OpenAI(**settings(served)) as client:
        done = client.responses.create(model="endless", input="Hello!", max_output_tokens=4)
        running = client.responses.create(model="endless", input="Hello!", background=True)
        eventually(lambda: client.responses.retrieve(running.id).output_text, "it says something")
        served.signal(signal.SIGKILL)
        served.process.wait(PATIENCE)
    with serve(*flags, home=tmp_path) as served, openai.OpenAI(**settings(served)) as client:
        assert client.responses.retrieve(done.id).output_text == done.output_text
        failed = eventually(
            lambda: (found := client.responses.retrieve(running.id)).status == "failed" and found, "it has failed"
        )
        assert isinstance(failed, Response)
        assert failed.error is not None
        assert failed.error.code == "server_error"
