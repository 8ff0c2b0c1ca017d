"""The table of what each gateway has under way.

The rule: ages are told by the database's clock alone. A gateway's own may be minutes off, so its row is stamped where
it is written, and who reads is told how old it is and counts back by a clock of its own.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from sqlalchemy import Connection, delete, func, select

from localmodels.core.fleet import Loads
from localmodels.state.tables import GATEWAY
from localmodels.state.writing import age_of, insert_into

# Seconds after which a row is of nobody any more.
FORGOTTEN = 3600.0
_COUNTS = msgspec.json.Decoder(dict[str, int])
_AGE = age_of(GATEWAY.c.seen)


class Gateways:
    """Who shares the tables, and what they have under way; in the transaction of a connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def publish(self, gateway: str, loads: Loads) -> None:
        """This is what a gateway has under way now."""
        counts = {"in_flight": _written(loads.in_flight), "waiting": _written(loads.waiting)}
        told = {"seen": func.clock_timestamp(), **counts}
        new = insert_into(self._connection, GATEWAY).values(id=gateway, **told)
        self._connection.execute(new.on_conflict_do_update(index_elements=["id"], set_=told))

    def others(self, gateway: str, within: float) -> list[tuple[float, Loads]]:
        """What others have said in so many seconds, and how many seconds ago; its ``at`` is not known here."""
        told = select(GATEWAY.c.id, _AGE, GATEWAY.c.in_flight, GATEWAY.c.waiting)
        said = told.where(GATEWAY.c.id != gateway, _AGE.between(0, within)).order_by(GATEWAY.c.id)
        rows = self._connection.execute(said).all()
        return [(age, Loads(who, 0, _COUNTS.decode(here), _COUNTS.decode(waits))) for who, age, here, waits in rows]

    def leave(self, gateway: str) -> None:
        """A gateway has nothing under way any more; those that died long ago neither."""
        self._connection.execute(delete(GATEWAY).where((GATEWAY.c.id == gateway) | (_AGE > FORGOTTEN)))


def _written(counts: Mapping[str, int]) -> str:
    return msgspec.json.encode(counts).decode()
