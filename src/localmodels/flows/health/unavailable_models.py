"""What cannot be asked because its server does not answer. Pure.

The rule: a server that is down is no trouble by itself; that is what the others are for. It is one where models are
missing because of it: nobody who answers, and may be asked, has them.
"""

from __future__ import annotations

from collections.abc import Iterator

from localmodels.fleet.fleet import Fleet
from localmodels.fleet.hosts import Host


def missing(fleet: Fleet, host: Host) -> tuple[str, ...]:
    """The models that cannot be asked because this server does not answer, as far as it has told of them.

    Only names count under which a model is offered by itself: those of registered servers, and those that tables of the
    file list.
    """
    if not host.spec.is_active or host.state != "down" or host.sight is None:
        return ()
    return tuple(holding.model for name, holding in host.sight.holdings.items() if _misses(fleet, host, name))


def notes(fleet: Fleet) -> Iterator[str]:
    """A sentence for each server by which models are missing. It names none: not everybody may know of all."""
    for host in fleet.hosts():
        if number := len(missing(fleet, host)):
            models = "a model that nobody else has" if number == 1 else f"{number} models that nobody else has"
            yield f"the server '{host.spec.name}' does not answer, and had {models}"


def offers(fleet: Fleet) -> bool:
    """Does any other server that answers offer a model?"""
    return any(
        host.spec.registered and host.may_be_asked and host.sight and host.sight.holdings for host in fleet.hosts()
    )


def _misses(fleet: Fleet, host: Host, name: str) -> bool:
    """Is this model offered there, and by nobody who answers?"""
    offering = fleet.holders(name)
    return host in offering and not any(one.may_be_asked for one in offering)
