"""The endpoint of everything that is answered by events: how long it waits, and by which name it calls a model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
import pytest
from starlette.types import Message, Scope

from localmodels.core.chat import ChatRequest, Chunk, Done, Event
from localmodels.core.errors import BackendTimeout
from localmodels.dialects.gateway import Gateway, at_address
from localmodels.flows.visit import Visit
from localmodels.server.inference import Codec, EventRoute
from localmodels.server.wire import VISIT

DIALECT = Gateway()


class Flow:
    """Answers with the model that was asked for, after a piece of which it may never come back."""

    def __init__(self, *, hangs: bool = False) -> None:
        self.ended = False
        self._hangs = hangs

    async def chat(self, request: ChatRequest, visit: Visit) -> AsyncGenerator[list[Event], None]:
        visit.model = f"{request.model}:latest"
        try:
            yield [Chunk(request.model)]
            if self._hangs and not request.stream:
                await asyncio.Event().wait()
            yield [Done()]
        finally:
            self.ended = True


def ask(flow: Flow, sent: dict[str, Any], **settings: Any) -> tuple[int, bytes]:
    codec = Codec(DIALECT.read_chat, flow.chat, DIALECT.chat_writer, DIALECT.write_chat_answer)
    route: EventRoute[ChatRequest] = EventRoute(DIALECT, codec, "", **settings)
    bodies: list[Message] = [{"type": "http.request", "body": msgspec.json.encode(sent), "more_body": False}]
    answered: list[Message] = []

    async def receive() -> Message:
        if bodies:
            return bodies.pop()
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        answered.append(message)

    scope: Scope = {"type": "http", "path_params": {"model_name": "devstral"}, VISIT: Visit("r")}
    asyncio.run(route(scope, receive, send))
    return answered[0]["status"], b"".join(message.get("body", b"") for message in answered[1:])


def test_a_whole_answer_that_does_not_end_in_time_is_given_up() -> None:
    flow = Flow(hangs=True)
    with pytest.raises(BackendTimeout, match=r"did not end within 0\.01 s"):
        ask(flow, {"message": "hi"}, most=0.01)
    assert flow.ended


def test_a_stream_may_take_as_long_as_it_likes() -> None:
    status, body = ask(Flow(), {"message": "hi", "stream": True}, most=0.0)
    assert (status, body.endswith(b"data: [DONE]\n\n")) == (200, True)


def test_an_answer_names_the_model_as_the_request_did_or_as_lists_do() -> None:
    asked = {"message": "hi", "model": "m"}
    assert msgspec.json.decode(ask(Flow(), asked)[1])["model"] == "m"
    assert msgspec.json.decode(ask(Flow(), asked, listed=True)[1])["model"] == "m:latest"
    assert b'"model":"m:latest"' in ask(Flow(), {**asked, "stream": True}, listed=True)[1]


def test_the_address_may_say_more_than_the_body() -> None:
    def addressed(request: ChatRequest, scope: Scope) -> ChatRequest:
        return at_address(request, scope["path_params"]["model_name"])

    assert msgspec.json.decode(ask(Flow(), {"message": "hi"}, addressed=addressed)[1])["response"] == "devstral"
