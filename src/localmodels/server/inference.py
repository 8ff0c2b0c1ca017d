"""The routes that ask a model: one endpoint class for everything that is answered by a stream of events.

The answer in one piece is a fold of the same stream, so that both forms agree. Until the first event is there nothing
has been sent, and an error is an HTTP status, which the application writes; after it an error is written in-band, in
the dialect's own way, and no sign of success follows.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from functools import partial
from math import inf, isinf
from time import time_ns
from typing import Generic, TypeVar

from msgspec import Struct
from starlette.types import Receive, Scope, Send

from localmodels.core.chat import Answer, ChatRequest, Event, GenerateRequest, fold
from localmodels.core.errors import BackendTimeout
from localmodels.dialects.protocol import ChatDialect, EventWriter, Stamp
from localmodels.flows.visit import Visit
from localmodels.server.own_headers import IGNORED_OPTIONS, IGNORED_TOOLS, TRUNCATED
from localmodels.server.pings import Pulse
from localmodels.server.streaming import Form, respond_stream
from localmodels.server.wire import (
    MAX_JSON_BODY,
    MOST_BLOCKED,
    Headers,
    attended,
    read_body,
    respond,
    visit_of,
)

Asked = TypeVar("Asked", ChatRequest, GenerateRequest)
T = TypeVar("T")

# A body of this size takes the loop up to ten milliseconds to check and to read; a larger one is read in a thread. In
# one for all: readers hold the interpreter's lock, so several at a time are no faster, and the loop waits for each
# (four bodies of 100,000 keys at once: a quarter of a second).
LARGE_BODY = 64 * 2**10
_READER = ThreadPoolExecutor(1, thread_name_prefix="reader")


class Codec(Struct, Generic[Asked], frozen=True):
    """The four moves of a dialect for one kind of question."""

    read: Callable[[bytes], Asked]
    flow: Callable[[Asked, Visit], AsyncGenerator[list[Event], None]]
    writer: Callable[[Stamp, Asked], EventWriter]
    whole: Callable[[Stamp, Asked, Answer], bytes]


class EventRoute(Generic[Asked]):
    """An ASGI endpoint that reads a request, asks the flow, and writes its events.

    Args:
        dialect: of the stream.
        codec: how the question is read and the answer written.
        prefix: of the answer's id, as the dialect's clients know it (``chatcmpl-``).
        most_blocked: seconds that a client may take nothing of a stream before it is given up.
        pulse: what a stream says when it has been silent for a while.
        addressed: what the address adds to a request.
        listed: do answers name the model as lists do, or as the request did?
        most: seconds after which a whole answer is given up; a stream may take as long as it likes.
    """

    def __init__(
        self,
        dialect: ChatDialect,
        codec: Codec[Asked],
        prefix: str,
        *,
        most_blocked: float = MOST_BLOCKED,
        pulse: Pulse | None = None,
        addressed: Callable[[Asked, Scope], Asked] | None = None,
        listed: bool = False,
        most: float = inf,
    ) -> None:
        self._addressed: Callable[[Asked, Scope], Asked] | None = addressed
        self._listed = listed
        self._most = most
        self._dialect = dialect
        self._pulse = pulse
        self._most_blocked = most_blocked
        self._codec: Codec[Asked] = codec
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        request = await decoded(self._codec.read, await read_body(receive))
        if self._addressed is not None:
            request = self._addressed(request, scope)
        await attended(scope, receive, self._answer(scope, request, send))

    async def _answer(self, scope: Scope, request: Asked, send: Send) -> None:
        visit, created = visit_of(scope), time_ns()
        async with aclosing(self._codec.flow(request, visit)) as stream:
            if not request.stream:
                answer = await self._whole(stream)
                body = self._codec.whole(self._stamp(request, visit, created), request, answer)
                await respond(send, 200, body, headers=told(request, visit))
                return
            first = await anext(stream)
            writer = self._codec.writer(self._stamp(request, visit, created), request)
            await respond_stream(
                scope,
                send,
                first,
                stream,
                Form(self._dialect.stream_type, partial(written, writer), writer.fail),
                headers=told(request, visit),
                pulse=self._pulse,
                most_blocked=self._most_blocked,
            )

    def _stamp(self, request: Asked, visit: Visit, created: int) -> Stamp:
        return Stamp(
            id=self._prefix + os.urandom(16).hex(),
            model=visit.model if self._listed else visit.named(request.model),
            created=created,
            clock=time_ns,
            request_id=visit.id,
        )

    async def _whole(self, stream: AsyncGenerator[list[Event], None]) -> Answer:
        """The answer in one piece.

        Raises:
            BackendTimeout: it did not end in time.
        """
        if isinf(self._most):
            return await fold(stream)
        try:
            async with asyncio.timeout(self._most) as clock:
                return await fold(stream)
        except TimeoutError:
            if not clock.expired():
                raise
            raise BackendTimeout(f"the answer did not end within {self._most:g} s (chat_timeout)") from None


def written(writer: EventWriter, events: list[Event]) -> bytes:
    """The bytes of events that arrived together, as one piece."""
    return writer.write(events[0]) if len(events) == 1 else b"".join(map(writer.write, events))


async def decoded(read: Callable[[bytes], T], body: bytes) -> T:
    """The request in a body; a large one is read beside the loop, which others wait for."""
    if len(body) < LARGE_BODY:
        return read(body)
    return await asyncio.get_running_loop().run_in_executor(_READER, read, body)


def told(request: ChatRequest | GenerateRequest, visit: Visit) -> Headers:
    """What the head of an answer tells beyond the dialect."""
    headers = []
    if visit.truncated_messages:
        headers.append((TRUNCATED, str(visit.truncated_messages).encode()))
    if names := (*request.options.ignored, *visit.ignored):
        headers.append((IGNORED_OPTIONS, sayable(", ".join(names))))
    if isinstance(request, ChatRequest) and request.ignored_tools:
        headers.append((IGNORED_TOOLS, sayable(", ".join(request.ignored_tools))))
    return headers


def sayable(text: str) -> bytes:
    """A stranger's words for a header: nothing that could end a line or be read as two."""
    return "".join(char if char.isascii() and char.isprintable() else "?" for char in text).encode()


Reply = Callable[[Scope, bytes], Awaitable[bytes]]


class WholeRoute:
    """An ASGI endpoint whose answer comes in one piece; the request has at most ``most`` bytes."""

    def __init__(self, reply: Reply, *, most: int = MAX_JSON_BODY) -> None:
        self._reply = reply
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        body = await read_body(receive, self._most)
        await attended(scope, receive, self._answer(scope, body, send))

    async def _answer(self, scope: Scope, body: bytes, send: Send) -> None:
        await respond(send, 200, await self._reply(scope, body))
