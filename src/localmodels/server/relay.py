"""The routes of a dialect that another server may speak as well: its requests go there as they are, or the usual way.

What decides is the model's name, by looks into dicts; the body of a request for this machine is only looked into for
that name. The head of an answer is made here and never copied from the server's.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from localmodels.core.errors import LocalModelsError
from localmodels.dialects.peek import WAYS, Peek, model_of, peek
from localmodels.dialects.protocol import Call, ChatDialect
from localmodels.flows.finding import RelayTo
from localmodels.flows.relay import Relays
from localmodels.flows.visit import Visit
from localmodels.server.edge.seam import Sink, cancels, edge_of
from localmodels.server.inference import decoded
from localmodels.server.wire import MOST_BLOCKED, attended, begin, impatient, read_body, respond, visit_of


class RelayRoute:
    """An ASGI endpoint in front of the usual one of its route.

    Args:
        dialect: of the route, one that has a row in ``WAYS``.
        call: what the route does.
        relays: pass requests on.
        usual: answers what does not pass through.
        most_blocked: seconds that a client may take nothing of a stream before it is given up.
    """

    def __init__(
        self,
        dialect: ChatDialect,
        call: Call,
        relays: Relays,
        usual: ASGIApp,
        *,
        most_blocked: float = MOST_BLOCKED,
    ) -> None:
        self._dialect = dialect
        self._name = dialect.name
        self._call: Call = call
        self._path = dialect.paths[call]
        self._relays = relays
        self._usual = usual
        self._most_blocked = most_blocked

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if not self._relays.any:
            await self._usual(scope, receive, send)
            return
        body = await read_body(receive)
        to = self._relays.find(model_of(body), self._name, self._call)
        if to is None:
            await self._usual(scope, Again(body, receive).receive, send)
            return
        asked = await self._peeked(body)
        edge = edge_of(scope)
        await attended(receive, self._answer(to, asked, visit_of(scope), send, edge.sink if edge else None))

    async def _peeked(self, body: bytes) -> Peek:
        way, streams = WAYS[self._name], self._call in {"chat", "generate"}
        return await decoded(lambda data: peek(way, data, streams=streams), body)

    async def _answer(self, to: RelayTo, asked: Peek, visit: Visit, send: Send, sink: Sink | None) -> None:
        async with aclosing(self._relays.open(to, self._path, asked, visit, sink)) as pieces:
            first = await anext(pieces)
            if asked.stream:
                await self._stream(to, first, pieces, visit, send)
            else:
                await respond(send, 200, first)

    async def _stream(
        self, to: RelayTo, first: bytes, pieces: AsyncGenerator[bytes, None], visit: Visit, send: Send
    ) -> None:
        send = impatient(send, self._most_blocked)
        await begin(send, 200, to.way.content_type)
        await send({"type": "http.response.body", "body": first, "more_body": True})
        last = b""
        try:
            async for frames in pieces:
                await send({"type": "http.response.body", "body": frames, "more_body": True})
        except LocalModelsError as error:
            visit.error = error
            last = to.way.broken(self._dialect.write_error(error))
        await send({"type": "http.response.body", "body": last})


def relaying(relays: Relays | None, dialect: ChatDialect, call: Call, usual: ASGIApp) -> ASGIApp:
    """The endpoint, with the way to other servers in front of it."""
    return RelayRoute(dialect, call, relays, usual) if relays else usual


class Again:
    """A ``receive`` with the body that was taken from it; it cancels what the other one cancels."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self.cancels = cancels(receive)
        self._given: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        self._receive = receive

    async def receive(self) -> Message:
        """ASGI's."""
        return self._given.pop() if self._given else await self._receive()
