"""The routes that answer in one piece: lists and descriptions of models, and embeddings."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from functools import partial
from time import time_ns
from typing import Protocol
from uuid import uuid4

import msgspec
from msgspec import Struct
from starlette.types import Scope

from localmodels.core.access import Caller
from localmodels.core.catalog import Description, Model, Running
from localmodels.core.errors import InvalidRequest, ModelNotFound
from localmodels.core.library import Described, Outcome
from localmodels.dialects import gateway, listing, ollama, strict_json
from localmodels.dialects.anthropic import models as anthropic
from localmodels.dialects.ollama import library
from localmodels.dialects.protocol import Dialect, Stamp
from localmodels.flows.answering.chat import Answers
from localmodels.flows.routing.model_list import askable
from localmodels.server.inference import Reply, decoded
from localmodels.server.library import check_models
from localmodels.server.wire import query_of, visit_of


class Catalog(Protocol):
    """What is known about models, without loading one."""

    async def models(self, caller: Caller, *, choices: bool = False) -> tuple[Model, ...]:
        """All that this caller may ask, by names by which he may; newest first.

        With ``choices`` the last are the names by which he may leave the choice of the model to us.
        """
        ...

    async def describe(self, name: str, *, verbose: bool, caller: Caller) -> Description:
        """All about one that this caller may ask; nobody is asked for one that he may not.

        Raises:
            ModelNotFound: there is none of this name.
            Forbidden: his key is for other models.
        """
        ...

    def running(self, caller: Caller) -> tuple[Running, ...]:
        """Those in memory, likewise."""
        ...


class Elsewhere(Protocol):
    """What servers know that are named one by one."""

    async def running(self, servers: Sequence[str]) -> tuple[tuple[Running, ...], tuple[Outcome, ...]]:
        """What is in their memory, and who of them does not tell."""
        ...

    async def describe(
        self, name: str, servers: Sequence[str], *, verbose: bool
    ) -> tuple[Description, tuple[Described, ...]]:
        """All about a model, as the first of them has it, and of several what each says.

        Raises:
            ModelNotFound: none has it.
        """
        ...


class AskedShow(Struct, frozen=True):
    """``model`` and ``name`` mean the same (contract: model management); ``server`` is ours."""

    model: str = ""
    name: str = ""
    verbose: bool = False
    server: str | list[str] | None = None


_SHOW = msgspec.json.Decoder(AskedShow)


async def _as_known() -> None:
    """Nobody is asked."""


def _unknown() -> None:
    """Nobody can say."""


class Listings:
    """The routes.

    Args:
        catalog: all models, and what is in memory.
        answers: makes embeddings.
        elsewhere: asks servers that are named; None where there are none.
        fresh: has servers tell what is in their memory, if they have not a moment ago.
        memory_free: bytes that another model could take in the memory of this machine.
    """

    def __init__(
        self,
        catalog: Catalog,
        answers: Answers,
        elsewhere: Elsewhere | None = None,
        fresh: Callable[[], Awaitable[object]] = _as_known,
        memory_free: Callable[[], int | None] = _unknown,
    ) -> None:
        self._catalog = catalog
        self._answers = answers
        self._elsewhere = elsewhere
        self._fresh = fresh
        self._memory_free = memory_free

    async def tags(self, scope: Scope, body: bytes) -> bytes:
        """``/api/tags``."""
        return listing.write_tags(await self._models(scope))

    async def show(self, scope: Scope, body: bytes) -> bytes:
        """``/api/show``, as ``GET ?name=`` and as POST."""
        if scope["method"] == "GET":
            query = query_of(scope)
            asked = AskedShow(
                model=query.get("model", ""),
                name=query.get("name", ""),
                verbose=query.get("verbose") in {"1", "true"},
                server=query.get("server"),
            )
        else:
            asked = await decoded(partial(strict_json.read, decoder=_SHOW), body)
        if not (asked.model or asked.name):
            raise InvalidRequest("model is required", param="model")
        servers = library.read_servers(asked.server)
        name = asked.model or asked.name
        if not servers:
            return listing.write_show(await self._described(scope, name, verbose=asked.verbose))
        check_models(visit_of(scope).caller, name)
        return listing.write_show(*await self._asked(servers).describe(name, servers, verbose=asked.verbose))

    async def ps(self, scope: Scope, body: bytes) -> bytes:
        """``/api/ps``; with ``?server=`` asked there now."""
        servers = library.read_servers(query_of(scope).get("server"))
        caller = visit_of(scope).caller
        if servers:
            running, failures = await self._asked(servers).running(servers)
            return listing.write_ps(askable(running, lambda name, _: caller.may_ask(name)), failures)
        await self._fresh()
        return listing.write_ps(self._catalog.running(caller), memory_free=self._memory_free())

    async def gateway_models(self, scope: Scope, body: bytes) -> bytes:
        """``/models``."""
        return gateway.write_models(await self._models(scope))

    async def openai_models(self, scope: Scope, body: bytes) -> bytes:
        """``/v1/models``."""
        models = await self._names(scope)
        return listing.write_openai_models(models, {model.name: seconds(model.modified_at) for model in models})

    async def openai_model(self, scope: Scope, body: bytes) -> bytes:
        """``/v1/models/{id}``."""
        model = await self._one(scope)
        return listing.write_openai_model(model, {model.name: seconds(model.modified_at)})

    async def anthropic_models(self, scope: Scope, body: bytes) -> bytes:
        """``/v1/models`` for Anthropic's clients, a page at a time."""
        page = anthropic.read_page(query_of(scope))
        return anthropic.write_models(await self._names(scope), page)

    async def anthropic_model(self, scope: Scope, body: bytes) -> bytes:
        """``/v1/models/{id}`` for them."""
        return anthropic.write_model(await self._one(scope))

    async def _models(self, scope: Scope) -> tuple[Model, ...]:
        """Those that this caller may ask."""
        return await self._catalog.models(visit_of(scope).caller)

    async def _names(self, scope: Scope) -> tuple[Model, ...]:
        """The same and, as the last, the names that leave the choice to us: for clients that ask by what they read.

        Ollama's clients look each name of a list up, copy it and delete it; the rows of ``/models`` are files: these
        lists have none.
        """
        return await self._catalog.models(visit_of(scope).caller, choices=True)

    async def _one(self, scope: Scope) -> Model:
        """The model of the address; raises as :meth:`_described`."""
        name = scope["path_params"]["id"]
        try:
            return (await self._described(scope, name)).model
        except ModelNotFound:
            for model in await self._names(scope):
                if model.name == name:
                    return model
            raise

    async def _described(self, scope: Scope, name: str, *, verbose: bool = False) -> Description:
        """All about one that this caller may ask.

        Raises:
            ModelNotFound: there is none of this name.
            Forbidden: his key is for other models.
        """
        return await self._catalog.describe(name, verbose=verbose, caller=visit_of(scope).caller)

    def _asked(self, servers: Sequence[str]) -> Elsewhere:
        """Whom these servers are asked through.

        Raises:
            InvalidRequest: there are no others.
        """
        if self._elsewhere is None:
            raise InvalidRequest(f"there is no server '{servers[0][:60]}'", param="server")
        return self._elsewhere

    def embed(self, dialect: Dialect) -> Reply:
        """``/api/embed`` or ``/v1/embeddings``."""

        async def reply(scope: Scope, body: bytes) -> bytes:
            request = await decoded(dialect.read_embed, body)
            visit = visit_of(scope)
            embeddings = await self._answers.embed(request, visit)
            stamp = Stamp(id=uuid4().hex, model=visit.named(request.model), created=time_ns())
            return dialect.write_embeddings(stamp, request, embeddings)

        return reply

    async def legacy_embed(self, scope: Scope, body: bytes) -> bytes:
        """``/api/embeddings``."""
        request = await decoded(ollama.read_legacy_embed, body)
        return ollama.write_legacy_embeddings(await self._answers.embed(request, visit_of(scope)))


def seconds(moment: str) -> int:
    """Seconds since 1970 of an RFC 3339 moment; 0 for an empty one."""
    return int(datetime.fromisoformat(moment).timestamp()) if moment else 0
