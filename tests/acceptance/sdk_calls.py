"""The calls of the official SDKs, in their blocking and their asynchronous form, and what comes of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from functools import partial
from inspect import isawaitable
from typing import Any

import anthropic
import ollama
import openai
from msgspec import Struct

HELLO: Any = [{"role": "user", "content": "Hello!"}]
FORMS = ("blocking", "asynchronous")


class Api(Struct, frozen=True):
    """One call of an SDK.

    Attributes:
        sdk: whose.
        ask: calls for a whole answer; None if there is none.
        stream: calls for a stream; None if there is none.
        ends: is this piece of a stream a sign of success?
    """

    sdk: str
    ask: Callable[[Any, str], Any] | None = None
    stream: Callable[[Any, str], Any] | None = None
    ends: Callable[[Any], bool] = lambda _: False


def _ended_choice(piece: Any) -> bool:
    chunk = getattr(piece, "chunk", piece)  # the helper's events have it
    return any(choice.finish_reason for choice in getattr(chunk, "choices", None) or ())


APIS: Mapping[str, Api] = {
    "ollama chat": Api(
        "ollama",
        lambda client, model: client.chat(model=model, messages=HELLO),
        lambda client, model: client.chat(model=model, messages=HELLO, stream=True),
        lambda piece: bool(piece.done),
    ),
    "ollama generate": Api(
        "ollama",
        lambda client, model: client.generate(model=model, prompt="Hello!"),
        lambda client, model: client.generate(model=model, prompt="Hello!", stream=True),
        lambda piece: bool(piece.done),
    ),
    "ollama embed": Api("ollama", lambda client, model: client.embed(model=model, input="Hello!")),
    "openai chat": Api(
        "openai",
        lambda client, model: client.chat.completions.create(model=model, messages=HELLO),
        lambda client, model: client.chat.completions.create(model=model, messages=HELLO, stream=True),
        _ended_choice,
    ),
    "openai chat helper": Api(
        "openai",
        stream=lambda client, model: client.chat.completions.stream(model=model, messages=HELLO),
        ends=_ended_choice,
    ),
    "openai completions": Api(
        "openai",
        lambda client, model: client.completions.create(model=model, prompt="Hello!"),
        lambda client, model: client.completions.create(model=model, prompt="Hello!", stream=True),
        _ended_choice,
    ),
    "openai embeddings": Api("openai", lambda client, model: client.embeddings.create(model=model, input="Hello!")),
    "openai responses": Api(
        "openai",
        lambda client, model: client.responses.create(model=model, input="Hello!"),
        lambda client, model: client.responses.create(model=model, input="Hello!", stream=True),
        lambda piece: piece.type in {"response.completed", "response.incomplete"},
    ),
    "openai responses helper": Api(
        "openai",
        stream=lambda client, model: client.responses.stream(model=model, input="Hello!"),
        ends=lambda piece: piece.type in {"response.completed", "response.incomplete"},
    ),
    "openai input tokens": Api(
        "openai", lambda client, model: client.responses.input_tokens.count(model=model, input="Hello!")
    ),
    "anthropic messages": Api(
        "anthropic",
        lambda client, model: client.messages.create(model=model, messages=HELLO, max_tokens=9),
        lambda client, model: client.messages.create(model=model, messages=HELLO, max_tokens=9, stream=True),
        lambda piece: piece.type in {"message_delta", "message_stop"},
    ),
    "anthropic helper": Api(
        "anthropic",
        stream=lambda client, model: client.messages.stream(model=model, messages=HELLO, max_tokens=9),
        ends=lambda piece: piece.type in {"message_delta", "message_stop"},
    ),
    "anthropic beta": Api(
        "anthropic",
        lambda client, model: client.beta.messages.create(model=model, messages=HELLO, max_tokens=9),
        lambda client, model: client.beta.messages.create(model=model, messages=HELLO, max_tokens=9, stream=True),
        lambda piece: piece.type in {"message_delta", "message_stop"},
    ),
    "anthropic count_tokens": Api(
        "anthropic", lambda client, model: client.messages.count_tokens(model=model, messages=HELLO)
    ),
}
WHOLE = [name for name, api in APIS.items() if api.ask]
STREAMED = [name for name, api in APIS.items() if api.stream]

Asked = tuple[str, str, str, str]  # whole or stream, API, model, form


class Heard(Struct):
    """What came of a call: its pieces, or the whole of it as the only one, and then perhaps an error."""

    pieces: list[Any] = []
    error: Exception | None = None


async def heard(call: Callable[..., Any], client: Any, *arguments: Any, stream: bool, blocking: bool) -> Heard:
    """Calls and listens to the end, with the blocking or the asynchronous form of an SDK."""
    told = Heard()
    try:
        if blocking:
            await asyncio.to_thread(_listen, partial(call, client, *arguments), told.pieces, stream=stream)
        else:
            await _await(call(client, *arguments), told.pieces, stream=stream)
    except Exception as error:  # noqa: BLE001 - which one it is, is what the tests look at
        told.error = error
    return told


def _listen(call: Callable[[], Any], pieces: list[Any], *, stream: bool) -> None:
    answer = call()
    if not stream:
        pieces.append(answer)
        return
    with _managed(answer, "__iter__") as events:
        pieces.extend(events)  # also those before an error


async def _await(answer: Any, pieces: list[Any], *, stream: bool) -> None:
    if isawaitable(answer):
        answer = await answer
    if not stream:
        pieces.append(answer)
        return
    async with _managed(answer, "__aiter__") as events:
        async for event in events:
            pieces += [event]


def _managed(answer: Any, iterates: str) -> Any:
    """A stream, or the manager with which a helper gives one, as a manager."""
    return nullcontext(answer) if hasattr(answer, iterates) else answer


@asynccontextmanager
async def clients(url: str, **more: Any) -> AsyncIterator[dict[tuple[str, str], Any]]:
    """Of every SDK both forms."""
    settings: dict[str, Any] = {"api_key": "any", "max_retries": 0, **more}
    async with AsyncExitStack() as stack:
        yield {
            ("openai", "blocking"): stack.enter_context(openai.OpenAI(base_url=f"{url}/v1", **settings)),
            ("openai", "asynchronous"): await stack.enter_async_context(
                openai.AsyncOpenAI(base_url=f"{url}/v1", **settings)
            ),
            ("anthropic", "blocking"): stack.enter_context(anthropic.Anthropic(base_url=url, **settings)),
            ("anthropic", "asynchronous"): await stack.enter_async_context(
                anthropic.AsyncAnthropic(base_url=url, **settings)
            ),
            ("ollama", "blocking"): stack.enter_context(ollama.Client(url)),
            ("ollama", "asynchronous"): await stack.enter_async_context(ollama.AsyncClient(url)),
        }


async def ask(url: str, every: Iterable[Asked], **more: Any) -> dict[Asked, Heard]:
    """Asks them one after the other."""
    told: dict[Asked, Heard] = {}
    async with clients(url, **more) as known:
        for asked in every:
            how, name, model, form = asked
            api = APIS[name]
            call = api.stream if how == "stream" else api.ask
            assert call is not None
            streams, blocks = how == "stream", form == "blocking"
            told[asked] = await heard(call, known[api.sdk, form], model, stream=streams, blocking=blocks)
    return told
