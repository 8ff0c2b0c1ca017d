"""Finds the server that a verb speaks to.

An address that was named is taken as it is. Otherwise the server is where the settings have it listen, and the first
of those addresses where a LocalModels answers is taken: 8000 is a port on which many things live, and on 11434 there
may be an Ollama. Only our ``/health`` tells us apart, for one request of a millisecond.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import NoReturn

from localmodels.cli.world import World
from localmodels.client._sync_calls import Calls, Carrier, Reply
from localmodels.client.plain import Plain
from localmodels.client.site import HOST_NAMES, find_site, headers, named_in
from localmodels.client.wire import nobody
from localmodels.config import load
from localmodels.core.address import Site
from localmodels.core.errors import LocalModelsError, Unreachable

# Seconds for a server to say that it is one of ours; a stranger may be silent.
PATIENCE = 2.0


def connect(args: argparse.Namespace, world: World) -> Calls:
    """A client of the server that is meant.

    Raises:
        Unreachable: none was named and none of ours answers.
    """
    return Calls(reach(args, world))


def reach(args: argparse.Namespace, world: World) -> Carrier:
    """The way to the server that is meant, for a client that has more calls.

    Raises:
        Unreachable: as :func:`connect`.
    """
    return seek(args.host, world) or _nobody(world.environ)


def find(host: str | None, world: World) -> Calls | None:
    """A client of the server that is meant; None when none was named and none of ours answers."""
    way = seek(host, world)
    return None if way is None else Calls(way)


def seek(host: str | None, world: World) -> Carrier | None:
    """The way to the server that is meant; None as :func:`find`."""
    if named(host, world.environ):
        return Named(way_to(host, world), _named_by(host, world.environ))
    for url in addresses(world.environ):
        with stranger(url, world) as client:
            if answers(client):
                return way_to(url, world)
    return None


def named(host: str | None, environ: Mapping[str, str]) -> bool:
    """Did the user say which server?"""
    return bool(_named_by(host, environ))


def way_to(host: str | None, world: World) -> Carrier:
    """The way to the server at ``host``, with the key of the environment."""
    url = find_site(host, world.environ).url
    return (world.carry or Plain)(url, headers(None, world.environ), None)


def stranger(host: str, world: World) -> Calls:
    """A client of somebody who may not be one of ours: says no key, and does not wait long."""
    return Calls((world.carry or Plain)(find_site(host, world.environ).url, headers(None, {}), PATIENCE))


def addresses(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Where a server with these settings would be found."""
    return tuple(Site(address).url for address in load({}, environ).config.listen if address.port)


def answers(client: Calls) -> bool:
    """Is this a LocalModels?"""
    try:
        client.health()
    except LocalModelsError:  # whatever it is, it is not one of ours
        return False
    return True


class Named:
    """The way to a server that the user has named: where nobody answers there, what can be done about it is said, too.

    Args:
        way: to the server.
        by: the flag or the variable that names it.
    """

    def __init__(self, way: Carrier, by: str) -> None:
        self.url = way.url
        self._way = way
        self._by = by

    @contextmanager
    def open(
        self,
        method: str,
        path: str,
        body: bytes | Iterator[bytes] | None,
        *,
        size: int | None = None,
        content_type: str = "",
    ) -> Iterator[Reply]:
        """Sends a request; what the server itself calls unreachable is another server, and stays as it is."""
        with ExitStack() as stack:
            try:
                reply = stack.enter_context(self._way.open(method, path, body, size=size, content_type=content_type))
            except Unreachable as error:
                if error.message != nobody(self.url).message:
                    raise
                raise error.reworded(f"{error.message}; {self._next()}", error.param) from error
            yield reply

    def close(self) -> None:
        """Gives back every connection."""
        self._way.close()

    def _next(self) -> str:
        here = Site.parse(self.url).address.is_loopback
        other = f"leave {self._by} out" if self._by.startswith("--") else f"unset {self._by}"
        return f"start one {'' if here else 'there '}with `localmodels serve`, or {other}"


def _named_by(host: str | None, environ: Mapping[str, str]) -> str:
    """The flag or the variable that says which server; empty where none does."""
    if host:
        return "--host"
    return next((name for name in HOST_NAMES if named_in(environ, (name,))), "")


def _nobody(environ: Mapping[str, str]) -> NoReturn:
    raise Unreachable(
        f"no LocalModels server answers at {' or '.join(addresses(environ))}; start one with `localmodels serve`"
    )
