"""A model of one other server, as the flows see it, and what asks it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager

from msgspec import Struct
from msgspec.structs import replace

from localmodels.backends.protocol import Health
from localmodels.backends.remote import NotListed
from localmodels.core.catalog import Capability, Description
from localmodels.core.chat import ChatRequest, Embeddings, EmbedRequest, GenerateRequest
from localmodels.core.errors import InvalidRequest, LocalModelsError, ModelNotFound
from localmodels.core.rerank import Ranking, RerankRequest
from localmodels.dialects.peek import Way
from localmodels.dialects.protocol import Call
from localmodels.dialects.table import WAYS
from localmodels.fleet.hosts import Holding, same_name
from localmodels.flows.answering.chat import Answerer, Defaults, Loading, Request, Stream
from localmodels.flows.connections.remotes import Server
from localmodels.flows.routing.dispatch import Errand
from localmodels.flows.routing.model_list import model_of
from localmodels.flows.routing.plans import Further, Hop
from localmodels.flows.routing.router import spelled
from localmodels.flows.visit import Visit

# What a model of another server can do is for that server to say.
EVERYTHING = ("completion", "tools", "thinking", "vision", "embedding", "insert", "rerank")
# What nearly all of them can, for clients that ask before they try.
USUAL: tuple[Capability, ...] = ("completion", "tools")
# How servers say that a model does not think: Ollama `"m" does not support thinking`, OpenAI by the parameter's name.
_THOUGHTS = re.compile(r"think|reasoning", re.IGNORECASE)


class RelayTo(Struct, frozen=True):
    """Where a request can go as it is.

    Attributes:
        name: under which the model is listed.
        way: of the dialect that all of them speak.
        hops: who could answer, the best first.
        answers: is to be called with the one from which the first of the answer came.
        further: decides anew when all of these have failed; None where there is nobody else.
        suits: does a hop speak the dialect?
        listed: has anybody but a caller said the name?
        listing: the name under which lists of all models have it, where that is another.
    """

    name: str
    way: Way
    hops: tuple[Hop, ...]
    answers: Callable[[Hop], object] | None = None
    further: Further | None = None
    suits: Callable[[Hop], bool] | None = None
    listed: bool = True
    listing: str = ""


class RemoteTarget:
    """A model of another server, as the flows see it."""

    defaults = Defaults()
    capabilities: tuple[str, ...] = EVERYTHING
    adapters: tuple[str, ...] = ()

    def __init__(self, server: Server, model: str) -> None:
        self._server = server
        self._model = model

    @property
    def server(self) -> Server:
        """Whose it is."""
        return self._server

    @property
    def name(self) -> str:
        """The name under which it is listed."""
        return f"{self._server.name}/{self._model}"

    @property
    def listed(self) -> bool:
        """Has its server listed it, or answered by it?"""
        return self._server.knows(self._model)

    @property
    def listing(self) -> str:
        """The name under which lists of all models have it; empty where its server has not listed it."""
        host, model = self._server.host, same_name(self._model)
        holding = host.holds(model)
        if holding is None or not holding.listed:
            return ""
        if not host.is_shared:
            return f"{host.spec.name}/{holding.model}"
        return spelled(model, self._server.traffic.fleet.holders(model))

    @asynccontextmanager
    async def ready(self, request: Request, visit: Visit) -> AsyncIterator[Answerer]:
        """A place at its server for one request."""
        async with self._renamed(visit) as renamed:
            yield renamed

    async def load(self, request: Loading, visit: Visit) -> None:
        """Has it in memory, where its server can be told so."""
        async with self._renamed(visit) as renamed:
            await renamed.load(request)

    @asynccontextmanager
    async def _renamed(self, visit: Visit) -> AsyncIterator[Renamed]:
        visit.listing = self.listing
        async with Errand((self._hop,), visit, self._server.traffic) as errand:
            yield Renamed(errand.hop.reached, self._model, visit, errand.answered)  # it may have others by now

    def relay(self, dialect: str, call: Call) -> RelayTo | None:
        """Where a request in this dialect can go as it is; None where it has to be translated."""
        if not self._server.far.passes(dialect, call):
            return None
        return RelayTo(self.name, WAYS[dialect], (self._hop,), listed=self.listed, listing=self.listing)

    @property
    def _hop(self) -> Hop:
        return Hop(self._server.host, self._model, self._server)

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
        sight, holding = server.host.sight, server.host.holds(same_name(model))
        if sight is not None and sight.whole and not (holding and holding.listed):
            raise ModelNotFound(self.name)
        known = model_of(server.host, holding or Holding(model))
        return Description(replace(known, name=self.name, capabilities=known.capabilities or USUAL))

    async def unload(self) -> str:
        """Has its server take it out of memory.

        Raises:
            Unsupported: servers of its kind cannot be told to.
        """
        server = self._server
        await server.unload(self._model)
        server.traffic.missing(server.host)  # what it told of its memory is old
        return server.name


class Renamed:
    """A server asked for one of its models, by the name that it knows.

    Args:
        server: whom to ask.
        model: the name.
        visit: is told which wish of the request was not heeded, and whether the server knows the name.
        answered: is called when the first of an answer has come.
    """

    def __init__(self, server: Server, model: str, visit: Visit, answered: Callable[[], None]) -> None:
        self._server = server
        self._backend = server.far.backend
        self._model = model
        self._visit = visit
        self._heard = answered

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

    async def load(self, request: Loading) -> None:
        """Has the model in memory, where the server can be told so; else it has to list it, unless its owner does."""
        try:
            await self._backend.load(replace(request, model=self._model))
        except NotListed:
            if self._model not in self._server.spec.models:
                raise

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
        self._heard()
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
