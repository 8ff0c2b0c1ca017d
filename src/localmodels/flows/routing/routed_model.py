"""A model that several hosts have, as the flows see it: which of them answers is decided by request.

The one rule: what is said of a model is said of the copy that answers. So the defaults, adapters and abilities of our
own engine's copy count when it is our engine's turn, and for no other host; one that cannot do what is asked is passed
over, and has refused it only where nobody else can either.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import TypeVar

from msgspec import Raw, structs

from localmodels.backends.protocol import Health
from localmodels.backends.remote import NotOffered
from localmodels.core.chat import ChatRequest, Embeddings, EmbedRequest, GenerateRequest
from localmodels.core.errors import LocalModelsError, ModelNotFound, Unsupported
from localmodels.core.rerank import Ranking, RerankRequest
from localmodels.dialects.ollama.unloading import is_unload
from localmodels.dialects.protocol import Call
from localmodels.dialects.table import WAYS
from localmodels.fleet.automatic import is_automatic
from localmodels.fleet.hosts import same_name
from localmodels.flows.answering.chat import Answerer, Defaults, Finder, Found, Request, Stream
from localmodels.flows.routing.dispatch import Errand, Hop
from localmodels.flows.routing.local_copy import OwnCopy, unsuited
from localmodels.flows.routing.remote_model import EVERYTHING, RelayTo, Renamed
from localmodels.flows.routing.router import Meant, Routes
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

    @asynccontextmanager
    async def ready(self, request: Request, visit: Visit) -> AsyncIterator[Answerer]:
        """A place at the best of the hosts for one request, which may still go to another."""
        meant = untried(self.meant, visit)
        decision = self._routes.decided(meant, self._routes.asked(meant, request, visit), visit)
        self._routes.taken()
        visit.model, visit.chosen = decision.model, is_automatic(meant.model)
        traffic = self._routes.remotes.traffic
        async with Errand(decision.hops, visit, traffic, decision.answers, decision.spare) as errand:
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
        hops = speaking(decision.hops, dialect, call)
        if not hops or hops[0] is not decision.hops[0]:
            return None
        self._routes.taken()
        spare = speaking(decision.spare, dialect, call)
        beyond = len(hops) + len(spare) < len(decision.hops) + len(decision.spare)
        return RelayTo(decision.model, WAYS[dialect], hops, decision.answers, spare, beyond)

    def passes(self, dialect: str, call: Call) -> bool:
        """Is there any host to which a request in this dialect can go as it is?"""
        servers = map(self._routes.remotes.at, self.meant.hosts)
        return any(server.far.passes(dialect, call) for server in servers if server is not None)

    async def unload(self) -> None:
        """Takes it out of the memory of this machine, where it is one of the hosts."""
        if not any(host.is_own for host in self.meant.hosts):
            names = ", ".join(f"'{host.spec.name}'" for host in self.meant.hosts)
            why = f"{self.name} is on {names}; say with `server` where it shall leave the memory"
            raise Unsupported(why, param="keep_alive")
        await (await self._here.find(self.name)).unload()


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
        self._at: Answerer

    async def arrive(self) -> None:
        """Makes ready to ask the host at which the request is, or the next one that can do what is asked."""
        while True:
            hop = self._errand.hop
            try:
                found = None if hop.server is not None else await self._here.find(hop.model)
                why = unsuited(self._request, found, hop.model)
                if why is None:
                    self._at = await self._answerer(found)
                    if same_name(hop.model) != same_name(self._visit.model) and self._visit.chosen:
                        self._visit.model = hop.model  # of those that rest another may be the best
                    return
            except LocalModelsError as error:
                await self._errand.after(error)
            else:
                await self._errand.after(why, unsuited=True)

    async def chat(self, request: ChatRequest) -> Stream:
        """Goes on with a conversation."""
        while True:
            try:
                async with aclosing(self._at.chat(request)) as stream:
                    async for events in stream:
                        yield events
                return
            except LocalModelsError as error:
                await self._elsewhere(error)

    async def generate(self, request: GenerateRequest) -> Stream:
        """Goes on with a text."""
        while True:
            try:
                async with aclosing(self._at.generate(request)) as stream:
                    async for events in stream:
                        yield events
                return
            except LocalModelsError as error:
                await self._elsewhere(error)

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

    async def _asked(self, ask: Callable[[Answerer], Awaitable[T]]) -> T:
        while True:
            try:
                return await ask(self._at)
            except LocalModelsError as error:
                await self._elsewhere(error)

    async def _settled(self, ask: Callable[[Answerer], Awaitable[T]]) -> T:
        told = await self._asked(ask)
        self._errand.stay()
        return told

    async def _elsewhere(self, error: LocalModelsError) -> None:
        """Goes to the next host, or raises."""
        await self._errand.after(error, unsuited=isinstance(error, NotOffered))
        await self.arrive()

    async def _answerer(self, found: Found | None) -> Answerer:
        """Whoever answers here; ``found`` is the model of this machine, where it is this machine."""
        answered, visit = self._errand.answered, self._visit
        if found is not None:
            return OwnCopy(found, await self._errand.hold(found.ready(self._request, visit)), visit, answered)
        hop = self._errand.hop
        if hop.server is None:
            raise ModelNotFound(hop.model)
        return Renamed(hop.server, hop.model, visit, answered)


def untried(meant: Meant, visit: Visit) -> Meant:
    """The same without the hosts that have failed this request already."""
    if not visit.tried:
        return meant
    return structs.replace(meant, hosts=tuple(host for host in meant.hosts if host.id not in visit.tried))


def speaking(hops: Sequence[Hop], dialect: str, call: Call) -> tuple[Hop, ...]:
    """Those to which a request in this dialect can go as it is."""
    return tuple(hop for hop in hops if hop.server is not None and hop.server.far.passes(dialect, call))
