"""Where requests of ours may go: pure rules about host names and addresses (threat V-18).

Two rules, and nobody is asked twice:

- **Never**, whoever named it: what is no machine (0.0.0.0/8, ``::``, multicast, reserved), link-local addresses, and
  the services by which a cloud hands its machines their keys. No registry is there, so nothing is lost.
- **Only where the operator named the origin**: every address that is not public. A model name is text that anybody who
  may pull can send, so a host in it gives no right to reach into the network that this server stands in; a registry
  that the operator wrote into the configuration does. What a registry leads to (redirects) is never named by it.

An IPv6 address that carries an IPv4 one (mapped, compatible, 6to4, Teredo, NAT64) is judged by both.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

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

_NAT64 = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))
_COMPATIBLE = ipaddress.ip_network("::/96")


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
    for one in (address, *_inside(address)):
        if any(one in network for network in NEVER):
            return "it is link-local, multicast, reserved or a cloud's metadata service"
        if not named and not _is_public(one):
            return "it is on the local network, and nobody registered it"
    return ""


def literal(host: str) -> str | None:
    """The host if it is an address already and no name."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None


def _is_public(address: Address) -> bool:
    carries = address.version == 6 and any(True for _ in _inside(address))
    return (carries or address.is_global) and not any(address in network for network in NOT_PUBLIC)


def _inside(address: Address) -> Iterator[IPv4Address]:
    if not isinstance(address, IPv6Address) or int(address) < 2:  # `::` and `::1` carry nothing
        return
    if address.ipv4_mapped:
        yield address.ipv4_mapped
    if address.sixtofour:
        yield address.sixtofour
    if address.teredo:
        yield from address.teredo
    if address in _COMPATIBLE or any(address in network for network in _NAT64):
        yield IPv4Address(address.packed[-4:])
