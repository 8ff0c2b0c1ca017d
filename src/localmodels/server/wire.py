"""The few ASGI moves that every route is made of: read a body, answer, and notice that the client has left.

The one rule: work for a client ends when the client does. Starlette tells a handler nothing while it waits for a queue,
a load or a long prompt; :func:`attended` does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterable, Mapping
from math import ceil
from typing import Any
from urllib.parse import parse_qs

from starlette.types import Message, Receive, Scope, Send

from localmodels.core.errors import InvalidValue, LocalModelsError, TooLarge
from localmodels.dialects.protocol import ErrorWriter
from localmodels.flows.visit import Visit
from localmodels.server.edge.seam import cancels

# Where a request carries what is known of it, in ASGI's scope.
VISIT = "localmodels.visit"
# And its headers by name, once somebody has asked for one.
FIELDS = "localmodels.fields"

Headers = Iterable[tuple[bytes, bytes]]

JSON_TYPE = "application/json"
MAX_JSON_BODY = 32 * 2**20  # images travel in JSON as base64 (reliability.md part D)


# Seconds that a client may take nothing of its answer (reliability.md part D). It holds a place that others wait for.
MOST_BLOCKED = 60.0


class ClientStalled(Exception):
    """The client reads no more of its answer, and has not for a minute."""


class ClientGone(Exception):
    """The client closed its connection; nobody is left to tell."""


async def read_body(receive: Receive, limit: int = MAX_JSON_BODY) -> bytes:
    """The whole body.

    Raises:
        TooLarge: more than ``limit`` bytes; the rest is not read.
        ClientGone: it never came whole.
    """
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        body: bytes = message.get("body", b"")
        _check_size(len(body), limit)
        return body
    data = bytearray()
    while True:
        if message["type"] == "http.disconnect":
            raise ClientGone
        data += message.get("body", b"")
        _check_size(len(data), limit)
        if not message.get("more_body"):
            return bytes(data)
        message = await receive()


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise TooLarge(f"the body is larger than {limit >> 20} MiB")


def query_of(scope: Scope) -> Mapping[str, str]:
    """The query; of a name that comes twice, the last."""
    return {name: values[-1] for name, values in parse_qs(scope["query_string"].decode("latin-1")).items()}


def whole_of(query: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    """A whole number in a query.

    Raises:
        InvalidValue: it is none, or out of its range.
    """
    text = query.get(name)
    if text is None:
        return default
    number = int(text) if text.removeprefix("-").isdecimal() and text.isascii() and len(text) < 20 else low - 1
    if not low <= number <= high:
        raise InvalidValue(f"{name} must be a whole number between {low} and {high}", param=name)
    return number


def visit_of(scope: Scope) -> Visit:
    """What is known of this request; the application puts it there."""
    visit: Visit = scope[VISIT]
    return visit


async def attended(scope: Scope, receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Does the work, but cancels it as soon as the client leaves. The body must have been read."""
    if cancels(scope):
        await work
        return
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_departure(receive))
    try:
        await asyncio.wait((task, watch), return_when=asyncio.FIRST_COMPLETED)
    finally:
        watch.cancel()
        if not task.done():
            task.cancel()
        # Both must have ended before the request does: a cancelled stream closes its connection to the runner.
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _departure(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def respond(send: Send, status: int, body: bytes, content_type: str = JSON_TYPE, headers: Headers = ()) -> None:
    """A whole answer."""
    await begin(send, status, content_type, [(b"content-length", str(len(body)).encode()), *headers])
    await send({"type": "http.response.body", "body": body})


def impatient(scope: Scope, send: Send, most: float = MOST_BLOCKED) -> Send:
    """``send`` that gives up on a client who takes nothing, unless the server below does.

    Raises:
        ClientStalled: on sending, after ``most`` seconds.
    """
    if cancels(scope):
        return send

    async def sending(message: Message) -> None:
        try:
            async with asyncio.timeout(most):
                await send(message)
        except TimeoutError as error:
            raise ClientStalled from error

    return sending


async def begin(send: Send, status: int, content_type: str, headers: Headers = ()) -> None:
    """The head of an answer."""
    await send({
        "type": "http.response.start",
        "status": status,
        "headers": [(b"content-type", content_type.encode()), *headers],
    })  # fmt: skip


async def respond_error(send: Send, dialect: ErrorWriter, error: LocalModelsError, headers: Headers = ()) -> None:
    """An error in the dialect that was asked, with ``Retry-After`` where coming back makes sense."""
    await respond(send, dialect.status(error), dialect.write_error(error), headers=[*headers, *retry_headers(error)])


def retry_headers(error: LocalModelsError) -> Headers:
    """``Retry-After`` in whole seconds, at least one."""
    if error.retry_after is None:
        return ()
    return ((b"retry-after", str(max(1, ceil(error.retry_after))).encode()),)


def headers(scope: Scope, name: bytes) -> list[str]:
    """All headers of this (lower-case) name."""
    values = _fields(scope).get(name)
    return [value.decode("latin-1") for value in values] if values else []


def header(scope: Scope, name: bytes) -> str:
    """The first header of this (lower-case) name, or an empty text."""
    values = _fields(scope).get(name)
    return values[0].decode("latin-1") if values else ""


def _fields(scope: Scope) -> Mapping[bytes, list[bytes]]:
    """The request's headers by name. A request is asked for eight of them and more, of which it has one or two."""
    fields: dict[bytes, list[bytes]] | None = scope.get(FIELDS)
    if fields is None:
        fields = scope[FIELDS] = {}
        for name, value in scope["headers"]:
            fields.setdefault(name, []).append(value)
    return fields
