"""``/``, ``/health`` and ``/api/version``: what this server is and how it is.

Health is derived from the work path, not from the fact that this code runs: the loop that admits requests must answer,
the default model must be there, and its last load must not have failed (pattern (a) of the reliability notes).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec
from msgspec import Struct
from msgspec.structs import replace
from starlette.types import ASGIApp, Receive, Scope, Send

import localmodels
from localmodels.core.access import Caller
from localmodels.core.catalog import Model
from localmodels.core.errors import Forbidden, Unauthenticated
from localmodels.flows.health.inspection import Condition
from localmodels.server.wire import header, query_of, respond, visit_of

_ENCODER = msgspec.json.Encoder()
RUNNING = b"Ollama is running"  # what Ollama's clients look for


class Inspect(Protocol):
    """Looks at the system."""

    def __call__(self, *, verbose: bool) -> Awaitable[Condition]:
        """Its state now."""
        ...


class _Available(Struct, frozen=True):
    name: str
    description: str
    provider: str
    litellm_name: str


class Status:
    """The routes.

    Args:
        inspect: looks at the system.
        urls: the addresses that this server listens on.
        gateway: what this server calls itself on the way of requests (``core.via``).
    """

    def __init__(self, inspect: Inspect, urls: Callable[[], list[str]], gateway: str = "") -> None:
        self._inspect = inspect
        self._urls = urls
        self._version = _ENCODER.encode({"version": localmodels.__version__, "gateway": gateway})

    def root(self) -> ASGIApp:
        """``/``: an overview for people and programs, one line for Ollama's clients."""

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            accepts = header(scope, b"accept")
            if scope["method"] == "HEAD" or accepts.startswith("text/plain"):
                await respond(send, 200, RUNNING, "text/plain; charset=utf-8")
                return
            state = seen_by(visit_of(scope).caller, await self._inspect(verbose=False))
            await respond(send, 200, _ENCODER.encode(overview(state, self._urls())))

        return answer

    def health(self) -> ASGIApp:
        """``/health``: 503 when a request would not be answered."""

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            verbose = query_of(scope).get("verbose", "0") not in {"0", "false", ""}
            caller = visit_of(scope).caller
            if verbose and not caller.may("observe"):
                refusal = Forbidden if caller.may("known") else Unauthenticated
                raise refusal("the details of health need a key with the scope 'observe'")
            state = seen_by(caller, await self._inspect(verbose=verbose))
            body: dict[str, Any] = {
                "status": state.status,
                "model_ready": state.model_ready,
                "ollama_service": "down" if state.status == "unhealthy" else "up",
                "default_model": state.default_model,
                "available_models": [model.name for model in state.models],
                "litellm_enabled": True,
            }
            if state.notes:
                body["notes"] = state.notes
            if verbose:
                body |= state.details
            await respond(send, 503 if state.status == "unhealthy" else 200, _ENCODER.encode(body))

        return answer

    async def version(self, scope: Scope, body: bytes) -> bytes:
        """``/api/version``; other gateways know by it what would only come back to them."""
        return self._version


def seen_by(caller: Caller, state: Condition) -> Condition:
    """What this caller may know of the state: models that he may ask, and why it is so if he may see models at all."""
    lists = caller.may("list")
    models = tuple(model for model in state.models if lists and caller.may_ask(model.name))
    default = state.default_model if lists and caller.may_ask(state.default_model) else ""
    return replace(state, models=models, default_model=default, notes=state.notes if lists else ())


def overview(state: Condition, urls: list[str]) -> dict[str, Any]:
    """What ``/`` tells, in the fields of seed 003."""
    return {
        "message": "LocalModels is running",
        "version": localmodels.__version__,
        "default_model": state.default_model,
        "available_models": {model.name: _available(model) for model in state.models},
        "ollama_url": next((url for url in urls if url.endswith(":11434")), urls[0] if urls else ""),
        "endpoints": {
            "chat": "/chat",
            "chat_with_model": "/chat/{model_name}",
            "chat_litellm": "/v1/chat/completions",
            "embeddings": "/v1/embeddings",
            "health": "/health",
            "models": "/models",
            "rerank": "/v1/rerank",
            "ollama_chat": "/api/chat",
            "ollama_models": "/api/tags",
        },
    }


def _available(model: Model) -> _Available:
    details = model.details
    description = " ".join(
        word for word in (details.family, details.parameter_size, details.quantization_level) if word
    )
    return _Available(model.name, description or "language model", "ollama", f"ollama/{model.name}")
