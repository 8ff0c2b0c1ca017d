"""The table of stored responses."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Select, delete, func, select

from localmodels.core.responses import UNFINISHED, StoredResponse
from localmodels.state.tables import RESPONSE
from localmodels.state.writing import insert_into

_FIELDS = StoredResponse.__struct_fields__
# How many bytes each and those after it are, together; made once, since SQLAlchemy makes much of it.
_UPTO = func.sum(RESPONSE.c.size).over(order_by=(RESPONSE.c.created_at.desc(), RESPONSE.c.id)).label("upto")
_SIZES = select(RESPONSE.c.owner, RESPONSE.c.id, _UPTO).subquery()


class Responses:
    """Keeps responses, each for its owner, in the transaction of a connection.

    What has expired is not there, also before it is swept.

    Args:
        connection: to the database.
        gateway: who answers those that are not finished.
        now: nanoseconds since 1970.
    """

    def __init__(self, connection: Connection, gateway: str, now: int) -> None:
        self._connection = connection
        self._gateway = gateway
        self._now = now

    def put(self, response: StoredResponse) -> None:
        """Keeps it; one of the same id and owner is replaced."""
        row = {name: getattr(response, name) for name in _FIELDS} | {"size": response.size}
        rest = {name: value for name, value in row.items() if name not in {"id", "owner"}}
        new = insert_into(self._connection, RESPONSE).values(row | {"gateway": self._gateway})
        self._connection.execute(new.on_conflict_do_update(index_elements=["owner", "id"], set_=rest))

    def get(self, id: str, owner: str) -> StoredResponse | None:  # noqa: A002
        """The owner's response of this id."""
        wanted = self._there().where(RESPONSE.c.id == id, RESPONSE.c.owner == owner)
        row = self._connection.execute(wanted).mappings().first()
        return StoredResponse(**row) if row else None

    def delete(self, id: str, owner: str) -> bool:  # noqa: A002
        """Takes it away; was it there?"""
        ours = (RESPONSE.c.id == id, RESPONSE.c.owner == owner)
        gone = self._connection.execute(delete(RESPONSE).where(*ours).returning(RESPONSE.c.expires_at)).scalar()
        return gone is not None and gone > self._now

    def chain(self, id: str, owner: str, most: int) -> tuple[StoredResponse, ...]:  # noqa: A002
        """It and those that it goes on from, oldest first: as far as they are there, and the ``most`` latest."""
        found: list[StoredResponse] = []
        seen = {""}
        while id not in seen and len(found) < most and (response := self.get(id, owner)):
            seen.add(id)
            found.append(response)
            id = response.previous_id  # noqa: A001
        return tuple(reversed(found))

    def unfinished(self) -> tuple[StoredResponse, ...]:
        """All of this gateway that are queued or in progress, whoever owns them."""
        ours = (RESPONSE.c.status.in_(UNFINISHED), RESPONSE.c.gateway == self._gateway)
        wanted = self._there().where(*ours).order_by(RESPONSE.c.created_at)
        return tuple(StoredResponse(**row) for row in self._connection.execute(wanted).mappings())

    def sweep(self, quota: int) -> int:
        """Takes away what has expired, and the oldest of what is more than ``quota`` bytes in all; how many."""
        old = self._connection.execute(delete(RESPONSE).where(RESPONSE.c.expires_at <= self._now)).rowcount
        over = self._connection.execute(select(_SIZES.c.owner, _SIZES.c.id).where(_SIZES.c.upto > quota)).all()
        for owner, found in over:
            self._connection.execute(delete(RESPONSE).where(RESPONSE.c.owner == owner, RESPONSE.c.id == found))
        return old + len(over)

    def _there(self) -> Select[Any]:
        return select(*(RESPONSE.c[name] for name in _FIELDS)).where(RESPONSE.c.expires_at > self._now)
