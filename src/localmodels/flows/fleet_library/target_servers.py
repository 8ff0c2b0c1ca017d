"""Which servers a request means, and how one of several is told of."""

from __future__ import annotations

import re
from collections.abc import Sequence

from localmodels.core.access import Caller, Guarded
from localmodels.core.errors import InvalidRequest
from localmodels.core.fleet import LOCAL
from localmodels.core.library import EVERY
from localmodels.core.servers import ServerSpec
from localmodels.flows.connections.server_names import server_meant, text

KIND = "ollama"
"""The kind of other servers whose libraries are changed from here: Ollama, and LocalModels."""

MANAGED: tuple[str, ...] = (LOCAL, KIND)
HERE = ServerSpec(name=LOCAL, url="", kind="local")


class NoSuchServer(Guarded, InvalidRequest):
    """A word that is no server's; says which there are, to who may know."""

    def __init__(self, server: str, there: Sequence[str]) -> None:
        super().__init__(text("no server", server), param="server")
        self._there = ", ".join(sorted(there)) or "none"

    def told_to(self, caller: Caller) -> InvalidRequest:
        """The error for this caller: the names of servers are for those who may see them listed."""
        more = f"; there are: {self._there}" if caller.may("observe") else ""
        return InvalidRequest(f"{self.message}{more}", param="server")


def meant(servers: Sequence[str], specs: Sequence[ServerSpec]) -> tuple[ServerSpec, ...]:
    """The servers that these ids or names mean, each once; ``*`` is every one that may be asked.

    Args:
        servers: as a request names them.
        specs: all that there are; where this machine is not among them it is the first.

    Raises:
        NoSuchServer: one that there is not.
        InvalidRequest: one that its owner has switched off.
    """
    known = specs if any(spec.kind == LOCAL for spec in specs) else (HERE, *specs)
    if EVERY in servers:
        return tuple(spec for spec in known if spec.is_active)
    found: dict[str, ServerSpec] = {}
    for name in servers:
        one = server_meant(name, known)
        if one is None:
            raise NoSuchServer(name, [spec.name for spec in specs])
        if not one.is_active:
            raise InvalidRequest(text("server off", one.name), param="server")
        found[one.name] = one
    return tuple(found.values())


def unmanaged(spec: ServerSpec) -> str:
    """Why a server's library is not changed from here; empty where it is."""
    if spec.kind in MANAGED:
        return ""
    return f"the server '{spec.name}' is of the kind {spec.kind}; models are managed on those of the kind {KIND} alone"


def without_server(server: str, failure: str) -> str:
    """What is said of a server where its name stands before it already.

    >>> without_server("a", "the server 'a': no room"), without_server("a", "the server 'a' cannot be reached")
    ('no room', 'it cannot be reached')
    >>> without_server("a", "the answer of the server 'a' is not Ollama's")
    "its answer is not Ollama's"
    """
    its = re.sub(rf"^the (\w+) of the server '{re.escape(server)}'", r"its \1", failure)
    if its != failure:
        return its
    rest = failure.removeprefix(f"the server '{server}'")
    if rest == failure:
        return failure
    return rest.removeprefix(": ") if rest.startswith(": ") else f"it{rest}"
