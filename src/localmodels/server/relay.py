"""The routes of a dialect that another server may speak as well: its requests go there as they are, or the usual way.

What decides is the model's name, by looks into dicts; the body of a request for this machine alone is only looked into
for that name. Where several hosts have the model, the best of them decides: one that does not speak the dialect is
asked the usual way. The head of an answer is made here and never copied from the server's.
"""

from __future__ import annotations

from contextlib import aclosing

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from localmodels.dialects.peek import Peek, model_of, peek
from localmodels.dialects.protocol import Call, ChatDialect
from localmodels.dialects.table import WAYS
from localmodels.flows.routing.dispatch import OtherWay
from localmodels.flows.routing.relay import Relays
from localmodels.flows.routing.remote_model import RelayTo
from localmodels.server.edge.seam import edge_of
from localmodels.server.inference import decoded
from localmodels.server.streaming import Form, respond_stream
from localmodels.server.wire import MOST_BLOCKED, attended, read_body, respond, visit_of


class RelayRoute:
    """An ASGI endpoint in front of the usual one of its route.

    Args:
        dialect: of the route, one whose answers can pass untouched.
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
        self._way = WAYS[dialect.name]
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
        found = self._relays.find(await decoded(model_of, body), self._name, self._call)
        if found is None:
            await self._usual(scope, Again(body, receive).receive, send)
            return
        asked = await decoded(self._peek, body)
        to = self._relays.aimed(found, self._name, self._call, asked, visit_of(scope))
        if to is None:
            await self._usual(scope, Again(body, receive).receive, send)
            return
        try:
            await attended(scope, receive, self._answer(scope, to, asked, send))
        except OtherWay:  # nothing has been sent
            await self._usual(scope, Again(body, receive).receive, send)

    def _peek(self, body: bytes) -> Peek:
        return peek(self._way, body, streams=self._call in {"chat", "generate"})

    async def _answer(self, scope: Scope, to: RelayTo, asked: Peek, send: Send) -> None:
        if not asked.stream:
            await respond(send, 200, await self._relays.whole(to, self._path, asked, visit_of(scope)))
            return
        edge = edge_of(scope)
        sink = edge.sink if edge else None
        async with aclosing(self._relays.open(to, self._path, asked, visit_of(scope), sink)) as pieces:
            first = await anext(pieces)
            form = Form(to.way.content_type, bytes, lambda error: to.way.broken(self._dialect.write_error(error)))
            await respond_stream(scope, send, first, pieces, form, most_blocked=self._most_blocked)


def relaying(relays: Relays | None, dialect: ChatDialect, call: Call, usual: ASGIApp) -> ASGIApp:
    """The endpoint, with the way to other servers in front of it."""
    return RelayRoute(dialect, call, relays, usual) if relays else usual


class Again:
    """A ``receive`` with the body that was taken from it."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._given: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        self._receive = receive

    async def receive(self) -> Message:
        """ASGI's."""
        return self._given.pop() if self._given else await self._receive()
