"""A model of one other server, as the flows see it, and what asks it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager

from msgspec import Struct
from msgspec.structs import replace

from localmodels.backends.protocol import Health
from localmodels.core.catalog import Capability, Description
from localmodels.core.chat import ChatRequest, Embeddings, EmbedRequest, GenerateRequest
from localmodels.core.errors import InvalidRequest, LocalModelsError, ModelNotFound, Unsupported
from localmodels.core.rerank import Ranking, RerankRequest
from localmodels.dialects.peek import Way
from localmodels.dialects.protocol import Call
from localmodels.dialects.table import WAYS
from localmodels.fleet.hosts import Holding, same_name
from localmodels.flows.answering.chat import Answerer, Defaults, Request, Stream
from localmodels.flows.connections.remotes import Server
from localmodels.flows.routing.dispatch import Errand, Hop
from localmodels.flows.routing.model_list import model_of
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
        spare: who is asked when all of these have failed.
        beyond: are there further hosts, which do not speak the dialect?
        listed: has anybody but a caller said the name?
    """

    name: str
    way: Way
    hops: tuple[Hop, ...]
    answers: Callable[[Hop], object] | None = None
    spare: tuple[Hop, ...] = ()
    beyond: bool = False
    listed: bool = True


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

    @asynccontextmanager
    async def ready(self, request: Request, visit: Visit) -> AsyncIterator[Answerer]:
        """A place at its server for one request."""
        async with Errand((self._hop,), visit, self._server.traffic) as errand:
            yield Renamed(errand.hop.reached, self._model, visit, errand.answered)  # it may have others by now

    def relay(self, dialect: str, call: Call) -> RelayTo | None:
        """Where a request in this dialect can go as it is; None where it has to be translated."""
        if not self._server.far.passes(dialect, call):
            return None
        return RelayTo(self.name, WAYS[dialect], (self._hop,), listed=self.listed)

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
