"""The ASGI application: one for every dialect and every port.

One straight way: the gate, who asks, which row, may he, and then whoever answers. What is refused on it goes no
further; what nobody foresaw becomes one plain error and a trace in the log. Every request that ended, well or not, is
shown to the watchers once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Callable, Iterable
from typing import Protocol

from msgspec import Struct
from starlette.types import Message, Receive, Scope, Send

from localmodels.core import via
from localmodels.core.access import Caller, Guarded
from localmodels.core.errors import Forbidden, LocalModelsError, MethodNotAllowed, NotFound, Unauthenticated, unforeseen
from localmodels.dialects.anthropic import VERSION_HEADER
from localmodels.dialects.protocol import ErrorWriter
from localmodels.dialects.table import CHATS, PLAIN, SPOKEN
from localmodels.flows.visit import Visit
from localmodels.server.edge.seam import edge_of
from localmodels.server.gate import Gate
from localmodels.server.own_headers import ASKED, ROUTE, SERVER, heed
from localmodels.server.permissions import PERMISSIONS, Grants
from localmodels.server.routes import Directory, Row
from localmodels.server.wire import (
    MOST_BLOCKED,
    VISIT,
    ClientGone,
    ClientStalled,
    Headers,
    header,
    headers,
    respond,
    respond_error,
)

log = logging.getLogger(__name__)

INTERNAL = unforeseen()
VIA = via.HEADER.lower().encode()
UNAUTHENTICATED = "this server asks for a key: send it as `Authorization: Bearer KEY` or as `x-api-key: KEY`"

# By the beginnings of their paths, the longest first.
_ROOTS = sorted(((root, spoken) for spoken in SPOKEN.values() for root in spoken.roots), key=lambda one: -len(one[0]))
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


def dialect_of(path: str, scope: Scope | None = None, row: Row | None = None) -> ErrorWriter:
    """In which dialect an error is written: its row's, or that of other rows under such a path where none matched."""
    if row is not None:
        spoken = SPOKEN.get(row.dialect, PLAIN)
    else:
        spoken = next((spoken for root, spoken in _ROOTS if path.startswith(root)), PLAIN)
    if spoken.name == "openai" and scope is not None and header(scope, VERSION_HEADER):
        return CHATS["anthropic"]
    return spoken


class Access(Protocol):
    """Knows who asks and how much he may."""

    def caller(self, scope: Scope) -> Caller:
        """Who sent this request; ``STRANGER`` who has shown nothing and would have to.

        Raises:
            Unauthenticated: a key that is not, or no more, one of ours.
        """
        ...

    def admit(self, visit: Visit) -> None:
        """Counts the request.

        Raises:
            RateLimited: it is one too many.
        """
        ...

    def told(self, visit: Visit) -> Headers:
        """What the head of an answer tells of the caller's limits, once he was admitted or refused."""
        ...


class Outcome(Struct, frozen=True):
    """A request that ended. ``row`` is None where none matched; ``status`` is 0 where nobody was left to be told."""

    row: Row | None
    method: str
    path: str
    status: int
    visit: Visit


Watcher = Callable[[Outcome], None]


class Application:
    """The application.

    Args:
        rows: who answers.
        gate: keeps pages of elsewhere out.
        access: who asks, and how much he may.
        watchers: are shown every request that ended.
        permissions: what each row asks of its caller.
        gateway: what this server calls itself on the way of requests (``core.via``).
    """

    def __init__(
        self,
        rows: Iterable[Row],
        gate: Gate,
        access: Access,
        watchers: Iterable[Watcher] = (),
        permissions: Grants = PERMISSIONS,
        gateway: str = "",
    ) -> None:
        self._gate = gate
        self._directory = Directory(rows, permissions)
        self._access = access
        self._watchers = tuple(watchers)
        self._gateway = gateway or via.new_gateway()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            return
        path: str = scope["path"]  # the HTTP parser has decoded it
        visit = scope[VISIT] = Visit(request_id(scope))
        visit.trace = header(scope, b"traceparent")
        begun = _Begun(send, visit, self._cross_origin(scope))
        try:
            await self._answer(scope, path, receive, begun)
        except ClientGone:
            pass  # before its body came whole
        except LocalModelsError as failure:
            error = failure.told_to(visit.caller) if isinstance(failure, Guarded) else failure
            visit.error = error
            if begun.status:
                raise  # the server closes the connection, which no client takes for an end
            await respond_error(begun, dialect_of(path, scope, begun.row), error, _allow(error))
        except ClientStalled:
            log.info("a client at %s took nothing of its answer for %g s; it was given up", path, MOST_BLOCKED)
            raise  # the server closes the connection
        except asyncio.CancelledError:
            edge = edge_of(scope)
            if edge is not None and edge.refusal is not None:  # it has told the client, if nothing was said
                visit.error = edge.refusal
                begun.status = begun.status or dialect_of(path).status(edge.refusal)
            raise
        except Exception:
            # A defect of ours: the caller gets a plain 500, the log gets the trace, every other request goes on.
            log.exception("unforeseen error at %s (request %s)", path, visit.id)
            visit.error = INTERNAL
            if begun.status:
                raise
            await respond_error(begun, dialect_of(path, scope, begun.row), INTERNAL)
        finally:
            outcome = Outcome(begun.row, scope["method"], path, begun.status, visit)
            for watch in self._watchers:
                watch(outcome)
            if visit.error is not None:
                _forget(visit.error)

    async def _answer(self, scope: Scope, path: str, receive: Receive, begun: _Begun) -> None:
        refusal = self._gate.judge(
            headers(scope, b"host"),
            headers(scope, b"origin"),
            "".join(headers(scope, b"sec-fetch-site")),
            *(scope.get("server") or ("", None)),
        )
        if refusal is not None:
            raise refusal
        if scope["method"] == "OPTIONS":
            await respond(begun, 204, b"", headers=preflight(header(scope, b"access-control-request-headers")))
            return
        visit = begun.visit
        visit.caller = caller = self._access.caller(scope)
        try:
            match, scope["path_params"] = self._directory.find(scope["method"], path)
        except (NotFound, MethodNotAllowed) as error:
            # Who has no key learns nothing of what is where.
            raise error if caller.scopes else Unauthenticated(UNAUTHENTICATED) from error
        row = begun.row = match.row
        visit.dialect, visit.operation = row.dialect, row.operation
        if row.operation:
            heed(scope, visit)
        if not caller.may(match.grant):
            if not caller.scopes:
                raise Unauthenticated(UNAUTHENTICATED)
            raise Forbidden(f"this key may not do this: it needs the scope '{match.grant}'")
        via.arrive(", ".join(headers(scope, VIA)), self._gateway, looks=scope["method"] == "GET")
        begun.told = self._access.told
        self._access.admit(visit)
        await row.answers(scope, receive, begun)

    def _cross_origin(self, scope: Scope) -> Headers:
        """CORS headers for an origin that was allowed by name."""
        origins = headers(scope, b"origin")
        if origins and self._gate.allows(origins[0]):
            return ((b"access-control-allow-origin", origins[0].encode("latin-1")), (b"vary", b"Origin"))
        return ()


# What pages send: these, and what OpenAI's and Anthropic's clients add, of which there is more with each version.
_SENT = (
    "authorization",
    "content-type",
    "x-api-key",
    "x-request-id",
    "anthropic-version",
    "anthropic-beta",
    *(name.decode() for name in ASKED),
)
_SENT_TOO = re.compile(r"(?:anthropic|openai|x-stainless)-[a-z-]{1,64}")
MOST_SENT = 64
# What pages may read of an answer's head beside what browsers show anyway.
_TOLD = re.compile(
    rb"(?:x-)?request-id|retry-after(?:-ms)?|x-should-retry|(?:x|anthropic)-ratelimit-.+|x-localmodels-.+"
)


def preflight(asked: str) -> Headers:
    """What a page of an allowed origin may send.

    Args:
        asked: names of headers that it would like to send.
    """
    names = [name.strip() for name in asked.lower().split(",", MOST_SENT)[:MOST_SENT]]
    sent = dict.fromkeys((*_SENT, *filter(_SENT_TOO.fullmatch, names)))
    yield b"access-control-allow-methods", b"GET, POST, PUT, DELETE"
    yield b"access-control-allow-headers", ", ".join(sent).encode()
    yield b"access-control-max-age", b"600"


def exposed(head: Headers) -> Headers:
    """The names in a head that pages of an allowed origin may read."""
    if names := [name for name, _ in head if _TOLD.fullmatch(name)]:
        yield b"access-control-expose-headers", b", ".join(names)


def request_id(scope: Scope) -> str:
    """The id that the client gave its request, if it is one that logs and headers can carry; else a new one."""
    given = header(scope, b"x-request-id")
    return given if given and _REQUEST_ID.fullmatch(given) else new_id()


def new_id() -> str:
    """An id for a request that brought none."""
    return f"req_{os.urandom(16).hex()}"


def id_headers(request_id: str) -> Headers:
    """Which request it was, under the names that OpenAI's and Anthropic's clients look for."""
    told = request_id.encode()
    return ((b"x-request-id", told), (b"request-id", told))


def _allow(error: LocalModelsError) -> Headers:
    return [(b"allow", ", ".join(error.allowed).encode())] if isinstance(error, MethodNotAllowed) else ()


def _forget(error: BaseException) -> None:
    """Frees what a request that failed went through: its error leads there, and from there back to the error.

    The search for garbage would find it minutes later, and until then it keeps the memory around it from being given
    back. No log is to show it any more.
    """
    errors: list[BaseException | None] = [error]
    while errors:
        one = errors.pop()
        if one is not None and one.__traceback__ is not None:  # also those that were met before are passed over so
            one.__traceback__ = None
            errors += one.__cause__, one.__context__


class _Begun:
    """``send`` that remembers whether an answer has begun, and adds to its head what every answer tells."""

    def __init__(self, send: Send, visit: Visit, extra: Headers) -> None:
        self.status = 0
        self.row: Row | None = None
        self.visit = visit
        self.extra = tuple(extra)
        self.told: Callable[[Visit], Headers] | None = None
        self._send = send

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            head = list(message["headers"])
            self._add_always(head)
            message["headers"] = [*head, *self.extra, *exposed(head)] if self.extra else head
        await self._send(message)

    def _add_always(self, head: list[tuple[bytes, bytes]]) -> None:
        """Which request this was, who answered it; and that no browser shall take JSON for a page (V-23)."""
        visit = self.visit
        head += id_headers(visit.id)
        head.append((b"x-content-type-options", b"nosniff"))
        if self.told is not None:
            head += self.told(visit)
        if visit.model and visit.server:
            head.append((SERVER, visit.server.encode("ascii", "replace")))
            if visit.route:
                head.append((ROUTE, visit.route.encode("ascii", "replace")))
