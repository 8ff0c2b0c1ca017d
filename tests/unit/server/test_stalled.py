"""Who takes nothing of his answer is given up, and what worked for him ends: a place that others wait for is free."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from starlette.types import ASGIApp, Message

from localmodels.core.chat import ChatRequest, Chunk, Event
from localmodels.core.library import Progress, PullRequest
from localmodels.dialects.ollama import library
from localmodels.dialects.table import DIALECTS
from localmodels.flows.visit import Visit
from localmodels.server.inference import Codec, EventRoute
from localmodels.server.library import Operation, ProgressRoute, transfer
from localmodels.server.wire import VISIT, ClientStalled

OLLAMA = DIALECTS["ollama"]


class Work:
    """Answers without an end, and knows whether it was ended."""

    ended = False

    async def chat(self, request: ChatRequest, visit: Visit) -> AsyncGenerator[list[Event], None]:
        try:
            while True:
                yield [Chunk("word ")]
        finally:
            self.ended = True

    async def pull(self, request: PullRequest) -> AsyncGenerator[Progress, None]:
        try:
            while True:
                yield Progress("pulling")
        finally:
            self.ended = True


def chat_route(work: Work) -> ASGIApp:
    codec = Codec(OLLAMA.read_chat, work.chat, OLLAMA.chat_writer, OLLAMA.write_chat_answer)
    return EventRoute(OLLAMA, codec, "", most_blocked=0.0)


def pull_route(work: Work) -> ASGIApp:
    return ProgressRoute(OLLAMA, Operation(library.read_pull, work.pull, transfer), most_blocked=0.0)


@pytest.mark.parametrize("route", [chat_route, pull_route])
def test_a_reader_that_stalls_is_given_up_and_its_work_ends(route: Any) -> None:
    work, sent, stuck = Work(), list[Message](), asyncio.Event()
    body = b'{"model": "m", "messages": [{"role": "user", "content": "hi"}]}'
    received = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if received:
            return received.pop()
        return await asyncio.Future()  # it stays, and says nothing more

    async def send(message: Message) -> None:
        if len(sent) == 5:
            stuck.set()
            await asyncio.Future()
        sent.append(message)

    async def main() -> None:
        with pytest.raises(ClientStalled):
            await route(work)({"type": "http", "method": "POST", "headers": [], VISIT: Visit()}, receive, send)

    asyncio.run(main())
    assert stuck.is_set()
    assert work.ended
    assert [message["type"] for message in sent] == ["http.response.start", *["http.response.body"] * 4]
