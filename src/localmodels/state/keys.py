"""The table of keys, as it is written; it is read by ``glance`` and ``selects``."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from localmodels.core.access import Key
from localmodels.core.errors import Conflict
from localmodels.state.generations import KEYS, change, turn
from localmodels.state.rows import row_of
from localmodels.state.tables import KEY


class Keys:
    """Writes keys, in the transaction of a connection; every change raises their generation."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, key: Key) -> None:
        """Keeps a new key.

        Raises:
            Conflict: another key that is not revoked has its name.
        """
        change(self._connection, KEYS)
        try:
            self._connection.execute(insert(KEY), row_of(key))
        except IntegrityError:
            # Without its cause, which repeats the row.
            raise Conflict(f"there is a key '{key.name}' already; revoke it first or choose another name") from None

    def begin_with(self, key: Key) -> bool:
        """Keeps the very first key; was there none, whatever became of it?"""
        turn(self._connection, KEYS)
        if self._count() > 0:
            return False
        change(self._connection, KEYS)
        self._connection.execute(insert(KEY), row_of(key))
        return True

    def revoke(self, key_id: str, now: int) -> bool:
        """Makes a key open nothing from now on; is there such a key? One that was revoked before stays as it was."""
        turn(self._connection, KEYS)
        if self._count(KEY.c.id == key_id, KEY.c.revoked_at.is_(None)):
            change(self._connection, KEYS)
            self._connection.execute(update(KEY).where(KEY.c.id == key_id).values(revoked_at=now))
        return self._count(KEY.c.id == key_id) > 0

    def _count(self, *conditions: ColumnElement[bool]) -> int:
        return self._connection.execute(select(func.count()).select_from(KEY).where(*conditions)).scalar_one()
