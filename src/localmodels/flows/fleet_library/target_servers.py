"""Which servers a request means, and how one of several is told of."""

from __future__ import annotations

from collections.abc import Sequence

from localmodels.core.errors import InvalidRequest
from localmodels.core.fleet import LOCAL
from localmodels.core.library import EVERY
from localmodels.core.servers import ServerSpec
from localmodels.flows.connections.server_names import server_meant, text

KIND = "ollama"
"""The kind of other servers whose libraries are changed from here: Ollama, and LocalModels."""

MANAGED: tuple[str, ...] = (LOCAL, KIND)
HERE = ServerSpec(name=LOCAL, url="", kind="local")


def meant(servers: Sequence[str], specs: Sequence[ServerSpec]) -> tuple[ServerSpec, ...]:
    """The servers that these ids or names mean, each once; ``*`` is every one that may be asked.

    Args:
        servers: as a request names them.
        specs: all that there are; where this machine is not among them it is the first.

    Raises:
        InvalidRequest: one that there is not, or that its owner has switched off.
    """
    known = specs if any(spec.kind == LOCAL for spec in specs) else (HERE, *specs)
    if EVERY in servers:
        return tuple(spec for spec in known if spec.is_active)
    found: dict[str, ServerSpec] = {}
    for name in servers:
        one = server_meant(name, known)
        if one is None:
            there = ", ".join(sorted(spec.name for spec in specs)) or "none"
            raise InvalidRequest(f"{text('no server', name)}; there are: {there}", param="server")
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
    """
    rest = failure.removeprefix(f"the server '{server}'")
    if rest == failure:
        return failure
    return rest.removeprefix(": ") if rest.startswith(": ") else f"it{rest}"
