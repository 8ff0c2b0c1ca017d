"""The other servers: how each is reached, what it offers, and what became of it.

One owner: :class:`Remotes` holds the connections by name, and changes them when somebody changes the servers. A server
that leaves goes on until its last answer has ended. The one rule: no error of a server reaches a caller as it came. Its
key is nobody's business, a refusal of our key is our failure, and every message says which server it was.
"""

from __future__ import annotations

import asyncio
import logging
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from math import inf
from pathlib import Path
from typing import Any

from localmodels.backends.carriers import carrier_to
from localmodels.backends.far import Far
from localmodels.backends.http import Carrier
from localmodels.core.errors import (
    BackendError,
    Forbidden,
    LocalModelsError,
    ModelNotFound,
    QuotaExceeded,
    RateLimited,
    Unauthenticated,
)
from localmodels.core.servers import ServerSpec, key_goes, scope_missing
from localmodels.fleet.fleet import Fleet
from localmodels.fleet.hosts import Host, same_name
from localmodels.fleet.places import Places
from localmodels.flows.connections.failover import OURS
from localmodels.flows.connections.server_names import Named, hindrance, named
from localmodels.flows.connections.server_status import INACTIVE
from localmodels.flows.connections.traffic import Traffic

log = logging.getLogger(__name__)

Connect = Callable[[ServerSpec], Carrier]

# Names that a server may have answered by without listing them; some answer by any, which strangers could make up. Each
# is some fifty lines of metrics from then on; further ones count as one.
MOST_CONFIRMED = 32

# What of a server its connections are made of; whatever else is changed, they stay.
_CONNECTION = ("name", "url", "kind", "key", "key_file", "first_byte", "idle", "ca_file", "reach")


class Server:
    """One other server, and the connections to it.

    Args:
        host: as the fleet sees it.
        carrier: the way to it.
        traffic: what all requests on their way share.
    """

    def __init__(self, host: Host, carrier: Carrier, traffic: Traffic) -> None:
        self.host = host
        self.spec = host.spec
        self.traffic = traffic
        self.far = Far(self.spec, carrier)
        self._confirmed: set[str] = set()
        self._users = 0
        self._retired = False
        self._successor: Server | None = None

    @property
    def now(self) -> Server:
        """Whoever has the connections to this host by now: its owner may have changed where they lead, or the key."""
        server = self
        while server._successor is not None:
            server = server._successor
        return server

    @property
    def name(self) -> str:
        """Stands before the names of its models."""
        return self.spec.name

    def adopt(self, host: Host) -> None:
        """Goes by what its owner says of it now."""
        self.host, self.spec = host, host.spec

    def enter(self) -> None:
        """A request is about to be sent; its connections stay open until it calls :meth:`leave`."""
        self._users += 1

    def leave(self) -> bool:
        """That request has ended; is it time to close?"""
        self._users -= 1
        return self._retired and not self._users

    def knows(self, model: str) -> bool:
        """Is this a model of this server, as far as it has told? Nobody is asked."""
        if model in self._confirmed:
            return True
        holding = self.host.holds(same_name(model))
        return holding is not None and holding.model == model

    def confirm(self, model: str) -> bool:
        """It has answered by this name; is the name remembered?"""
        if len(self._confirmed) < MOST_CONFIRMED:
            self._confirmed.add(model)
        return self.knows(model)

    def said(self, error: LocalModelsError, model: str = "") -> LocalModelsError:
        """The error as the caller shall hear it."""
        return translated(error, self.spec, model)

    async def unload(self, model: str) -> None:
        """Tells it to take a model, by its name there, out of memory when its last answer has ended.

        Raises:
            Unsupported: servers of its kind cannot be told to.
            LocalModelsError: it refuses.
        """
        self.enter()
        try:
            await self.far.unload(model)
        except LocalModelsError as error:
            raise self.said(error, model) from None
        finally:
            if self.leave():
                await self.close()

    async def retire(self) -> None:
        """Takes no more requests; closes its connections when the last answer has ended."""
        self._retired = True
        if not self._users:
            await self.far.close()

    async def close(self) -> None:
        """Closes every connection; open answers raise."""
        await self.far.close()

    @property
    def answers(self) -> bool:
        """Does it, as far as is known? Who has not been asked yet is thought well of."""
        return self.host.state != "down"

    def state(self) -> dict[str, Any]:
        """How it is, for people."""
        failure = self.host.failure
        return {
            "name": self.name,
            "kind": self.spec.kind,
            "url": self.spec.url,
            "status": "up" if self.answers else "down",
            "state": self.host.state if self.spec.is_active else INACTIVE,
            "busy": self.host.in_flight,
            "waiting": self.host.waiting,
            **({"failure": failure} if failure else {}),
        }


class Remotes:
    """All other servers, by name.

    Args:
        connect: the way to a server.
        fleet: knows how they are.
        patience: seconds that a request may wait for a place.
        max_wait: the longest such wait that is promised: who would wait longer is refused at once.

    Attributes:
        fleet: see above.
        traffic: what all requests on their way share.
        registered: is any server registered, so that bare names are looked for on all hosts?
    """

    def __init__(
        self,
        connect: Connect | None = None,
        fleet: Fleet | None = None,
        *,
        patience: float = 600.0,
        max_wait: float = inf,
    ) -> None:
        self._connect = connect or carrier_to
        self.fleet = fleet or Fleet()
        self.traffic = Traffic(self.fleet, Places(patience=patience, max_wait=max_wait))
        self.registered = False
        self._servers: Mapping[str, Server] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def adopt(
        self, specs: Iterable[ServerSpec], *, patience: float | None = None, max_wait: float | None = None
    ) -> None:
        """These servers from now on, our own engine among them where it is one of many.

        Who stays where he was keeps his connections; who goes finishes what he has. All is changed before anything is
        waited for: whoever leaves meanwhile leaves nothing half done.

        Args:
            specs: all of them.
            patience: as at the beginning; None leaves it as it is.
            max_wait: likewise.
        """
        places = self.traffic.places
        places.patience = places.patience if patience is None else patience
        places.max_wait = places.max_wait if max_wait is None else max_wait
        self.fleet.adopt(specs)
        self.registered = any(host.spec.registered and host.spec.kind != "local" for host in self.fleet.hosts())
        before = self._servers
        known = {server.host: server for server in before.values()}
        self._servers = {
            host.spec.name: self._kept(known.get(host), host)
            for host in self.fleet.hosts()
            if host.spec.kind != "local"
        }
        gone = [server for server in before.values() if self._servers.get(server.name) is not server]
        closing = [asyncio.create_task(server.retire()) for server in gone]
        for task in closing:
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        if closing:
            await asyncio.wait(closing)

    def _kept(self, known: Server | None, host: Host) -> Server:
        """The connections to a host: those that are there, where they lead where they shall."""
        if known is not None and all(getattr(known.spec, field) == getattr(host.spec, field) for field in _CONNECTION):
            known.adopt(host)
            return known
        spec = host.spec
        if spec.key_file is not None and seen_by_others(spec.key_file):
            log.warning("the key of the server '%s' can be read by others: chmod 600 %s", spec.name, spec.key_file)
        server = Server(host, self._connect(spec), self.traffic)
        if known is not None:
            known._successor = server
        return server

    def servers(self) -> tuple[Server, ...]:
        """All, in the order of the configuration."""
        return tuple(self._servers.values())

    def at(self, host: Host) -> Server | None:
        """The connections to a host; None where it has left, or is this process itself."""
        server = self._servers.get(host.spec.name)
        return server if server is not None and server.host is host else None

    def find(self, name: str) -> tuple[Server, str] | None:
        """The server that stands before a name, ``SERVER/MODEL``, and the model's name there."""
        meant = named(name, self.fleet)
        server = self.at(meant.host) if meant else None
        if meant is None or server is None or hindrance(meant, self.fleet):
            return None
        return server, meant.model

    def has(self, name: str) -> bool:
        """Does a model of another server have this name, as far as is known? Nobody is asked."""
        holders = self.fleet.holders(same_name(name))
        return self.find(name) is not None or any(host.spec.is_active and self.at(host) for host in holders)

    def of_kind(self, name: str) -> tuple[Server, str] | None:
        """The only server of this kind, for ``KIND/MODEL`` as other gateways' clients write it."""
        kind, slash, model = name.partition("/")
        servers = [server for server in self._servers.values() if server.spec.kind == kind.lower()]
        if not slash or not model or len(servers) != 1 or hindrance(Named(servers[0].host, model), self.fleet):
            return None
        return servers[0], model

    async def close(self) -> None:
        """Ends the looks that requests began, and closes every connection; open answers raise."""
        await self.traffic.close()
        if self._closing:
            await asyncio.wait(tuple(self._closing))
        for server in self._servers.values():
            await server.close()


def seen_by_others(file: Path) -> bool:
    """Can anybody but its owner read it?"""
    try:
        return bool(file.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))
    except OSError:
        return False


def translated(error: LocalModelsError, spec: ServerSpec, model: str) -> LocalModelsError:
    """A server's error as ours: without our key, with the server's name, and blaming nobody who is not at fault."""
    if isinstance(error, Unauthenticated):
        if spec.key or spec.key_file:
            return BackendError(f"the server '{spec.name}' refused our key; {key_goes(spec, 'another')}")
        return BackendError(f"the server '{spec.name}' asks for a key, and has none from us; {key_goes(spec)}")
    if isinstance(error, ModelNotFound):
        return ModelNotFound(f"{spec.name}/{model}")
    message = spec.key.out_of(error.message)
    if isinstance(error, Forbidden):
        return BackendError(
            f"the server '{spec.name}' does not allow us this: {scope_missing(message, spec) or message}"
        )
    if f"'{spec.name}'" not in message:
        message = named_server(spec.name, message)
    if isinstance(error, OURS):
        return BackendError(message)
    if isinstance(error, QuotaExceeded):  # ours there, not the caller's here
        return RateLimited(message, retry_after=error.retry_after)
    return error.reworded(message, spec.key.out_of(error.param) if error.param else None)


_ITS = re.compile(r"\bthe server's (\w+)")


def named_server(name: str, said: str) -> str:
    """What is said of a server, with its name.

    >>> named_server("a", "the server's answer is not Ollama's"), named_server("a", "the server fell silent")
    ("the answer of the server 'a' is not Ollama's", "the server 'a' fell silent")
    """
    if said.startswith("the server's"):
        return _ITS.sub(lambda found: f"the {found[1]} of the server '{name}'", said, count=1)
    return said.replace("the server", f"the server '{name}'", 1)


def of_server(name: str, said: str) -> str:
    """What has failed at a server, where nothing else says whose failure it is.

    >>> of_server("a", "it refuses our key"), of_server("a", "the server cannot be reached")
    ("the server 'a' refuses our key", "the server 'a' cannot be reached")
    """
    if said.startswith("the server's"):
        return named_server(name, said)
    for subject in ("the server ", "it "):
        if said.startswith(subject):
            return f"the server '{name}' {said.removeprefix(subject)}"
    return f"the server '{name}': {said}"
