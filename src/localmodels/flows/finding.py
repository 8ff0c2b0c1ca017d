"""From a name to whoever answers: a model of another server, or one of this machine.

The order: the name of a server before a slash, a bare name that a server's table lists, the library, and last the kind
of a server before a slash, as other gateways' clients write it. The first two are looks into a dict, so that a request
for another server never waits for a disk. It is also the catalog of both.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from localmodels.backends.protocol import Health
from localmodels.core.catalog import Capability, Description, Model, Running
from localmodels.core.chat import ChatRequest, Embeddings, EmbedRequest, GenerateRequest
from localmodels.core.errors import MOST_NAME, Conflict, InvalidRequest, LocalModelsError, ModelNotFound, Unsupported
from localmodels.core.rerank import Ranking, RerankRequest
from localmodels.dialects.offered import named
from localmodels.dialects.peek import Way
from localmodels.dialects.protocol import Call
from localmodels.dialects.table import WAYS
from localmodels.flows.chat import Answerer, Defaults, Finder, Found, Request, Stream
from localmodels.flows.remotes import Remotes, Server
from localmodels.flows.visit import Visit

# What a model of another server can do is for that server to say.
EVERYTHING = ("completion", "tools", "thinking", "vision", "embedding", "insert", "rerank")
# What nearly all of them can, for clients that ask before they try.
USUAL: tuple[Capability, ...] = ("completion", "tools")
# How servers say that a model does not think: Ollama `"m" does not support thinking`, OpenAI by the parameter's name.
_THOUGHTS = re.compile(r"think|reasoning", re.IGNORECASE)


class Here(Finder, Protocol):
    """The models of this machine."""

    async def models(self) -> tuple[Model, ...]: ...
    async def describe(self, name: str, *, verbose: bool) -> Description: ...
    def running(self) -> tuple[Running, ...]: ...


class RelayTo(Struct, frozen=True):
    """Where a request can go as it is.

    Attributes:
        server: who answers.
        model: its name there.
        way: of the dialect that both speak.
    """

    server: Server
    model: str
    way: Way


class RemoteTarget:
    """A model of another server, as the flows see it."""

    defaults = Defaults()
    capabilities: tuple[str, ...] = EVERYTHING
    adapters: tuple[str, ...] = ()

    def __init__(self, server: Server, model: str) -> None:
        self._server = server
        self._model = model

    @property
    def name(self) -> str:
        """The name under which it is listed."""
        return f"{self._server.name}/{self._model}"

    @property
    def listed(self) -> bool:
        """Has its server listed it, or answered by it?"""
        return self._server.knows(self._model)

    @asynccontextmanager
    async def ready(self, request: Request, visit: Visit) -> AsyncIterator[Answerer]:
        """A place at its server for one request."""
        visit.server = self._server.name
        async with self._server.place(visit, self._model):
            yield Renamed(self._server, self._model, visit)

    def relay(self, dialect: str, call: Call) -> RelayTo | None:
        """Where a request in this dialect can go as it is; None where it has to be translated."""
        passes = self._server.far.passes(dialect, call)
        return RelayTo(self._server, self._model, WAYS[dialect]) if passes else None

    async def describe(self) -> Description:
        """What its server tells of it.

        Raises:
            ModelNotFound: the server has told its models, and this is none of them.
            BackendError: it cannot be asked.
        """
        server, model = self._server, self._model
        try:
            if shown := await server.far.describe(model):
                return shown
        except LocalModelsError as error:
            raise server.said(error, model) from None
        known = {one.name: one for one in await server.listed.models()}
        if server.listed.known and self.name not in known:
            raise ModelNotFound(self.name)
        return Description(replace(known.get(self.name) or named(server.name, model), capabilities=USUAL))

    async def unload(self) -> None:
        """Not ours to unload."""
        why = f"{self.name} is on the server '{self._server.name}', which decides when it unloads; manage it there"
        raise Unsupported(why, param="keep_alive")


class Renamed:
    """A server asked for one of its models, by the name that it knows.

    Args:
        server: whom to ask.
        model: the name.
        visit: is told which wish of the request was not heeded, and whether the server knows the name.
    """

    def __init__(self, server: Server, model: str, visit: Visit) -> None:
        self._server = server
        self._backend = server.far.backend
        self._model = model
        self._visit = visit

    async def chat(self, request: ChatRequest) -> Stream:
        """Goes on with a conversation.

        What a model can do is known to its server alone. So where thinking is only a wish, and the server says that it
        cannot be had, the same is asked once more without it.
        """
        request = replace(request, model=self._model)
        begun = False
        try:
            async with aclosing(self._backend.chat(request)) as stream:
                async for events in stream:
                    begun = begun or self._answered()
                    yield events
            return
        except InvalidRequest as error:
            if begun or not (request.think and request.think_wish and _THOUGHTS.search(error.message)):
                raise
        self._visit.ignored += ("think",)
        async with aclosing(self._backend.chat(replace(request, think=None, think_budget=None))) as stream:
            async for events in stream:
                self._answered()
                yield events

    async def generate(self, request: GenerateRequest) -> Stream:
        """Goes on with a text."""
        async with aclosing(self._backend.generate(replace(request, model=self._model))) as stream:
            async for events in stream:
                self._answered()
                yield events

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Turns texts into vectors."""
        embeddings = await self._backend.embed(replace(request, model=self._model))
        self._answered()
        return embeddings

    async def rank(self, request: RerankRequest) -> Ranking:
        """Puts texts in order, where the server does."""
        ranking = await self._backend.rank(replace(request, model=self._model))
        self._answered()
        return ranking

    async def count(self, request: ChatRequest) -> int:
        """Tokens of the prompt that this conversation makes, where the server counts."""
        return await self._backend.count(replace(request, model=self._model))

    async def render(self, request: ChatRequest) -> str:
        """The prompt that this conversation makes, where the server tells."""
        return await self._backend.render(replace(request, model=self._model))

    async def tokenize(self, text: str, *, special: bool = True) -> tuple[int, ...]:
        """Token ids of a text, where the server tells."""
        return await self._backend.tokenize(text, special=special)

    async def detokenize(self, tokens: tuple[int, ...]) -> str:
        """The text of token ids, where the server tells."""
        return await self._backend.detokenize(tokens)

    def _answered(self) -> bool:
        """The server knows the model."""
        if not self._visit.listed:
            self._visit.listed = self._server.confirm(self._model)
        return True

    async def models(self) -> tuple[str, ...]:
        """The one."""
        return (self._model,)

    async def health(self) -> Health:
        """The server's."""
        return await self._backend.health()

    async def close(self) -> None:
        """The connections are the server's."""


class Finders:
    """Finds models by name, and lists them.

    Args:
        here: the models of this machine.
        remotes: the other servers.
        default: the model that answers where none is named.
        aliases: other names for models.
    """

    def __init__(
        self, here: Here, remotes: Remotes, *, default: str = "", aliases: Mapping[str, str] | None = None
    ) -> None:
        self._here = here
        self._remotes = remotes
        self.adopt(default=default, aliases=aliases or {})

    def adopt(self, *, default: str, aliases: Mapping[str, str]) -> None:
        """Goes by these names from now on."""
        self._default = default
        self._aliases = aliases

    @property
    def remote(self) -> bool:
        """Is there any other server?"""
        return bool(self._remotes.servers())

    def quick(self, name: str) -> RemoteTarget | None:
        """The model of another server that this name means; looks nowhere but into dicts."""
        asked = name or self._default
        found = self._remotes.find(self._aliases.get(asked, asked))
        return RemoteTarget(*found) if found else None

    def require_here(self, name: str) -> None:
        """Looks whether a model may be of this machine, which is asked when it was not found here.

        Raises:
            Conflict: it is on another server, and not ours to change.
        """
        if found := self._remotes.find(name):
            server = found[0].name
            raise Conflict(f"{name[:MOST_NAME]} is on the server '{server}'; manage it there", param="model")

    async def find(self, name: str) -> Found:
        """The model that this name stands for.

        Raises:
            ModelNotFound, ModelDamaged.
        """
        if target := self.quick(name):
            return target
        try:
            return await self._here.find(name)
        except ModelNotFound:
            if found := self._remotes.of_kind(name):
                return RemoteTarget(*found)
            raise

    async def models(self) -> tuple[Model, ...]:
        """All models: those of this machine, newest first, then those of each server."""
        servers = self._remotes.servers()
        if not servers:
            return await self._here.models()
        here, *lists = await asyncio.gather(self._here.models(), *(server.listed.models() for server in servers))
        return (*here, *(model for models in lists for model in models))

    async def describe(self, name: str, *, verbose: bool) -> Description:
        """All that is known about one."""
        target = self.quick(name)
        if target is None:
            return await self._here.describe(name, verbose=verbose)
        return await target.describe()

    def running(self) -> tuple[Running, ...]:
        """Models in the memory of this machine."""
        return self._here.running()
