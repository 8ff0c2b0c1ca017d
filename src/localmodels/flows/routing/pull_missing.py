"""A model that nobody has, and how it comes to be: pulled to the best host, where the owner allows that.

The one rule: only callers who may manage models make one come, whatever the switch says: anybody else could fill a disk
by asking for names. Whoever asks for a model that is on its way waits for the same pull; a pull that has begun goes on
when nobody waits any more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial
from math import inf

from msgspec import Struct

from localmodels.core.errors import LocalModelsError, ModelNotFound, ShuttingDown, Unavailable
from localmodels.core.fleet import LOCAL
from localmodels.core.library import Progress
from localmodels.fleet.fleet import Fleet, id_of
from localmodels.fleet.hosts import Host, same_name
from localmodels.flows.answering.chat import Answerer, Defaults, Found, Loading, Request
from localmodels.flows.connections.request_counts import LEFT
from localmodels.flows.connections.server_names import Astray
from localmodels.flows.routing.remote_model import EVERYTHING
from localmodels.flows.visit import Visit

log = logging.getLogger(__name__)

Pull = Callable[[str, str], AsyncGenerator[Progress, None]]
"""Fetches a model to the host of this id."""

Ended = Callable[[Host, str], object]
"""Is told how a pull to a host has ended: :data:`FETCHED`, ``LEFT`` or the code of an error."""

FETCHED = "fetched"


def _unnoticed(host: Host, outcome: str) -> None:
    """Nobody wants to know."""


# Kinds of hosts to which models can be pulled from here.
PULLING = frozenset({"ollama", LOCAL})


class Fetched(Struct, frozen=True):
    """A pull that has come to its good end.

    Attributes:
        host: where the model is.
        told: has the host told since then what it has?
    """

    host: Host
    told: bool


class Pulls:
    """The pulls under way, by model, however it is spelled.

    Args:
        fleet: knows the hosts.
        pull: fetches a model.
        look: asks a host what it has now.
        ended: is told of each pull that has ended.
    """

    def __init__(
        self, fleet: Fleet, pull: Pull, look: Callable[[str], Awaitable[object]], ended: Ended = _unnoticed
    ) -> None:
        self._fleet = fleet
        self._pull = pull
        self._look = look
        self._ended = ended
        self._under_way: dict[str, asyncio.Task[Fetched]] = {}
        self._ending = False

    async def pulled(self, model: str) -> Fetched:
        """Returns when the model is at a host: where that is.

        Raises:
            Unavailable: there is no host that could take it.
            ShuttingDown: this server ends before it is there.
            LocalModelsError: it cannot be had.
        """
        name = same_name(model)
        task = self._under_way.get(name)
        if task is None and self._ending:
            raise ShuttingDown("the server is shutting down, and fetches nothing more")
        if task is None:
            host = best(self._fleet.hosts())
            if host is None:
                raise Unavailable(f"no server that answers could take the model '{model[:200]}'", retry_after=5.0)
            task = self._under_way[name] = asyncio.create_task(self._fetched(model, host))
            task.add_done_callback(partial(self._over, name, model))
        await asyncio.wait((task,))
        if task.cancelled():
            raise ShuttingDown(f"the server ended before the model '{model[:200]}' was there")
        return task.result()

    def interrupt(self) -> None:
        """Begins none any more, and ends those that are under way: whoever waits for one would wait for hours."""
        self._ending = True
        for task in self._under_way.values():
            task.cancel()

    async def close(self) -> None:
        """Ends them all."""
        self.interrupt()
        if self._under_way:
            await asyncio.wait(tuple(self._under_way.values()))

    def _over(self, name: str, model: str, task: asyncio.Task[Fetched]) -> None:
        """A pull has ended; its callers may have left long ago, so a failure is said here."""
        del self._under_way[name]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("the model '%s' was not fetched: %s: %s", model[:200], type(error).__name__, error)

    async def _fetched(self, model: str, host: Host) -> Fetched:
        outcome = LEFT
        log.info("fetching the model '%s' to '%s'", model[:200], host.spec.name)
        try:
            async with aclosing(self._pull(model, id_of(host.spec))) as steps:
                async for _ in steps:
                    pass
            outcome = FETCHED
        except LocalModelsError as error:
            outcome = error.code
            raise
        finally:
            log.info("fetching the model '%s' to '%s' has ended: %s", model[:200], host.spec.name, outcome)
            self._ended(host, outcome)
        before = self._fleet.told(host)
        with suppress(LocalModelsError):  # it has the model, whether it says so or not
            await self._look(id_of(host.spec))
        return Fetched(host, told=self._fleet.told(host) is not before)


def best(hosts: tuple[Host, ...]) -> Host | None:
    """Where a model is pulled to: of those that can take one and answer, the highest priority, then the most memory."""
    able = [host for host in hosts if _takes(host)]
    return max(able, key=lambda host: (host.spec.priority, _memory(host)), default=None)


def _takes(host: Host) -> bool:
    shared = host.spec.registered or host.spec.kind == LOCAL
    return shared and host.spec.is_active and host.spec.kind in PULLING and host.state not in {"down", "trying"}


def _memory(host: Host) -> float:
    free = host.sight.memory_free if host.sight else None
    return -inf if free is None else free


class Missing:
    """A model that nobody has, for callers who may have it fetched.

    Args:
        name: as it was asked for.
        pulls: fetch it.
        again: finds it when it has come.
        lost: says why nobody has it.
    """

    defaults = Defaults()
    capabilities: tuple[str, ...] = EVERYTHING
    adapters = None
    listed = False

    def __init__(self, name: str, pulls: Pulls, again: Callable[[str], Found | None], lost: Astray) -> None:
        self.name = name
        self._lost = lost
        self._pulls = pulls
        self._again = again

    @asynccontextmanager
    async def ready(self, request: Request, visit: Visit) -> AsyncIterator[Answerer]:
        """A place at the host to which it was fetched.

        Raises:
            ModelNotFound: this caller may not have it fetched, or it is nowhere to be had.
            Unavailable: it was fetched, and its host has not told of it yet.
        """
        found = await self._fetched(visit)
        async with found.ready(request, visit) as answerer:
            yield answerer

    async def load(self, request: Loading, visit: Visit) -> None:
        """Fetches it, and has it in memory where it came to. Raises as :meth:`ready`."""
        found = await self._fetched(visit)
        await found.load(request, visit)

    async def _fetched(self, visit: Visit) -> Found:
        if not visit.caller.may("manage"):
            raise self._lost.told_to(visit.caller)
        fetched = await self._pulls.pulled(self.name)
        found = self._again(self.name)
        if found is None and not fetched.told:
            where = fetched.host.spec.name
            raise Unavailable(f"the model was fetched to '{where}', which has not told of it yet", retry_after=1.0)
        if found is None:
            raise ModelNotFound(self.name)
        visit.model, visit.listed = found.name, found.listed
        return found

    async def unload(self) -> str:
        """It is not even there."""
        raise ModelNotFound(self.name)
