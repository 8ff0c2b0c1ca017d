"""How servers and their models are at this moment: what is kept beside what they told last. Pure.

The rule: who does not answer has nothing, and what a server does not tell is not known.
"""

from __future__ import annotations

from localmodels.core.fleet import ModelRow, ServerRow
from localmodels.core.roster import ModelNow, Offer, ServerNow, Source
from localmodels.core.servers import prefix_of
from localmodels.fleet.hosts import Host, same_name

# One that is tried has answered a probe.
_ANSWERING = frozenset({"up", "trying"})
INACTIVE = "inactive"


def server_now(row: ServerRow, host: Host | None, source: Source, *, answers: bool = True) -> ServerNow:
    """A server and how it is.

    Args:
        row: as its owner describes it.
        host: as the fleet sees it; None where the fleet does not know it yet.
        source: where it is described.
        answers: has it answered those who wait for it now?
    """
    if host is None:
        return ServerNow(row=row, prefix=prefix_of(row.name), source=source)
    up = answers and _answers(row, host)
    sight = host.sight if up else None
    return ServerNow(
        row=row,
        prefix=host.spec.name,
        source=source,
        has_key=bool(host.spec.key),
        available=up,
        state=host.state if row.is_active else INACTIVE,
        version=sight.version if sight else None,
        failure=host.failure if row.is_active else "",
        checked_at=host.checked_at,
        in_flight=host.in_flight,
        models=tuple(
            Offer(one.model, one.digest, one.size, one.modified_at)
            for one in (sight.holdings.values() if sight else ())
            if one.listed
        ),
        more_models=sight.more if sight else False,
    )


def model_now(row: ModelRow, server: ServerRow, host: Host | None) -> ModelNow:
    """A model and how it is, on its server."""
    answers = host is not None and _answers(server, host)
    return ModelNow(
        row=row,
        server_name=server.name,
        available=answers and row.is_active and row.present,
        loaded=host.is_warm(same_name(row.model)) if host is not None and answers else None,
    )


def _answers(row: ServerRow, host: Host) -> bool:
    return row.is_active and host.state in _ANSWERING
