"""The ASGI application: one for every dialect and every port.

What the gate refuses goes no further; what nobody foresaw becomes one plain error and a trace in the log.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from starlette.types import Message, Receive, Scope, Send

from localmodels.core.errors import LocalModelsError, MethodNotAllowed
from localmodels.dialects.plain import Plain
from localmodels.dialects.protocol import ErrorWriter
from localmodels.dialects.table import DIALECTS
from localmodels.server.gate import Gate
from localmodels.server.routes import OLLAMA_PREFIX, Directory, Row
from localmodels.server.wire import MOST_BLOCKED, ClientStalled, Headers, headers, respond, respond_error

log = logging.getLogger(__name__)

PLAIN = Plain()
INTERNAL = LocalModelsError("internal error; the server's log has the details")


def dialect_of(path: str) -> ErrorWriter:
    """In which dialect an error at this path is written, whether or not there is a route."""
    if path.startswith("/v1/"):
        return DIALECTS["openai"]
    if path.startswith(("/api/", f"{OLLAMA_PREFIX}/")):
        return DIALECTS["ollama"]
    return PLAIN


class Application:
    """The ASGI application: the gate, the routes, and the last resort for what nobody foresaw."""

    def __init__(self, rows: Iterable[Row], gate: Gate) -> None:
        self._gate = gate
        self._directory = Directory(rows)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            return
        path: str = scope["path"]  # the HTTP parser has decoded it
        begun = _Begun(send, self._cross_origin(scope))
        try:
            await self._answer(scope, path, receive, begun)
        except MethodNotAllowed as error:
            await respond_error(begun, dialect_of(path), error, [(b"allow", ", ".join(error.allowed).encode())])
        except LocalModelsError as error:
            await respond_error(begun, dialect_of(path), error)
        except ClientStalled:
            log.info("a client at %s took nothing of its answer for %g s; it was given up", path, MOST_BLOCKED)
            raise  # the server closes the connection
        except Exception:
            # A defect of ours: the caller gets a plain 500, the log gets the trace, every other request goes on.
            log.exception("unforeseen error at %s", path)
            if begun.started:
                raise  # the server closes the connection, which no client takes for an end
            await respond_error(begun, dialect_of(path), INTERNAL)

    async def _answer(self, scope: Scope, path: str, receive: Receive, send: Send) -> None:
        refusal = self._gate.judge(
            headers(scope, b"host"),
            headers(scope, b"origin"),
            "".join(headers(scope, b"sec-fetch-site")),
            (scope.get("server") or ("",))[0],
        )
        if refusal is not None:
            raise refusal
        if scope["method"] == "OPTIONS":
            await respond(send, 204, b"", headers=PREFLIGHT)
            return
        answers, scope["path_params"] = self._directory.find(scope["method"], path)
        await answers(scope, receive, send)

    def _cross_origin(self, scope: Scope) -> Headers:
        """CORS headers for an origin that was allowed by name."""
        origins = headers(scope, b"origin")
        if origins and self._gate.allows(origins[0]):
            return ((b"access-control-allow-origin", origins[0].encode("latin-1")), (b"vary", b"Origin"))
        return ()


PREFLIGHT = (
    (b"access-control-allow-methods", b"GET, POST, PUT, DELETE"),
    (b"access-control-allow-headers", b"authorization, content-type, x-api-key"),
    (b"access-control-max-age", b"600"),
)


class _Begun:
    """``send`` that remembers whether an answer has begun, and adds headers to it."""

    def __init__(self, send: Send, extra: Headers) -> None:
        self.started = False
        self._send = send
        self._extra = tuple(extra)

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            if self._extra:
                message = {**message, "headers": [*message["headers"], *self._extra]}
        await self._send(message)
