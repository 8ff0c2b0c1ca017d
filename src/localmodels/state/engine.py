"""Opens a file of the state through SQLAlchemy, made or migrated if need be. Importing it takes half a second.

One connection a file, for one thread; every transaction takes SQLite's write lock at its beginning, so that none is
refused in its middle because another program (``localmodels keys``) wrote in between.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from pathlib import Path
from time import time_ns
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.pool import QueuePool

from localmodels.state.books import Books
from localmodels.state.files import HEADS, RESPONSES, SMALL_CACHE, STATE, StateError, begin

# Seconds for another program's transaction to end: ours take milliseconds.
PATIENCE = 5
# A key that was shown must be there after a power cut; of responses the last moments may be lost.
_SYNCHRONOUS = {STATE: "PRAGMA synchronous = FULL", RESPONSES: "PRAGMA synchronous = NORMAL"}
_VERSION = "SELECT version_num FROM alembic_version"


T = TypeVar("T")


class Engines:
    """The files of a home, each opened, and made, by the first who writes into it; for one thread."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._engines: dict[str, Engine] = {}

    def write(self, name: str, work: Callable[[Books], T]) -> T:
        """Does something with the tables of a file, in one transaction. Raises as :func:`open_engine`."""
        if name not in self._engines:
            self._engines[name] = open_engine(self._home, name)
        with self._engines[name].begin() as connection:
            return work(Books(connection, "", time_ns()))

    def close(self) -> None:
        """Gives back the files."""
        for engine in self._engines.values():
            engine.dispose()


def open_engine(home: Path, name: str) -> Engine:
    """The file of this name, ready to be used.

    Raises:
        StateError: it comes from a newer version of this program.
        OSError, sqlite3.Error, DBAPIError: it cannot be made or opened, or is no database.
    """
    begin(home, name)
    engine = connected(home / name, _SYNCHRONOUS[name])
    with engine.begin() as connection:
        version = connection.exec_driver_sql(_VERSION).scalar_one()
        if version != HEADS[name]:
            # By name, since alembic takes another half second and is needed once a version.
            importlib.import_module("localmodels.state.migrating").upgrade(connection, name)
            if connection.exec_driver_sql(_VERSION).scalar_one() != HEADS[name]:
                raise StateError(f"{name} could not be brought from version {version} to {HEADS[name]}")
    return engine


def connected(path: Path, synchronous: str) -> Engine:
    """An engine for a file, whatever is in it."""
    # At its lowest level it logs rows, and what is in them is for nobody's log.
    logging.getLogger("sqlalchemy").setLevel(logging.WARNING)
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        poolclass=QueuePool,
        pool_size=1,
        max_overflow=0,
        connect_args={"timeout": PATIENCE},
        hide_parameters=True,
    )

    @event.listens_for(engine, "connect")
    def opened(connection: Any, record: object) -> None:
        connection.isolation_level = None  # transactions are begun below, not guessed by the driver
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(synchronous)
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(SMALL_CACHE)

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
