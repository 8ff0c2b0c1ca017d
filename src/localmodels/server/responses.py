"""The endpoints of the Responses API: the flow does the work, here are its headers, queries and streams.

Until the first event is there nothing has been sent, and an error is an HTTP status, which the application writes;
after it the flow tells errors by events.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import cast

from starlette.types import Receive, Scope, Send

from localmodels.core.errors import InvalidValue, Unsupported
from localmodels.dialects.framing import SSE
from localmodels.dialects.responses import wire
from localmodels.dialects.responses.kept import MAX_LIMIT, Order
from localmodels.dialects.responses.requests import Create, read_create
from localmodels.dialects.strict_json import encode
from localmodels.flows.answering.responses import ResponseFlow
from localmodels.flows.visit import Visit
from localmodels.server.inference import decoded, sayable, told
from localmodels.server.own_headers import IGNORED_ITEMS, IGNORED_TOOLS
from localmodels.server.streaming import Form, respond_stream
from localmodels.server.wire import MOST_BLOCKED, Headers, attended, query_of, read_body, respond, visit_of, whole_of

LIMIT = 20
MOST_GET_BODY = 2**16
_ORDERS = frozenset({"asc", "desc"})


class CreateRoute:
    """Makes a response.

    Args:
        flow: makes it.
        most_blocked: seconds that a client may take nothing of a stream before it is given up.
    """

    def __init__(self, flow: ResponseFlow, *, most_blocked: float = MOST_BLOCKED) -> None:
        self._flow = flow
        self._most_blocked = most_blocked

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        create = await decoded(read_create, await read_body(receive))
        await attended(scope, receive, self._answer(scope, create, send))

    async def _answer(self, scope: Scope, create: Create, send: Send) -> None:
        visit = visit_of(scope)
        if create.request.stream:
            stream = self._flow.stream(create, visit)
            await sent(scope, stream, send, self._most_blocked, lambda: told_of(create, visit))
        else:
            body = await self._flow.whole(create, visit)
            await respond(send, 200, body, headers=told_of(create, visit))


class KeptRoute:
    """Shows a response that is kept, whole or as events, and takes it away.

    Args:
        flow: has it.
        most_blocked: as in :class:`CreateRoute`.
    """

    def __init__(self, flow: ResponseFlow, *, most_blocked: float = MOST_BLOCKED) -> None:
        self._flow = flow
        self._most_blocked = most_blocked

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        await read_body(receive, MOST_GET_BODY)
        await attended(scope, receive, self._answer(scope, send))

    async def _answer(self, scope: Scope, send: Send) -> None:
        wanted, caller = scope["path_params"]["id"], visit_of(scope).caller
        query = query_of(scope)
        if scope["method"] == "DELETE":
            await self._flow.delete(wanted, caller)
            await respond(send, 200, encode(wire.Deleted(wanted)))
        elif query.get("stream", "false") in {"true", "1"}:
            after = whole_of(query, "starting_after", -1, -1, 2**53)
            await sent(scope, self._flow.replay(wanted, caller, after), send, self._most_blocked, tuple)
        else:
            await respond(send, 200, await self._flow.get(wanted, caller))


class Replies:
    """What is answered in one piece."""

    def __init__(self, flow: ResponseFlow) -> None:
        self._flow = flow

    async def cancel(self, scope: Scope, body: bytes) -> bytes:
        """``POST /v1/responses/{id}/cancel``."""
        return await self._flow.cancel(scope["path_params"]["id"], visit_of(scope).caller)

    async def items(self, scope: Scope, body: bytes) -> bytes:
        """``GET /v1/responses/{id}/input_items``."""
        query = query_of(scope)
        order = query.get("order", "desc")
        if order not in _ORDERS:
            raise InvalidValue("order must be asc or desc", param="order")
        limit = whole_of(query, "limit", LIMIT, 1, MAX_LIMIT)
        wanted, caller = scope["path_params"]["id"], visit_of(scope).caller
        return await self._flow.items(wanted, caller, query.get("after", ""), limit, cast("Order", order))

    async def count(self, scope: Scope, body: bytes) -> bytes:
        """``POST /v1/responses/input_tokens``."""
        create = await decoded(read_create, body)
        return encode(wire.Counted(await self._flow.count(create, visit_of(scope))))

    async def compact(self, scope: Scope, body: bytes) -> bytes:
        """``POST /v1/responses/compact``; clients that meet this go on without."""
        raise Unsupported("this server does not compact conversations; send them whole or let truncation be auto")


# The flow tells errors by events of its own.
_EVENTS = Form(SSE, bytes, None)


async def sent(
    scope: Scope, stream: AsyncGenerator[bytes, None], send: Send, most_blocked: float, headers: Callable[[], Headers]
) -> None:
    """Sends a stream of events; what its head tells is known with the first of them."""
    async with aclosing(stream):
        first = await anext(stream, b"")
        await respond_stream(scope, send, first, stream, _EVENTS, headers=headers(), most_blocked=most_blocked)


def told_of(create: Create, visit: Visit) -> Headers:
    """What the head of an answer tells beyond the dialect."""
    headers = list(told(create.request, visit))
    for name, words in (
        (IGNORED_TOOLS, create.ignored_tools),
        (IGNORED_ITEMS, create.ignored_items),
    ):
        if words:
            headers.append((name, sayable(", ".join(words))[:_MOST_TOLD]))
    return headers


# Of a header that repeats a stranger's words.
_MOST_TOLD = 1_000
