"""Names of servers become addresses here, and no connection to a server is made to another address (threat V-19).

The one rule: a name is resolved once for each connection, all that it means is judged, and one of these very addresses
is connected to. One bad address among good ones refuses them all: an honest name has no reason to point there. Nothing
is remembered, so nothing outlives what it was judged by; connections are kept, and that is what is fast.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Collection, Sequence
from urllib.parse import urlsplit

from localmodels.core.address import Address
from localmodels.core.destinations import allowed, literal, name_refusal, reach_of
from localmodels.core.errors import InvalidValue, Unreachable
from localmodels.core.servers import Reach

# The addresses of a host, for connections to this port; raises OSError.
Lookup = Callable[[str, int], Awaitable[Sequence[str]]]

# Seconds for the addresses of a server that is being registered; a resolver asks its name servers twice in that time.
PATIENCE = 10.0
USUAL_PORTS = {"http": 80, "https": 443}
_EVERY_INTERFACE = frozenset({"0.0.0.0", "::"})  # noqa: S104


async def system_lookup(host: str, port: int) -> Sequence[str]:
    """What the machine's own resolver says."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


async def checked(host: str, port: int, reach: Reach, lookup: Lookup = system_lookup) -> Sequence[str]:
    """The addresses to connect to, in the order in which they shall be tried.

    Args:
        host: name or address, without brackets.
        port: that is connected to.
        reach: where the server was when it was registered.
        lookup: gives the addresses of a name.

    Raises:
        Unreachable: nobody knows an address, or no connection may be made to one of them.
    """
    addresses = await _addresses(host, port, lookup)
    for why in (name_refusal(host), *(allowed(address, reach) for address in addresses)):
        if why:
            raise Unreachable(f"the server may not be asked: {why}")
    if not addresses:
        raise Unreachable("the server cannot be reached: nobody knows its address")
    return addresses


async def reach_at(
    url: str, listening: Collection[Address] = (), lookup: Lookup = system_lookup, *, patience: float = PATIENCE
) -> Reach:
    """How near the server is that shall be registered at this URL.

    Args:
        url: as :func:`~localmodels.core.destinations.server_url` spells it.
        listening: where this process listens, as its sockets name it: it is no server behind itself.
        lookup: gives the addresses of a name.
        patience: seconds for them.

    Raises:
        InvalidValue: its address is not known, may never be asked, or is our own; says what would be right.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or USUAL_PORTS[parts.scheme]
    if why := name_refusal(host):
        raise _refused(host, why)
    try:
        async with asyncio.timeout(patience):
            addresses = await _addresses(host, port, lookup)
    except TimeoutError:
        raise _refused(host, f"nobody told its address within {patience:g} s") from None
    except Unreachable:
        raise _refused(host, "nobody knows its address; write one that this machine can resolve") from None
    for address in addresses:
        if any(one.port == port and _is_of(one.host, address) for one in listening):
            what = f"{Address(address, port)} is this very server, and it would ask itself for ever"
            raise _refused(host, f"{what}; its own models need no registration")
    try:
        return reach_of(addresses)
    except InvalidValue as error:
        raise _refused(host, error.message) from None


def _refused(host: str, why: str) -> InvalidValue:
    hint = f"; 127.0.0.1 is where this machine finds itself ({host} is where a server listens)"
    return InvalidValue(
        f"url: there can be no server at {host}: {why}{hint if host in _EVERY_INTERFACE else ''}", param="url"
    )


async def _addresses(host: str, port: int, lookup: Lookup) -> Sequence[str]:
    if address := literal(host):
        return (address,)
    try:
        return await lookup(host, port)
    except (OSError, UnicodeError) as error:  # the second is Python's for a name that cannot be one
        raise Unreachable("the server cannot be reached: nobody knows its address") from error


def _is_of(listener: str, address: str) -> bool:
    """Does a connection to this address arrive at a listener there?"""
    return _is_of_this_machine(address) if listener in _EVERY_INTERFACE else literal(listener) == literal(address)


def _is_of_this_machine(address: str) -> bool:
    """Only a machine's own addresses can be bound to; nothing is sent for that."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as own:
            own.bind((address, 0))
    except OSError:
        return False
    return True
