"""The table of keys, as it is written; it is read by :mod:`~localmodels.state.glance`."""

from __future__ import annotations

from sqlalchemy import Connection, Engine, func, select, update
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import IntegrityError

from localmodels.core.access import Key
from localmodels.core.errors import Conflict
from localmodels.state.rows import row_of
from localmodels.state.tables import KEY, META

GENERATION = "keys_generation"


class Keys:
    """Writes keys; every change raises the generation, by which other programs notice it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, key: Key) -> None:
        """Keeps a new key.

        Raises:
            Conflict: another key that is not revoked has its name.
        """
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(KEY), row_of(key))
                _change(connection)
        except IntegrityError:
            # Without its cause, which repeats the row.
            raise Conflict(f"there is a key '{key.name}' already; revoke it first or choose another name") from None

    def revoke(self, key_id: str, now: int) -> bool:
        """Makes a key open nothing from now on; is there such a key? One that was revoked before stays as it was."""
        with self._engine.begin() as connection:
            ours = KEY.c.id == key_id
            if connection.execute(select(func.count()).select_from(KEY).where(ours)).scalar_one() == 0:
                return False
            found = connection.execute(update(KEY).where(ours, KEY.c.revoked_at.is_(None)).values(revoked_at=now))
            if found.rowcount:
                _change(connection)
            return True


def _change(connection: Connection) -> None:
    first = insert(META).values(name=GENERATION, value=1)
    connection.execute(first.on_conflict_do_update(index_elements=["name"], set_={"value": META.c.value + 1}))
