"""Which servers a request means, and what is said when not all of them did what was asked."""

from __future__ import annotations

from collections.abc import Sequence

from localmodels.core.errors import BackendError, InvalidRequest
from localmodels.core.fleet import LOCAL
from localmodels.core.library import EVERY, FAILED, Outcome
from localmodels.core.servers import ServerSpec, prefix_of

KIND = "ollama"
"""The kind of other servers whose libraries are changed from here: Ollama, and LocalModels."""

MANAGED: tuple[str, ...] = (LOCAL, KIND)
HERE = ServerSpec(name=LOCAL, url="", kind="local")
SHOWN = 3  # failures that an error tells in full


class PartlyDone(BackendError):
    """Some servers did it, or none, and at least one did not.

    Attributes:
        outcomes: of all of them.
    """

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        failed = [one for one in outcomes if one.status == FAILED]
        told = [f"{one.server}: {one.failure}" for one in failed[:SHOWN]]
        more = [f"{len(failed) - SHOWN} more"] if len(failed) > SHOWN else []
        super().__init__(f"{len(failed)} of {len(outcomes)} servers: {'; '.join((*told, *more))}")
        self.outcomes = tuple(outcomes)


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
    words: dict[str, ServerSpec] = {}
    for spec in reversed(known):
        words |= dict.fromkeys((prefix_of(spec.name), spec.id.lower()), spec)
    found: dict[str, ServerSpec] = {}
    for name in servers:
        one = words.get(name.lower()) or words.get(prefix_of(name)) if name else None
        if one is None:
            there = ", ".join(sorted(spec.name for spec in specs)) or "none"
            raise InvalidRequest(f"there is no server '{name[:60]}'; there are: {there}", param="server")
        if not one.is_active:
            raise InvalidRequest(f"the server '{one.name}' is switched off", param="server")
        found[one.name] = one
    return tuple(found.values())


def unmanaged(spec: ServerSpec) -> str:
    """Why a server's library is not changed from here; empty where it is."""
    if spec.kind in MANAGED:
        return ""
    return f"the server '{spec.name}' is of the kind {spec.kind}; models can be made on servers of the kind {KIND}"
