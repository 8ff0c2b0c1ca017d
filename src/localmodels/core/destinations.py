"""Where requests of ours may go: pure rules about addresses, host names and URLs (threats V-18, V-19).

The rules, and nobody is asked twice:

- **Never**, whoever named it: what is no machine (0.0.0.0/8, ``::``, multicast, reserved), link-local addresses, and
  the services by which a cloud hands its machines their keys. No registry and no model server is there.
- **A registry: only where the operator named the origin** may it be at an address that is not public. A model name is
  text that anybody who may pull can send, so a host in it gives no right to reach into the network that this server
  stands in; a registry that the operator wrote into the configuration does. What a registry leads to (redirects) is
  never named by it.
- **A server: no nearer than where it was registered.** Who could register a name that led into the wide world shall not
  reach this machine by changing what the name means.

An IPv6 address that carries an IPv4 one (mapped, translated, compatible, 6to4, Teredo, NAT64) is judged by both.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import NoReturn

from localmodels.core.errors import InvalidValue
from localmodels.core.servers import Reach, scheme_missing

Address = IPv4Address | IPv6Address

NEVER = tuple(
    map(
        ipaddress.ip_network,
        (
            "0.0.0.0/8",
            "169.254.0.0/16",
            "224.0.0.0/4",
            "240.0.0.0/4",
            "::/128",
            "fe80::/10",
            "ff00::/8",
            # Metadata services outside of the link-local range: Alibaba, Azure, Oracle; Amazon and Google by IPv6.
            "100.100.100.200/32",
            "168.63.129.16/32",
            "192.0.0.192/32",
            "fd00:ec2::254/128",
            "fd20:ce::254/128",
        ),
    )
)
# Site-local is deprecated (RFC 3879) and Python calls it global.
NOT_PUBLIC = (ipaddress.ip_network("fec0::/10"),)
NOWHERE = "it is link-local, multicast, reserved or a cloud's metadata service"
METADATA_NAMES = frozenset(
    {
        "metadata",
        "metadata.google.internal",
        "metadata.goog",
        "metadata.azure.internal",
        "metadata.oraclecloud.com",
        "instance-data",
        "instance-data.ec2.internal",
    }
)

# What of an address are its last four bytes: compatible, translated (RFC 2765), NAT64 (RFC 6052, RFC 8215).
_LAST_FOUR = tuple(map(ipaddress.ip_network, ("::/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48")))
# Where connections may go, by where the server was when it was registered. A name of the local network often has
# a public IPv6 address as well; nothing of this machine has another.
_MAY: Mapping[Reach, frozenset[Reach]] = {
    "any": frozenset({"loopback", "private", "public"}),
    "loopback": frozenset({"loopback"}),
    "private": frozenset({"private", "public"}),
    "public": frozenset({"public"}),
}
_WHERE: Mapping[Reach, str] = {
    "any": "anywhere",
    "loopback": "on this machine",
    "private": "on the local network",
    "public": "on the internet",
}

MOST_URL = 1024  # characters; host names have 253 at most
_USUAL_PORTS = {"http": "80", "https": "443"}
_PLACE = re.compile(r"(?P<host>\[[^\[\]]*\]|[^:\[\]]*)(?::(?P<port>[^:\[\]]*))?")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PATH = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)*")


def name_refusal(host: str) -> str:
    """Why no request may go to this host name, whatever it resolves to; empty if it may."""
    bare = host.lower().rstrip(".")
    return "it is a cloud's metadata service" if bare in METADATA_NAMES else ""


def address_refusal(text: str, *, named: bool) -> str:
    """Why no connection may be made to this address; empty if it may.

    Args:
        text: an IP address as the resolver gives it.
        named: the operator named the origin that resolves to it.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return "it is not an address"
    if _is_never(address):
        return NOWHERE
    if not named and _nearness(address) != "public":
        return "it is on the local network, and nobody registered it"
    return ""


def reach_of(addresses: Iterable[str]) -> Reach:
    """How near a server is that has these addresses: ``loopback``, ``private`` or ``public``, of its nearest one.

    Raises:
        InvalidValue: it has none, one that may never be asked, or is on this machine and elsewhere at once.
    """
    found: set[Reach] = set()
    for text in addresses:
        if why := allowed(text, "any"):
            raise InvalidValue(f"{text} may not be asked: {why}")
        found.add(_nearness(ipaddress.ip_address(text)))
    if not found:
        raise InvalidValue("it has no address")
    if "loopback" in found and len(found) > 1:
        raise InvalidValue("it is on this machine and elsewhere at once; name the address that is meant")
    return next(iter(found)) if len(found) == 1 else "private"


def allowed(address: str, reach: Reach) -> str:
    """Why no connection may be made to this address of a server; empty if it may.

    Args:
        address: as the resolver gives it.
        reach: where the server was when it was registered.
    """
    if why := address_refusal(address, named=True):
        return why
    near = _nearness(ipaddress.ip_address(address))
    return "" if near in _MAY[reach] else f"it is {_WHERE[near]}, and the server was registered {_WHERE[reach]}"


def server_url(text: str) -> str:
    """The address of a server in its one spelling: ``http://host:port`` or ``https://…``, perhaps with a path.

    Scheme and host are in lower case and IPv6 in its shortest form; a usual port, a dot behind the host and slashes at
    the end are left out. What browsers and resolvers would have to interpret is refused, so that the host that was
    judged is the host that is asked. No message repeats what could be a password.

    Raises:
        InvalidValue: it is none; says what would be right.
    """
    if not text.isascii():
        _wrong("is written in ASCII; a name with other letters has a form that begins with xn--")
    if len(text) > MOST_URL or not text.isprintable() or " " in text or "\\" in text:
        _wrong(f"has at most {MOST_URL} characters, and no spaces or backslashes among them")
    scheme, separator, rest = text.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in _USUAL_PORTS:
        _wrong(f"begins with http:// or https://{scheme_missing(text)}")
    if set("?#@%") & set(rest):
        _wrong("has no user, password, query, fragment or percent sign in it; a key has a field of its own")
    place, slash, path = rest.partition("/")
    found = _PLACE.fullmatch(place)
    if found is None:
        _wrong("names HOST or HOST:PORT, an IPv6 address in brackets")
    path = (slash + path).removesuffix("/")
    if not _PATH.fullmatch(path):
        _wrong("has a path of letters, digits, '-', '_', '.' and '~' only, without '//', '/./' and '/../'")
    return f"{scheme}://{_host(found['host'].lower())}{_port(found['port'], _USUAL_PORTS[scheme])}{path}"


def literal(host: str) -> str | None:
    """The host if it is an address already and no name."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None


def _wrong(right: str) -> NoReturn:
    raise InvalidValue(f"url must be another: the address of a server {right}", param="url")


def _port(digits: str | None, usual: str) -> str:
    if digits is None or digits == usual:
        return ""
    if not _PORT.fullmatch(digits) or int(digits) > 65535:
        _wrong("has a port from 1 to 65535, written without zeros before it")
    return f":{digits}"


def _host(host: str) -> str:
    if host.startswith("["):
        return f"[{_ipv6(host[1:-1])}]"
    labels = host.removesuffix(".").split(".")
    if _NUMBER.fullmatch(labels[-1]):  # resolvers read such hosts as addresses, each in its own way
        try:
            return str(IPv4Address(".".join(labels)))
        except ValueError:
            _wrong(f"has an IPv4 address in its usual form, such as 127.0.0.1, and '{host[:80]}' is not")
    name = ".".join(labels)
    if len(name) > 253 or not all(map(_LABEL.fullmatch, labels)):
        _wrong(f"has a host of letters, digits, '-', '_' and single dots, and '{host[:80]}' is not")
    return name


def _ipv6(text: str) -> str:
    try:
        address = IPv6Address(text)
    except ValueError:
        _wrong(f"has an IPv6 address in its brackets, and '{text[:80]}' is none")
    if address.ipv4_mapped:
        _wrong(f"has an IPv4 address as it is: {address.ipv4_mapped}")
    return str(address)


def _is_never(address: Address) -> bool:
    return any(one in network for one in (address, *_inside(address)) for network in NEVER)


def _nearness(address: Address) -> Reach:
    """Where it is; what it carries counts, if it carries anything."""
    judged = tuple(_inside(address)) or (address,)
    if any(one.is_loopback for one in judged):
        return "loopback"
    near = any(address in network for network in NOT_PUBLIC) or not all(one.is_global for one in judged)
    return "private" if near else "public"


def _inside(address: Address) -> Iterator[IPv4Address]:
    if not isinstance(address, IPv6Address) or int(address) < 2:  # `::` and `::1` carry nothing
        return
    if address.ipv4_mapped:
        yield address.ipv4_mapped
    if address.sixtofour:
        yield address.sixtofour
    if address.teredo:
        yield from address.teredo
    if any(address in network for network in _LAST_FOUR):
        yield IPv4Address(address.packed[-4:])
