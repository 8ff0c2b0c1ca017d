"""Numbers that every change raises, by which other programs notice it; PostgreSQL tells them at once, too.

The rule: a number is raised in the transaction of its change, and who looks before he writes takes his turn first, so
that what he saw still holds when he writes.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, func, select

from localmodels.state.tables import META
from localmodels.state.words import POSTGRES
from localmodels.state.writing import insert_into

KEYS = "keys_generation"
FLEET = "fleet_generation"
CHANNEL = "localmodels"
"""Who listens here hears the name of the number that was raised, and the number."""

# PostgreSQL's advisory locks have two numbers: the first one is ours, out of our name; the others tell them apart.
LOCKS = 0x6C6D
TURNS: Mapping[str, int] = {KEYS: 1, FLEET: 2}
MIGRATING, RECONCILING = 3, 4


def turn(connection: Connection, name: str) -> None:
    """Waits until nobody else changes what this number is of; until the transaction ends, nobody does.

    A transaction on SQLite has had the whole file from its beginning.
    """
    if connection.dialect.name == POSTGRES:
        connection.execute(select(func.pg_advisory_xact_lock(LOCKS, TURNS[name])))


def change(connection: Connection, name: str) -> None:
    """Raises a number; who listens hears of it when the transaction is durable."""
    first = insert_into(connection, META).values(name=name, value=1)
    raised = first.on_conflict_do_update(index_elements=["name"], set_={"value": META.c.value + 1})
    value = connection.execute(raised.returning(META.c.value)).scalar_one()
    if connection.dialect.name == POSTGRES:
        connection.execute(select(func.pg_notify(CHANNEL, f"{name} {value}")))


def generation(connection: Connection, name: str) -> int:
    """The number; 0 before the first change."""
    return connection.execute(select(META.c.value).where(META.c.name == name)).scalar_one_or_none() or 0
