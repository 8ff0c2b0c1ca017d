"""The routes that answer in one piece: lists and descriptions of models, and embeddings."""

from __future__ import annotations

from datetime import datetime
from time import time_ns
from typing import Protocol
from urllib.parse import parse_qs
from uuid import uuid4

import msgspec
from msgspec import Struct
from starlette.types import Scope

from localmodels.core.catalog import Description, Model, Running
from localmodels.core.errors import InvalidRequest
from localmodels.dialects import listing, ollama, strict_json
from localmodels.dialects.protocol import Dialect, Stamp
from localmodels.flows.chat import Answers
from localmodels.server.inference import Reply, decoded
from localmodels.server.wire import visit_of


class Catalog(Protocol):
    """What is known about models, without loading one."""

    async def models(self) -> tuple[Model, ...]:
        """All that can be asked, newest first."""
        ...

    async def describe(self, name: str, *, verbose: bool) -> Description:
        """All about one.

        Raises:
            ModelNotFound: there is none of this name.
        """
        ...

    def running(self) -> tuple[Running, ...]:
        """Those in memory."""
        ...


class _Show(Struct, frozen=True):
    """``model`` and ``name`` mean the same (contract: model management)."""

    model: str = ""
    name: str = ""
    verbose: bool = False


_SHOW = msgspec.json.Decoder(_Show)


class Listings:
    """The routes."""

    def __init__(self, catalog: Catalog, answers: Answers) -> None:
        self._catalog = catalog
        self._answers = answers

    async def tags(self, scope: Scope, body: bytes) -> bytes:
        """``/api/tags``."""
        return listing.write_tags(await self._catalog.models())

    async def show(self, scope: Scope, body: bytes) -> bytes:
        """``/api/show``, as ``GET ?name=`` and as POST."""
        if scope["method"] == "GET":
            query = parse_qs(scope["query_string"].decode("latin-1"))
            asked = _Show(
                model=query.get("model", [""])[-1],
                name=query.get("name", [""])[-1],
                verbose=query.get("verbose", ["false"])[-1] in {"1", "true"},
            )
        else:
            asked = strict_json.read(body, _SHOW)
        if not (asked.model or asked.name):
            raise InvalidRequest("model is required", param="model")
        return listing.write_show(await self._catalog.describe(asked.model or asked.name, verbose=asked.verbose))

    async def ps(self, scope: Scope, body: bytes) -> bytes:
        """``/api/ps``."""
        return listing.write_ps(self._catalog.running())

    async def openai_models(self, scope: Scope, body: bytes) -> bytes:
        """``/v1/models``."""
        models = await self._catalog.models()
        return listing.write_openai_models(models, {model.name: seconds(model.modified_at) for model in models})

    async def openai_model(self, scope: Scope, body: bytes) -> bytes:
        """``/v1/models/{id}``."""
        found = await self._catalog.describe(scope["path_params"]["id"], verbose=False)
        return listing.write_openai_model(found.model, {found.model.name: seconds(found.model.modified_at)})

    def embed(self, dialect: Dialect) -> Reply:
        """``/api/embed`` or ``/v1/embeddings``."""

        async def reply(scope: Scope, body: bytes) -> bytes:
            request = await decoded(dialect.read_embed, body)
            embeddings = await self._answers.embed(request, visit_of(scope))
            stamp = Stamp(id=uuid4().hex, model=request.model, created=time_ns())
            return dialect.write_embeddings(stamp, request, embeddings)

        return reply

    async def legacy_embed(self, scope: Scope, body: bytes) -> bytes:
        """``/api/embeddings``."""
        request = ollama.read_legacy_embed(body)
        return ollama.write_legacy_embeddings(await self._answers.embed(request, visit_of(scope)))


def seconds(moment: str) -> int:
    """Seconds since 1970 of an RFC 3339 moment; 0 for an empty one."""
    return int(datetime.fromisoformat(moment).timestamp()) if moment else 0
