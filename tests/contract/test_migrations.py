"""A file of every earlier version is brought forward, with all that is in it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, MetaData, Table, inspect

from localmodels.state import engine, migrating, starting
from localmodels.state.files import HEADS, RESPONSES, STATE

# What a column of each kind may hold, so that every table of an earlier version has a row.
VALUES = {"TEXT": "words", "BIGINT": 7, "INTEGER": 1, "FLOAT": 0.5, "BLOB": b"{}", "BOOLEAN": True}
EARLIER = [
    (name, script.revision)
    for name in (STATE, RESPONSES)
    for script in migrating.scripts(name).walk_revisions()
    if script.revision != HEADS[name]
]


def old(path: Path, name: str, revision: str) -> dict[str, dict[str, Any]]:
    """Makes a file of this version with a row in every table; gives the rows."""
    opened = engine.connected(path, "PRAGMA synchronous = OFF")
    with opened.begin() as connection:
        upgrade(connection, name, revision)
        rows = {table.name: fill(connection, table) for table in tables(connection)}
    opened.dispose()
    return rows


def upgrade(connection: Connection, name: str, revision: str) -> None:
    directory = migrating.scripts(name)

    def missing(version: Any, context: MigrationContext) -> Any:
        return directory._upgrade_revs(revision, version)

    environment = EnvironmentContext(Config(), directory)
    environment.configure(connection=connection, fn=missing)
    environment.run_migrations()


def tables(connection: Connection) -> list[Table]:
    found = MetaData()
    names = [name for name in inspect(connection).get_table_names() if name != "alembic_version"]
    found.reflect(connection, only=names)
    return found.sorted_tables


def fill(connection: Connection, table: Table) -> dict[str, Any]:
    row = {column.name: VALUES[str(column.type)] for column in table.columns}
    connection.execute(table.insert(), row)
    return row


@pytest.mark.parametrize(("name", "revision"), EARLIER)
def test_nothing_is_lost(name: str, revision: str, tmp_path: Path) -> None:
    before = old(tmp_path / name, name, revision)
    engine.open_engine(tmp_path, name).dispose()
    with closing(sqlite3.connect(tmp_path / name)) as connection:
        connection.row_factory = sqlite3.Row
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone()[0] == HEADS[name]
        for table, row in before.items():
            (now,) = connection.execute(f'SELECT * FROM "{table}"').fetchall()  # noqa: S608 - our own name
            assert dict(row).items() <= dict(now).items()
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    if name == STATE:
        (key,) = starting.known_keys(tmp_path)
        assert key.name == "words"


def test_there_are_earlier_versions() -> None:
    assert {(STATE, "0001"), (STATE, "0002"), (RESPONSES, "0001")} <= set(EARLIER)
