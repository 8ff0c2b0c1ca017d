"""The other servers: how each is reached, what it offers, and what became of it.

One owner: :class:`Remotes` holds the connections by name, and changes them when somebody changes the servers. A server
that leaves goes on until its last answer has ended. The one rule: no error of a server reaches a caller as it came. Its
key is nobody's business, a refusal of our key is our failure, and every message says which server it was.
"""

from __future__ import annotations

import logging
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
from localmodels.core.servers import ServerSpec
from localmodels.fleet.fleet import Fleet
from localmodels.fleet.hosts import Host, same_name
from localmodels.fleet.places import Places
from localmodels.flows.connections.failover import OURS
from localmodels.flows.connections.server_names import Named, hindrance, named
from localmodels.flows.connections.server_status import INACTIVE
from localmodels.flows.connections.traffic import Traffic

log = logging.getLogger(__name__)

Connect = Callable[[ServerSpec], Carrier]

# Names that a server may have answered by without listing them; some answer by any, which strangers could make up.
MOST_CONFIRMED = 256

# What callers hear, few of whom could give it one; `servers check` tells its owner how.
WANTS_KEY = "asks for a key, and none was given for it here"

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

    async def adopt(
        self, specs: Iterable[ServerSpec], *, patience: float | None = None, max_wait: float | None = None
    ) -> None:
        """These servers from now on, our own engine among them where it is one of many.

        Who stays where he was keeps his connections; who goes finishes what he has.

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
        for server in before.values():
            if self._servers.get(server.name) is not server:
                await server.retire()

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
        has_key = spec.key or spec.key_file
        return BackendError(f"the server '{spec.name}' {'refused our key' if has_key else WANTS_KEY}")
    if isinstance(error, ModelNotFound):
        return ModelNotFound(f"{spec.name}/{model}")
    message = _without_key(error.message, spec)
    if isinstance(error, Forbidden):
        return BackendError(f"the server '{spec.name}' does not allow us this: {message}")
    if f"'{spec.name}'" not in message:
        message = message.replace("the server", f"the server '{spec.name}'", 1)
    if isinstance(error, OURS):
        return BackendError(message)
    if isinstance(error, QuotaExceeded):  # ours there, not the caller's here
        return RateLimited(message, retry_after=error.retry_after)
    return error.reworded(message, _without_key(error.param, spec) if error.param else None)


def _without_key(text: str, spec: ServerSpec) -> str:
    """A server's words, in which it may have said our key again."""
    return text.replace(spec.key.reveal(), "***") if spec.key else text
