"""Where a server listens and where it is found, read once from any form in which people write it.

What is left out becomes this machine (127.0.0.1), never all interfaces: a forgotten host must not open a server to the
network.
"""

from __future__ import annotations

import ipaddress
import re

from msgspec import Struct

from localmodels.core.errors import InvalidValue

OLLAMA_PORT = 11434
THIS_MACHINE = "127.0.0.1"

_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.\-]{0,253}[A-Za-z0-9_])?\.?")
# Ollama's rule: a scheme brings its own port, a bare host Ollama's.
_SCHEMES = {"http": 80, "https": 443}


class Address(Struct, frozen=True, order=True):
    """A host and a port; IPv6 hosts are kept without brackets and written with them."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str, *, port: int | None = None) -> Address:
        """Reads ``HOST:PORT``, ``[V6]:PORT`` or ``:PORT``; without a port only where ``port`` is given.

        Raises:
            InvalidValue: it is none of them.
        """
        if text.isdecimal():
            raise InvalidValue(f"'{text[:20]}' is a port alone; write {THIS_MACHINE}:{text[:20]}")
        found = _split(text)
        digits = found[1] if found else ""
        number = int(digits) if digits else port
        if found is None or number is None or number > 65535:
            raise InvalidValue(f"'{text[:120]}' is not HOST:PORT, such as 127.0.0.1:8000 or [::1]:8000")
        return cls(found[0] or THIS_MACHINE, number)

    @property
    def is_loopback(self) -> bool:
        """Can only this machine reach it?"""
        if self.host.lower() in {"localhost", "localhost."}:
            return True
        ip = _ip(self.host)
        # An IPv4 address that is written as IPv6, as a socket for both families tells it (RFC 4291, 2.5.5.2).
        mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
        return ip is not None and (mapped or ip).is_loopback

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Site(Struct, frozen=True):
    """What ``OLLAMA_HOST`` names: an address, how to speak to it and under which path (no slash at either end)."""

    address: Address
    scheme: str = "http"
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Site:
        """Reads ``host``, ``host:port``, ``:port``, each also as ``http://…`` or ``https://…`` and with a path.

        Raises:
            InvalidValue: another scheme, or no address in it.
        """
        cleaned = text.strip().strip("\"'").strip()
        before, separator, after = cleaned.partition("://")
        scheme, rest = (before.lower(), after) if separator else ("http", cleaned)
        if scheme not in _SCHEMES:
            raise InvalidValue(f"'{text[:120]}' is neither http:// nor https://")
        place, _, path = rest.partition("/")
        port = _SCHEMES[scheme] if separator else OLLAMA_PORT
        return cls(Address.parse(_bracketed(place), port=port), scheme, path.strip("/"))

    @property
    def url(self) -> str:
        """Where a client connects: a server that listens on every interface is found on this machine."""
        ip = _ip(self.address.host)
        host = ("::1" if ip.version == 6 else THIS_MACHINE) if ip is not None and ip.is_unspecified else None
        address = self.address if host is None else Address(host, self.address.port)
        return f"{self.scheme}://{address}" + (f"/{self.path}" if self.path else "")


def _split(text: str) -> tuple[str, str] | None:
    """Host and port digits, either of them empty when left out; None when the text is no address."""
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        ip = _ip(host) if closed else None
        valid = ip is not None and ip.version == 6 and (not rest or rest.startswith(":"))
        digits = rest.removeprefix(":")
    else:
        host, _, digits = text.partition(":")
        valid = not host or _HOST.fullmatch(host) is not None
    return (host, digits) if valid and (not digits or _is_port(digits)) else None


def _is_port(digits: str) -> bool:
    return digits.isascii() and digits.isdecimal() and len(digits) <= 5


def _bracketed(place: str) -> str:
    """A bare IPv6 address in the brackets it needs."""
    ip = _ip(place)
    return f"[{place}]" if ip is not None and ip.version == 6 else place


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
