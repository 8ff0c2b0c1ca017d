"""The routes that ask a model: one endpoint class for everything that is answered by a stream of events.

The answer in one piece is a fold of the same stream, so that both forms agree. Until the first event is there nothing
has been sent, and an error is an HTTP status; after it an error is written in-band, in the dialect's own way, and no
sign of success follows.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from time import time_ns
from typing import Generic, TypeVar
from uuid import uuid4

from msgspec import Struct
from starlette.types import Receive, Scope, Send

from localmodels.core.chat import Answer, ChatRequest, Event, GenerateRequest, fold
from localmodels.core.errors import LocalModelsError
from localmodels.dialects.protocol import Dialect, ErrorWriter, EventWriter, Stamp
from localmodels.flows.chat import Facts
from localmodels.server.wire import (
    MOST_BLOCKED,
    Headers,
    attended,
    begin,
    impatient,
    request_of,
    respond,
    respond_error,
)

Asked = TypeVar("Asked", ChatRequest, GenerateRequest)


class Codec(Struct, Generic[Asked], frozen=True):
    """The four moves of a dialect for one kind of question."""

    read: Callable[[bytes], Asked]
    flow: Callable[[Asked, Facts], AsyncGenerator[list[Event], None]]
    writer: Callable[[Stamp, Asked], EventWriter]
    whole: Callable[[Stamp, Asked, Answer], bytes]


class EventRoute(Generic[Asked]):
    """An ASGI endpoint that reads a request, asks the flow, and writes its events.

    Args:
        dialect: in which errors are written.
        codec: how the question is read and the answer written.
        prefix: of the answer's id, as the dialect's clients know it (``chatcmpl-``).
        most_blocked: seconds that a client may take nothing of a stream before it is given up.
    """

    def __init__(
        self, dialect: Dialect, codec: Codec[Asked], prefix: str, *, most_blocked: float = MOST_BLOCKED
    ) -> None:
        self._dialect = dialect
        self._most_blocked = most_blocked
        self._codec: Codec[Asked] = codec
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        request = await request_of(receive, send, self._dialect, self._codec.read)
        if request is not None:
            await attended(receive, self._answer(request, send))

    async def _answer(self, request: Asked, send: Send) -> None:
        stamp = Stamp(id=self._prefix + uuid4().hex, model=request.model, created=time_ns(), clock=time_ns)
        facts = Facts()
        async with aclosing(self._codec.flow(request, facts)) as stream:
            try:
                if request.stream:
                    first = await anext(stream)
                else:
                    answer = await fold(stream)
            except LocalModelsError as error:
                await respond_error(send, self._dialect, error)
                return
            headers = fact_headers(request, facts)
            if request.stream:
                await self._stream(stamp, request, first, stream, send, headers)
            else:
                await respond(send, 200, self._codec.whole(stamp, request, answer), headers=headers)

    async def _stream(
        self,
        stamp: Stamp,
        request: Asked,
        first: list[Event],
        stream: AsyncGenerator[list[Event], None],
        send: Send,
        headers: Headers,
    ) -> None:
        writer = self._codec.writer(stamp, request)
        send = impatient(send, self._most_blocked)
        await begin(send, 200, self._dialect.stream_type, headers)
        await send({"type": "http.response.body", "body": written(writer, first), "more_body": True})
        last = b""
        try:
            async for events in stream:
                await send({"type": "http.response.body", "body": written(writer, events), "more_body": True})
        except LocalModelsError as error:
            last = writer.fail(error)
        await send({"type": "http.response.body", "body": last})


def written(writer: EventWriter, events: list[Event]) -> bytes:
    """The bytes of events that arrived together, as one piece."""
    return writer.write(events[0]) if len(events) == 1 else b"".join(map(writer.write, events))


def fact_headers(request: ChatRequest | GenerateRequest, facts: Facts) -> Headers:
    """What the head of an answer tells beyond the dialect."""
    headers = []
    if facts.truncated_messages:
        headers.append((b"x-localmodels-truncated", str(facts.truncated_messages).encode()))
    if request.options.ignored:
        names = ", ".join(request.options.ignored)
        # A stranger's words in a header: nothing that could end a line or be read as two.
        safe = "".join(char if char.isascii() and char.isprintable() else "?" for char in names)
        headers.append((b"x-localmodels-ignored-options", safe.encode()))
    return headers


Reply = Callable[[Scope, bytes], Awaitable[bytes]]


class WholeRoute:
    """An ASGI endpoint whose answer comes in one piece."""

    def __init__(self, dialect: ErrorWriter, reply: Reply) -> None:
        self._dialect = dialect
        self._reply = reply

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        body = await request_of(receive, send, self._dialect, bytes)
        if body is not None:
            await attended(receive, self._answer(scope, body, send))

    async def _answer(self, scope: Scope, body: bytes, send: Send) -> None:
        try:
            answer = await self._reply(scope, body)
        except LocalModelsError as error:
            await respond_error(send, self._dialect, error)
        else:
            await respond(send, 200, answer)
