"""Which requests are looked at at all, with a key or without: those that name this server, and come from no other page.

A browser is the one program on a machine that runs strangers' code. Two checks keep it out: the ``Host`` must be a
name of ours (else a stranger's DNS name that points to 127.0.0.1 gets in: threat V-29), and an ``Origin``, which every
browser sends along with a cross-site change, must be the page's own server or allowed by name (threat V-30).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from localmodels.core.errors import Forbidden, InvalidRequest, LocalModelsError, Misdirected

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Gate:
    """The decision, made once for each request from three headers.

    Args:
        hosts: further names by which this server may be called, at whatever port a tunnel or a proxy gives them.
        origins: web origins (``https://example.org``) whose pages may call it; ``*`` is not one.
    """

    def __init__(self, hosts: Iterable[str] = (), origins: Iterable[str] = ()) -> None:
        self.adopt(hosts, origins)

    def adopt(self, hosts: Iterable[str], origins: Iterable[str]) -> None:
        """Goes by these from now on."""
        self._hosts = frozenset(host.lower() for host in hosts)
        self._origins = frozenset(origin.lower().rstrip("/") for origin in origins)

    def judge(
        self, hosts: list[str], origins: list[str], site: str, reached: str = "127.0.0.1", port: int | None = None
    ) -> LocalModelsError | None:
        """Why this request must not be answered, or None.

        Args:
            hosts: every ``Host`` header.
            origins: every ``Origin`` header.
            site: the ``Sec-Fetch-Site`` header, empty when there is none.
            reached: our own address on this connection. A ``Host`` that is this very address is no rebound name.
            port: our own on this connection, None where there is none.
        """
        if len(hosts) != 1:
            return InvalidRequest("a request needs exactly one Host header")
        if refusal := self._misdirected(hosts[0], reached, port):
            return refusal
        if len(origins) > 1:
            return InvalidRequest("a request has at most one Origin header")
        if origins and not self._same_or_allowed(origins[0].lower(), hosts[0].lower()):
            return Forbidden(f"pages of {origins[0][:100]!r} may not call this server; allow them with --origin")
        if not origins and site == "cross-site":
            return Forbidden("another site's page may not call this server")
        return None

    def allows(self, origin: str) -> bool:
        """May pages of this origin read the answers (CORS)?"""
        return origin.lower() in self._origins

    def _misdirected(self, host: str, reached: str, port: int | None) -> LocalModelsError | None:
        """A name that nobody gave this server, or one of its own names with the port of another server."""
        name, asked = _split(host)
        if name in self._hosts:
            return None
        if name not in LOOPBACK and not (name and name == reached):
            return Misdirected(f"this server is not {host[:100]!r}; allow the name with --allowed-host")
        if asked is not None and port is not None and asked != port:
            return Misdirected(f"this server is at port {port}, not {asked}; allow any with --allowed-host {name}")
        return None

    def _same_or_allowed(self, origin: str, host: str) -> bool:
        return origin in self._origins or origin == f"http://{host}"


MOST_HOST = 300  # characters: a name has at most 253 (RFC 1035)
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^\[\]:]*))(?::([0-9]{1,5}))?", re.ASCII)


def host_name(host: str) -> str:
    """The name in a ``Host`` header, without its port, in lower case; empty when it has another form."""
    return _split(host)[0]


def _split(host: str) -> tuple[str, int | None]:
    return _found(host) if len(host) <= MOST_HOST else ("", None)


@lru_cache(maxsize=256)  # a client says the same with every request
def _found(host: str) -> tuple[str, int | None]:
    found = _HOST.fullmatch(host.lower())
    if found is None:
        return "", None
    return (found[1] or found[2]).removesuffix("."), int(found[3]) if found[3] else None
