"""The same scripts as an HTTP server on a loopback port, in every dialect that has a path there.

One rule: what it sends depends on the request and the script alone, so that :func:`body_of` can tell beforehand which
byte is where.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from types import TracebackType
from typing import Self, cast

from localmodels.backends.fake.backend import embeddings, ranking
from localmodels.backends.fake.book import Book, Visit
from localmodels.backends.fake.http import Asked, Body, Hangup, hang_up, head, misheaded, parse, whole
from localmodels.backends.fake.script import GREETING, Choose, Page, Request, Script, Sleep, break_off, choice, play
from localmodels.core.catalog import Model
from localmodels.core.chat import ChatRequest, EmbedRequest, Fold, GenerateRequest
from localmodels.core.errors import LocalModelsError, NotFound, StreamCut, Unreachable
from localmodels.core.rerank import RerankRequest
from localmodels.dialects import listing, rerank
from localmodels.dialects.protocol import Call, ChatDialect, Dialect, EventWriter, Stamp
from localmodels.dialects.table import CHATS, DIALECTS

# Always the same, so that answers are the same to the byte.
CREATED = 1_767_225_600 * 10**9
BACKLOG = 512

# Later rows give way to earlier ones: lists of models are OpenAI's, whoever else has them at the same path.
ROUTES: Mapping[str, tuple[ChatDialect, Call]] = {
    path: (dialect, call)
    for dialect in tuple(CHATS.values())[::-1]
    for call, path in dialect.paths.items()
    if call in {"chat", "generate", "embed", "models", "rerank"}
}


class _Connection(asyncio.Protocol):
    """One client's connection: requests one after the other, each answered by a task that ends with the connection."""

    def __init__(self, server: FakeServer) -> None:
        self._server = server
        self._data = b""
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # what TCP always gives
        self._server.accepted += 1
        self._server.connections.add(self._transport)

    def data_received(self, data: bytes) -> None:
        self._data += data
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self._transport)
        if self._task:
            self._task.cancel()

    def _next(self) -> None:
        if self._task is None and (found := parse(self._data)):
            asked, size = found
            self._data = self._data[size:]
            self._task = asyncio.ensure_future(self._answer(asked))

    async def _answer(self, asked: Asked) -> None:
        try:
            await self._server.answer(asked, self._transport)
        except Hangup as hangup:
            hang_up(self._transport, reset=hangup.reset)
        self._task = None
        self._next()


class FakeServer:
    """A scripted HTTP server: ``async with FakeServer(script) as server: … server.url``.

    Args:
        script: what to answer, or a function that chooses by the request.
        names: of the models it lists.
        sleep: waits so many seconds.
        host: a loopback address.
        port: 0 takes a free one.
        socket: path of a unix socket to listen at instead.
        tls: with a certificate; None speaks plain HTTP.

    Attributes:
        book: every request that asks for an answer.
        asked: every request, as it came.
        pages: what is at these paths in place of everything else; may be changed at any time.
        accepted: connections since the start; ``connections`` are those that are open.
    """

    def __init__(
        self,
        script: Script | Choose = GREETING,
        *,
        names: tuple[str, ...] = ("fake:latest",),
        sleep: Sleep = asyncio.sleep,
        host: str = "127.0.0.1",
        port: int = 0,
        socket: str = "",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.book = Book()
        self.accepted = 0
        self.asked: list[Asked] = []
        self.pages: dict[str, Page] = {}
        self.connections: set[asyncio.Transport] = set()
        self._choose = choice(script)
        self._names = names
        self._sleep = sleep
        self._address = (host, port)
        self._socket = socket
        self._tls = tls
        self._listener: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        if self._socket:
            self._listener = await loop.create_unix_server(lambda: _Connection(self), self._socket, backlog=BACKLOG)
            return self
        self._listener = await loop.create_server(
            lambda: _Connection(self), *self._address, backlog=BACKLOG, ssl=self._tls
        )
        self._address = self._listener.sockets[0].getsockname()[:2]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.refuse()
        for connection in tuple(self.connections):
            connection.abort()
        if self._listener:
            await self._listener.wait_closed()

    @property
    def url(self) -> str:
        """``http://host:port``, or with ``https``."""
        return f"http{'s' if self._tls else ''}://{self._address[0]}:{self._address[1]}"

    def refuse(self) -> None:
        """Takes no more connections; those that are open stay."""
        if self._listener:
            self._listener.close()

    async def answer(self, asked: Asked, transport: asyncio.Transport) -> None:
        """Answers one request on this connection.

        Raises:
            Hangup: the connection shall end.
        """
        self.asked.append(asked)
        path = asked.path.partition("?")[0]
        if page := self.pages.get(path):
            await self._show(page, transport)
            return
        dialect, call = ROUTES.get(path, (DIALECTS["ollama"], None))
        try:
            if call is None:
                raise NotFound(f"there is nothing at {asked.path}")
            if call == "models":
                transport.write(whole(200, listed(dialect, self._names)))
            else:
                await self._answer(dialect, read(dialect, call, asked.body), transport)
        except Unreachable:
            raise Hangup(reset=True) from None
        except LocalModelsError as error:  # before the first event; later ones are written in-band
            transport.write(whole(dialect.status(error), dialect.write_error(error), error.retry_after))

    async def _show(self, page: Page, transport: asyncio.Transport) -> None:
        if page.first:
            await self._sleep(page.first)
        await misheaded(page.wire, transport)
        body = Body(transport, page.wire, head(page.status, "application/json", fields=page.wire.fields))
        await body.write(page.body)
        await body.end()

    async def _answer(self, dialect: ChatDialect, request: Request, transport: asyncio.Transport) -> None:
        script = self._choose(request)
        await misheaded(script.wire, transport)
        with self.book.visit(request) as visit:
            await self._play(dialect, request, script, visit, transport)

    async def _play(
        self, dialect: ChatDialect, request: Request, script: Script, visit: Visit, transport: asyncio.Transport
    ) -> None:
        if isinstance(request, EmbedRequest):
            if script.breaks:
                await break_off(script.breaks, self._sleep, None)
            data = whole_of(dialect).write_embeddings(stamp_of(request), request, embeddings(script, request))
            body = Body(transport, script.wire, head(200, "application/json", fields=script.wire.fields))
            await body.write(data)
        elif isinstance(request, RerankRequest):
            if script.breaks:
                await break_off(script.breaks, self._sleep, None)
            data = rerank.write_answer(stamp_of(request), rerank.Question(request), ranking(script, request))
            body = Body(transport, script.wire, head(200, "application/json", fields=script.wire.fields))
            await body.write(data)
        elif request.stream:
            body = Body(transport, script.wire, head(200, dialect.stream_type, fields=script.wire.fields))
            await self._stream(writer_of(dialect, request), script, visit, body)
        else:
            data = await self._fold(dialect, request, script, visit)
            body = Body(transport, script.wire, head(200, "application/json", fields=script.wire.fields))
            await body.write(data)
        await body.end()

    async def _stream(self, writer: EventWriter, script: Script, visit: Visit, body: Body) -> None:
        try:
            async with aclosing(play(script, self._sleep)) as events:
                async for event in events:
                    await body.write(writer.write(event))
                    visit.count()
        except StreamCut:
            return
        except LocalModelsError as error:
            if not visit.sent:
                raise
            await body.write(writer.fail(error))

    async def _fold(
        self, dialect: ChatDialect, request: ChatRequest | GenerateRequest, script: Script, visit: Visit
    ) -> bytes:
        folded = Fold()
        async with aclosing(play(script, self._sleep)) as events:
            async for event in events:
                visit.count()
                folded.add(event)
        if isinstance(request, ChatRequest):
            return dialect.write_chat_answer(stamp_of(request), request, folded.answer())
        return whole_of(dialect).write_generate_answer(stamp_of(request), request, folded.answer())


def whole_of(dialect: ChatDialect) -> Dialect:
    """The dialect, which has more than conversations where a route of it asks for more."""
    return DIALECTS[dialect.name]


def body_of(dialect: ChatDialect, request: ChatRequest | GenerateRequest, script: Script) -> bytes:
    """The body that a stream has when nothing goes wrong."""
    return b"".join(map(writer_of(dialect, request).write, script.events))


def read(dialect: ChatDialect, call: Call, body: bytes) -> Request:
    """The request in a body."""
    if call == "chat":
        return dialect.read_chat(body)
    if call == "rerank":
        return rerank.read(body).request
    more = whole_of(dialect)
    return more.read_embed(body) if call == "embed" else more.read_generate(body)


def writer_of(dialect: ChatDialect, request: ChatRequest | GenerateRequest) -> EventWriter:
    """Writes the events of the answer."""
    if isinstance(request, ChatRequest):
        return dialect.chat_writer(stamp_of(request), request)
    return whole_of(dialect).generate_writer(stamp_of(request), request)


def stamp_of(request: Request) -> Stamp:
    """What stands on every piece of the answer."""
    return Stamp("fake-1", request.model, CREATED)


def listed(dialect: ChatDialect, names: Iterable[str]) -> bytes:
    """The list of models."""
    models = [Model(name, 0, "0" * 64, "2026-01-01T00:00:00+00:00") for name in names]
    if dialect.name == "ollama":
        return listing.write_tags(models)
    return listing.write_openai_models(models, dict.fromkeys(names, CREATED // 10**9))
