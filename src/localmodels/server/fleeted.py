"""The composition of the fleet: the other servers, who watches them, and what is done on many of them at once.

It is made whole and without a task of its own; :func:`followed` begins to watch, once the state is open.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from math import inf

from msgspec import Struct

from localmodels.config import Config
from localmodels.core.address import Address
from localmodels.core.fleet import LOCAL
from localmodels.core.servers import ServerSpec
from localmodels.fleet.hosts import Host
from localmodels.fleet.monitor import Monitor, Probe
from localmodels.flows.connections.remotes import Remotes
from localmodels.flows.fleet_library.fan_out import Everywhere
from localmodels.flows.fleet_library.local_library import Moves, Own
from localmodels.flows.fleet_library.seen import Seen
from localmodels.flows.library.keeper import Keeper
from localmodels.flows.routing.pull_missing import Pulls
from localmodels.flows.routing.router import Routes
from localmodels.flows.servers.local_ollama import greet_ollama
from localmodels.flows.servers.own_engine import Here
from localmodels.flows.servers.refresh import Freshness
from localmodels.flows.servers.servers import Servers
from localmodels.flows.servers.unloading import Unloading
from localmodels.server.housed import Housed
from localmodels.state.kept import Kept


class Fleeted(Struct, frozen=True, kw_only=True):
    """What a server with others behind it is made of."""

    remotes: Remotes
    routes: Routes
    monitor: Monitor
    fresh: Freshness
    servers: Servers
    unloading: Unloading

    def specs(self) -> tuple[ServerSpec, ...]:
        """All servers as they are now, this machine's engine among them."""
        return tuple(host.spec for host in self.remotes.fleet.hosts())

    def names(self) -> frozenset[str]:
        """Under which a request may be answered: of all servers, and this machine's."""
        return frozenset({LOCAL, *(spec.name for spec in self.specs())})

    def changed(self, spec: ServerSpec) -> None:
        """The library of this server has just been changed."""
        host = self.remotes.fleet.named(spec.name)
        if host is not None:
            self.remotes.traffic.missing(host)  # what it has told of its models is old

    async def removed(self, spec: ServerSpec, model: str) -> None:
        """A model of this server has just been taken away."""
        host = self.remotes.fleet.named(spec.name)
        if host is not None:
            await self.servers.removed(host.id, model)

    def everywhere(self, here: Housed, keeper: Keeper, moves: Moves) -> Everywhere:
        """What changes libraries, here and on the others."""
        own = Own(keeper, moves, here.local)
        return Everywhere(own, self.specs, keeper.lent, changed=self.changed, removed=self.removed, sees=self.sees)

    def sees(self, spec: ServerSpec) -> Seen | None:
        """A server whose models are not managed from here; None where it has just left."""
        host = self.remotes.fleet.named(spec.name)
        server = self.remotes.at(host) if host is not None else None
        return Seen(server) if server is not None else None

    def pulls(self, everywhere: Everywhere) -> Pulls:
        """What fetches models that nobody has."""
        tally = self.remotes.traffic.tally

        def ended(host: Host, outcome: str) -> None:
            tally.at(host).pulls[outcome] += 1

        return Pulls(self.remotes.fleet, everywhere.bring, self.monitor.look, ended)

    async def adopt(self, new: Config) -> None:
        """Goes by these settings from now on."""
        self.routes.policy = new.routing_policy
        places = self.remotes.traffic.places
        places.patience, places.max_wait = new.queue_timeout, new.max_wait or inf
        await self.servers.adopt(new.servers)


def fleeted(config: Config, here: Housed, state: Kept, gateway: str, urls: Callable[[], Sequence[str]]) -> Fleeted:
    """The parts, over a state; they know of no server before :func:`followed`.

    Args:
        config: checked.
        here: the models of this machine.
        state: where servers are registered.
        gateway: id of this home.
        urls: where this server is found.
    """
    remotes = Remotes(patience=config.queue_timeout, max_wait=config.max_wait or inf)
    engine = Here(here.library, here.pool, here.local)

    def probe(host: Host) -> Probe | None:
        if host.spec.kind == LOCAL:
            return engine
        server = remotes.at(host)
        return server.far if server is not None else None

    def remembered() -> None:
        own = remotes.fleet.named(LOCAL)
        if own is not None and (told := remotes.fleet.told(own)) is not None:
            remotes.fleet.saw(own, engine.remembering(told))

    monitor = Monitor(remotes.fleet, probe)
    fresh = Freshness(monitor)
    remotes.traffic.look = monitor.look
    here.pool.changed = remembered  # so that what is in our own memory is never old
    servers = Servers(
        state.fleet,
        state.replicas,
        remotes,
        monitor,
        gateway=gateway,
        file=config.servers,
        urls=urls,
        listening=lambda: [Address.parse(url.partition("://")[2]) for url in urls()],
    )
    return Fleeted(
        remotes=remotes,
        routes=Routes(remotes, policy=config.routing_policy),
        monitor=monitor,
        fresh=fresh,
        servers=servers,
        unloading=Unloading(servers, remotes, engine),
    )


@asynccontextmanager
async def followed(parts: Fleeted, neighbours: Sequence[Address]) -> AsyncIterator[None]:
    """Watches the servers and follows who registers any.

    Args:
        parts: of the fleet.
        neighbours: ports of this machine at which Ollama may stand; whoever does is registered.
    """
    async with parts.monitor, parts.servers:
        greeting = [asyncio.create_task(greet_ollama(parts.servers, address)) for address in neighbours]
        try:
            yield
        finally:
            for task in greeting:
                task.cancel()
            if greeting:
                await asyncio.wait(greeting)
