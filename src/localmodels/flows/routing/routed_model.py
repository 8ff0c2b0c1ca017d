"""A model that several hosts have, as the flows see it: which of them answers is decided by request.

The one rule: what is said of a model is said of the copy that answers. So the defaults, adapters and abilities of our
own engine's copy count when it is our engine's turn, and for no other host; one that cannot do what is asked is passed
over, and has refused it only where nobody else can either.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from time import monotonic_ns
from typing import TypeVar

from msgspec import Raw

from localmodels.backends.protocol import Health
from localmodels.backends.remote import NotOffered
from localmodels.core.chat import ChatRequest, Embeddings, EmbedRequest, Event, GenerateRequest, is_early
from localmodels.core.errors import (
    BackendError,
    ContextLengthExceeded,
    LocalModelsError,
    ModelNotFound,
    NotFound,
    Unsupported,
)
from localmodels.core.rerank import Ranking, RerankRequest
from localmodels.dialects.ollama.unloading import is_unload
from localmodels.dialects.protocol import Call
from localmodels.dialects.table import WAYS
from localmodels.fleet.automatic import is_automatic
from localmodels.fleet.hosts import Host
from localmodels.fleet.turns import words_for
from localmodels.flows.answering.chat import Answerer, Defaults, Finder, Found, Loading, Request, Stream
from localmodels.flows.routing.dispatch import Errand
from localmodels.flows.routing.local_copy import OwnCopy, unsuited
from localmodels.flows.routing.plans import Hop
from localmodels.flows.routing.remote_model import EVERYTHING, RelayTo, RemoteTarget, Renamed
from localmodels.flows.routing.router import Meant, Routes, spelled
from localmodels.flows.visit import Visit

T = TypeVar("T")


class RoutedTarget:
    """A model of several hosts.

    Args:
        routes: decide.
        meant: the hosts.
        here: the models of this machine.
        listed: has a host told of it?
    """

    defaults = Defaults()
    capabilities: tuple[str, ...] = EVERYTHING
    adapters = None

    def __init__(self, routes: Routes, meant: Meant, here: Finder, *, listed: bool = True) -> None:
        self.meant = meant
        self.listed = listed
        self._routes = routes
        self._here = here

    @property
    def name(self) -> str:
        """The name under which it is listed."""
        return self.meant.name

    @property
    def listing(self) -> str:
        """The name under which lists of all models have it, where that is another: that of one host leads to it too."""
        own = self._own
        if own is None or not self.name.startswith(f"{own.spec.name}/"):
            return ""
        return spelled(self.meant.model, self._routes.remotes.fleet.holders(self.meant.model))

    @asynccontextmanager
    async def ready(self, request: Request, visit: Visit) -> AsyncIterator[Answerer]:
        """A place at the best of the hosts for one request, which may still go to another."""
        async with self._routed(request, visit) as routed:
            yield routed

    async def load(self, request: Loading, visit: Visit) -> None:
        """Has it in memory at the best of the hosts, where that can be told so."""
        async with self._routed(request, visit) as routed:
            await routed.load(request)

    @asynccontextmanager
    async def _routed(self, request: Request, visit: Visit) -> AsyncIterator[Routed]:
        decision = self._routes.decided(self.meant, self._routes.asked(self.meant, request, visit), visit)
        self._routes.taken()
        visit.model, visit.chosen = decision.model, is_automatic(self.meant.model)
        visit.listing = self.listing
        traffic = self._routes.remotes.traffic
        async with Errand(decision.hops, visit, traffic, decision.answers, decision.further) as errand:
            routed = Routed(errand, self._here, request, visit)
            await routed.arrive()
            yield routed

    def aimed(self, dialect: str, call: Call, fields: Mapping[str, Raw], visit: Visit) -> RelayTo | None:
        """Where a request in this dialect can go as it is; None where the best of the hosts does not speak it.

        Raises:
            Unavailable, ModelNotFound, Forbidden: it can go nowhere.
        """
        if len(self.meant.hosts) > 1 and is_unload(fields):  # it is not for whichever of them comes first
            return None
        ask = self._routes.asked_as_it_is(self.meant, call, fields, visit)
        decision = self._routes.decided(self.meant, ask, visit)
        speaks = speaking(dialect, call)
        hops = tuple(filter(speaks, decision.hops))
        if not hops or hops[0] is not decision.hops[0]:
            return None
        self._routes.taken()
        return RelayTo(decision.model, WAYS[dialect], hops, decision.answers, decision.further, speaks)

    def passes(self, dialect: str, call: Call) -> bool:
        """Is there any host to which a request in this dialect can go as it is?"""
        servers = map(self._routes.remotes.at, self.meant.hosts)
        return any(server.far.passes(dialect, call) for server in servers if server is not None)

    async def unload(self) -> str:
        """Takes it out of the memory of this machine; where it is not in that, of the one server that has it there.

        Raises:
            Unsupported: several have it there, or it is not known who has; or that one cannot be told to.
        """
        if is_automatic(self.meant.model) and not any(host.holds(self.meant.model) for host in self.meant.hosts):
            raise Unsupported(f"{self.name!r} leaves the choice to us; name the model to unload", param="model")
        return await self._unloaded_here() or await self._unloaded_there()

    async def _unloaded_here(self) -> str:
        if (own := self._own) is None:
            return ""
        holding = own.holds(self.meant.model)
        return await (await self._here.find(holding.model if holding else self.name)).unload()

    async def _unloaded_there(self) -> str:
        model, remotes = self.meant.model, self._routes.remotes
        others = [host for host in self.meant.hosts if host.may_be_asked and remotes.at(host) is not None]
        await asyncio.gather(*map(self._looked_at, others))
        having = [host for host in others if host.warmth(model)]
        known = bool(having) or self._own is not None
        if not known:
            having = [host for host in others if host.warmth(model) is None]
        if len(having) > 1:
            where = f"{'in memory ' if known else ''}on {words_for(having)}"
            words = f"{self.name} is {where}; say with `server` where it shall leave the memory"
            raise Unsupported(words, param="keep_alive")
        for host in having:
            if (server := remotes.at(host)) is not None:
                holding = host.holds(model)
                return await RemoteTarget(server, holding.model if holding else self.name).unload()
        return ""

    async def _looked_at(self, host: Host) -> None:
        """Has a host tell what is in its memory now; of one that has left, or does not tell, it stays as it was."""
        with suppress(NotFound):
            await self._routes.remotes.traffic.look(host.id)

    @property
    def _own(self) -> Host | None:
        """This machine, where it is one of the hosts."""
        return next((host for host in self.meant.hosts if host.is_own), None)


class Routed:
    """Whoever answers one request: the host at which it is, and after a failure the next one.

    Args:
        errand: the request on its way.
        here: the models of this machine.
        request: as it was asked.
        visit: is told what was not heeded.
    """

    def __init__(self, errand: Errand, here: Finder, request: Request, visit: Visit) -> None:
        self._errand = errand
        self._here = here
        self._request = request
        self._visit = visit
        self._whole = isinstance(request, (ChatRequest, GenerateRequest)) and not request.stream
        self._at: OwnCopy | Renamed

    async def arrive(self) -> None:
        """Makes ready to ask the host at which the request is, or the next one that can do what is asked."""
        while True:
            hop = self._errand.hop
            try:
                found = None if hop.server is not None else await self._here.find(hop.model)
                why = unsuited(self._request, found, hop.model)
                if why is None:
                    self._at = await self._answerer(found)
                    return
            except LocalModelsError as error:
                await self._errand.after(error)
            else:
                await self._errand.after(why, unsuited=True)

    async def chat(self, request: ChatRequest) -> Stream:
        """Goes on with a conversation."""
        while True:
            try:
                async with aclosing(self._given(self._at.chat(request))) as stream:
                    async for events in stream:
                        yield events
                return
            except ContextLengthExceeded as error:
                await self._too_long(request, error)
            except LocalModelsError as error:
                await self._elsewhere(error)

    async def generate(self, request: GenerateRequest) -> Stream:
        """Goes on with a text."""
        while True:
            try:
                async with aclosing(self._given(self._at.generate(request))) as stream:
                    async for events in stream:
                        yield events
                return
            except LocalModelsError as error:
                await self._elsewhere(error)

    async def load(self, request: Loading) -> None:
        """Sees to it that the model is in memory, where a host can be told to."""
        await self._asked(lambda at: at.load(request))

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Turns texts into vectors."""
        return await self._asked(lambda at: at.embed(request))

    async def rank(self, request: RerankRequest) -> Ranking:
        """Puts texts in order."""
        return await self._asked(lambda at: at.rank(request))

    async def count(self, request: ChatRequest) -> int:
        """Tokens of the prompt that this conversation makes."""
        return await self._asked(lambda at: at.count(request))

    async def render(self, request: ChatRequest) -> str:
        """The prompt that this conversation makes; what comes of it means something only where it was made."""
        return await self._settled(lambda at: at.render(request))

    async def tokenize(self, text: str, *, special: bool = True) -> tuple[int, ...]:
        """Token ids of a text; likewise."""
        return await self._settled(lambda at: at.tokenize(text, special=special))

    async def detokenize(self, tokens: tuple[int, ...]) -> str:
        """The text of token ids."""
        return await self._asked(lambda at: at.detokenize(tokens))

    async def models(self) -> tuple[str, ...]:
        """Those of the host."""
        return await self._at.models()

    async def health(self) -> Health:
        """The host's."""
        return await self._at.health()

    async def close(self) -> None:
        """The connections are the hosts'."""

    async def _asked(self, ask: Callable[[OwnCopy | Renamed], Awaitable[T]]) -> T:
        while True:
            try:
                return await ask(self._at)
            except LocalModelsError as error:
                await self._elsewhere(error)

    async def _settled(self, ask: Callable[[OwnCopy | Renamed], Awaitable[T]]) -> T:
        told = await self._asked(ask)
        self._errand.stay()
        return told

    def _given(self, stream: Stream) -> Stream:
        """What a host answers: as it comes, or all at once where the caller gets nothing before all of it is there."""
        return self._gathered(stream) if self._whole else stream

    async def _gathered(self, stream: Stream) -> Stream:
        """All of an answer at once. One that breaks off has not begun for its caller: another may still give it."""
        visit, every = self._visit, list[Event]()
        try:
            async with aclosing(stream):
                async for events in stream:
                    if not every:
                        self._errand.heard()
                    if not visit.first and not all(map(is_early, events)):
                        visit.first = monotonic_ns()
                    every += events
        except BaseException as error:  # also of who leaves: nothing of it has gone out, so nothing came first
            visit.first = 0
            if every and isinstance(error, ContextLengthExceeded):  # to shorten it would be to generate once more
                raise BackendError(error.message) from error
            raise
        self._errand.answered()
        if every:
            yield every

    async def _too_long(self, request: ChatRequest, error: ContextLengthExceeded) -> None:
        """No conversation as long as this is taken here. Goes to the next host with all of it, or raises.

        Who can count it stays the one who is asked: by that it is shortened, and to his measure alone.
        """
        if request.truncate:
            try:
                await self._at.count(request)
            except LocalModelsError:
                await self._errand.after(error, unsuited=True)
                await self.arrive()
                return
            self._errand.stay()
        await self._elsewhere(error)

    async def _elsewhere(self, error: LocalModelsError) -> None:
        """Goes to the next host, or raises."""
        await self._errand.after(error, unsuited=isinstance(error, NotOffered))
        await self.arrive()

    async def _answerer(self, found: Found | None) -> OwnCopy | Renamed:
        """Whoever answers here; ``found`` is the model of this machine, where it is this machine."""
        answered, visit = _nothing if self._whole else self._errand.answered, self._visit
        if found is not None:
            return OwnCopy(found, await self._errand.hold(found.ready(self._request, visit)), visit, answered)
        hop = self._errand.hop
        if hop.server is None:
            raise ModelNotFound(hop.model)
        return Renamed(hop.server, hop.model, visit, answered)


def _nothing() -> None:
    """A piece of an answer that its caller gets as a whole is no beginning of it."""


def speaking(dialect: str, call: Call) -> Callable[[Hop], bool]:
    """Can a request in this dialect go to a hop as it is?"""
    return lambda hop: hop.server is not None and hop.server.far.passes(dialect, call)
