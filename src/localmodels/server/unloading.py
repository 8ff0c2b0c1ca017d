"""A model taken out of the memory of other servers, by the routes that ask models (Ollama's way to unload)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from starlette.types import ASGIApp, Receive, Scope, Send

from localmodels.core.errors import Forbidden
from localmodels.core.library import Outcome
from localmodels.dialects.framing import NDJSON
from localmodels.dialects.ollama.unloading import Unload, read_unload, write_unloaded
from localmodels.server.inference import decoded
from localmodels.server.library import check_models, partly_told
from localmodels.server.relay import Again
from localmodels.server.wire import JSON_TYPE, attended, read_body, respond, visit_of


class Unloads(Protocol):
    """Unloads models."""

    async def unload(self, model: str, servers: Sequence[str]) -> tuple[Outcome, ...]:
        """What became of it on each of these."""
        ...


class UnloadRoute:
    """An ASGI endpoint in front of one that asks models: it answers the requests that name servers.

    Args:
        unloads: does it.
        usual: answers all others.
        chat: is it the route of conversations?
    """

    def __init__(self, unloads: Unloads, usual: ASGIApp, *, chat: bool) -> None:
        self._unloads = unloads
        self._usual = usual
        self._chat = chat

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        body = await read_body(receive)
        request = await decoded(read_unload, body)
        if request is None:
            await self._usual(scope, Again(body, receive).receive, send)
            return
        await attended(scope, receive, self._answer(scope, request, send))

    async def _answer(self, scope: Scope, request: Unload, send: Send) -> None:
        caller = visit_of(scope).caller
        check_models(caller, request.model)
        if not caller.may("manage"):
            raise Forbidden("this key may not manage the models of other servers", param="server")
        async with partly_told(scope, send):
            outcomes = await self._unloads.unload(request.model, request.servers)
            answer = write_unloaded(request.model, outcomes, chat=self._chat)
            await respond(send, 200, answer + b"\n" * request.stream, NDJSON if request.stream else JSON_TYPE)
