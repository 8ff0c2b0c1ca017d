"""The ``openai`` package's own helpers as judges: streams that put themselves together, and answers that are parsed.

They believe more of a server than plain calls do: which event comes first, what has an index, what is the last.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel, Field
from tests.acceptance.judges import Awaiting, Blocking, Judge
from tests.acceptance.serving import PATIENCE, Served

HELLO = [{"role": "user", "content": "Hello!"}]
WEATHER = "What is the weather in Paris?"
ASKED = [{"role": "user", "content": WEATHER}]
# A grammar lets a model that makes no sense write a lot of white space.
ROOMY = {"max_tokens": 1000, "seed": 1}


class Reading(BaseModel):
    """Short whatever a model makes of it."""

    sky: Literal["clear", "cloudy"]
    degrees: int = Field(ge=-9, le=9)


class GetWeather(BaseModel):
    """Get the current weather in a city."""

    city: str


@pytest.fixture(params=["sync", "async"])
def judge(request: pytest.FixtureRequest, served: Served) -> Iterator[Judge]:
    settings: dict[str, Any] = {"base_url": f"{served.url}/v1", "api_key": "any", "max_retries": 0, "timeout": PATIENCE}
    if request.param == "sync":
        with openai.OpenAI(**settings) as client:
            yield Blocking(client)
        return
    with asyncio.Runner() as loop:
        awaiting = openai.AsyncOpenAI(**settings)
        yield Awaiting(awaiting, loop)
        loop.run(awaiting.close())


def finished(manager: Any, final: str) -> Any:
    """The events of a helper and what it puts together of them; of the asynchronous SDK a coroutine that gives both."""
    if hasattr(manager, "__aenter__"):

        async def wait() -> tuple[list[Any], Any]:
            async with manager as stream:
                return [event async for event in stream], await getattr(stream, final)()

        return wait()
    with manager as stream:
        return list(stream), getattr(stream, final)()


def chatted(judge: Judge, **arguments: Any) -> tuple[list[Any], Any]:
    """Of ``chat.completions.stream``."""
    asked = {"model": "localmodels", "messages": HELLO, "temperature": 0, **arguments}
    return judge.ask(  # type: ignore[no-any-return]
        lambda client: finished(client.chat.completions.stream(**asked), "get_final_completion")
    )


def responded(judge: Judge, **arguments: Any) -> tuple[list[Any], Any]:
    """Of ``responses.stream``."""
    asked = {"model": "localmodels", "input": "Hello!", **arguments}
    return judge.ask(  # type: ignore[no-any-return]
        lambda client: finished(client.responses.stream(**asked), "get_final_response")
    )


def test_a_chat_puts_itself_together(judge: Judge) -> None:
    events, final = chatted(judge, stream_options={"include_usage": True})
    whole = judge.ask(lambda client: client.chat.completions.create(model="localmodels", messages=HELLO, temperature=0))
    deltas = [event.delta for event in events if event.type == "content.delta"]
    assert "".join(deltas) == final.choices[0].message.content == whole.choices[0].message.content
    assert len(deltas) > 8, "pieces come as they are made"
    assert [event.content for event in events if event.type == "content.done"] == [final.choices[0].message.content]
    assert (final.choices[0].finish_reason, final.usage.completion_tokens) == ("stop", whole.usage.completion_tokens)


def test_a_chat_of_a_shape_is_parsed(judge: Judge) -> None:
    events, final = chatted(judge, model="tiny", response_format=Reading, **ROOMY)
    (done,) = (event for event in events if event.type == "content.done")
    assert isinstance(done.parsed, Reading)
    assert final.choices[0].message.parsed == done.parsed


def test_a_shape_that_was_cut_off_is_the_sdks_own_error(judge: Judge) -> None:
    asked: Any = {"model": "tiny", "messages": HELLO, "response_format": Reading, "max_tokens": 3, "seed": 1}
    with pytest.raises(openai.LengthFinishReasonError):
        judge.ask(lambda client: client.chat.completions.parse(**asked))
    with pytest.raises(openai.LengthFinishReasonError):
        chatted(judge, **asked)


@pytest.mark.parametrize("choice", ["auto", "required"])
def test_a_call_of_a_chat_is_parsed(judge: Judge, choice: str) -> None:
    tool = openai.pydantic_function_tool(GetWeather, name="get_weather")
    asked: Any = {"model": "localmodels", "messages": ASKED, "tools": [tool], "tool_choice": choice, "max_tokens": 300}
    events, final = chatted(judge, **asked)
    (call,) = final.choices[0].message.tool_calls
    assert isinstance(call.function.parsed_arguments, GetWeather)
    (done,) = (event for event in events if event.type == "tool_calls.function.arguments.done")
    assert (done.name, done.parsed_arguments) == ("get_weather", call.function.parsed_arguments)
    pieces = [event.arguments_delta for event in events if event.type == "tool_calls.function.arguments.delta"]
    assert "".join(pieces) == call.function.arguments
    whole = judge.ask(lambda client: client.chat.completions.parse(**asked, temperature=0))
    assert whole.choices[0].message.tool_calls[0].function.parsed_arguments == call.function.parsed_arguments


def test_a_tool_out_of_those_that_are_allowed_is_called(judge: Judge) -> None:
    tools = [openai.pydantic_function_tool(GetWeather, name=name) for name in ("get_weather", "get_tides")]
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "get_tides"}}]}
    choice = {"type": "allowed_tools", "allowed_tools": allowed}
    asked: Any = {"model": "localmodels", "messages": ASKED, "tools": tools, "tool_choice": choice, "max_tokens": 300}
    _, final = chatted(judge, **asked)
    assert {call.function.name for call in final.choices[0].message.tool_calls} == {"get_tides"}


def test_effort_is_asked_only_of_models_that_think(judge: Judge) -> None:
    asked: Any = {"model": "localmodels", "messages": HELLO, "max_tokens": 100}
    calm = judge.ask(lambda client: client.chat.completions.create(**asked, reasoning_effort="none"))
    assert calm.choices[0].message.content
    with pytest.raises(openai.BadRequestError, match="does not support thinking"):
        judge.ask(lambda client: client.chat.completions.create(**asked, reasoning_effort="high"))


def test_the_size_of_the_context_is_an_option(judge: Judge) -> None:
    asked: Any = {"model": "localmodels", "messages": HELLO, "max_tokens": 4}
    raw = judge.ask(
        lambda client: client.chat.completions.with_raw_response.create(**asked, extra_body={"num_ctx": 512})
    )
    assert "x-localmodels-ignored-options" not in raw.headers
    with pytest.raises(openai.UnprocessableEntityError) as raised:
        judge.ask(lambda client: client.chat.completions.create(**asked, extra_body={"num_ctx": "many"}))
    assert raised.value.param == "num_ctx"


def test_a_response_puts_itself_together(judge: Judge) -> None:
    events, final = responded(judge)
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    snapshots = [event.snapshot for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == final.output_text == snapshots[-1]
    assert final.status == "completed"


def test_a_response_of_a_shape_is_parsed(judge: Judge) -> None:
    events, final = responded(judge, text_format=Reading)
    assert isinstance(final.output_parsed, Reading)
    (done,) = (event for event in events if event.type == "response.output_text.done")
    assert done.parsed == final.output_parsed


def test_a_call_of_a_response_is_parsed(judge: Judge) -> None:
    tool = openai.pydantic_function_tool(GetWeather, name="get_weather")
    asked: Any = {"input": WEATHER, "tools": [tool], "temperature": 0}
    events, final = responded(judge, **asked)
    (call,) = final.output
    assert isinstance(call.parsed_arguments, GetWeather)
    pieces = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
    assert "".join(pieces) == call.arguments
    whole = judge.ask(lambda client: client.responses.parse(model="localmodels", **asked))
    assert whole.output[0].parsed_arguments == call.parsed_arguments


def test_a_kept_response_is_streamed_again_by_the_helper(judge: Judge) -> None:
    queued = judge.ask(lambda client: client.responses.create(model="localmodels", input="Hello!", background=True))
    events, final = responded(judge, response_id=queued.id, model=openai.omit, input=openai.omit)
    assert final.output_text
    assert (events[-1].type, final.id) == ("response.completed", queued.id)


def test_an_answer_can_be_read_while_it_comes(judge: Judge) -> None:
    """``with_streaming_response``: the body is not read before it is asked for."""
    asked: Any = {"model": "endless", "messages": HELLO, "max_tokens": 4, "stream": True}

    def read(client: Any) -> Any:
        manager = client.chat.completions.with_streaming_response.create(**asked)
        if hasattr(manager, "__aenter__"):

            async def wait() -> list[str]:
                async with manager as response:
                    return [line async for line in response.iter_lines()]

            return wait()
        with manager as response:
            return list(response.iter_lines())

    lines = judge.ask(read)
    assert lines[-2:] == ["data: [DONE]", ""]
