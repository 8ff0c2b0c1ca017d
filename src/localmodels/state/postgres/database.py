"""One database: its connections, its tables brought up to today's, and one transaction at a time for who asks.

The rule: a connection is taken for a transaction and given back with it, whatever the caller does next; nothing waits
for the database longer than its deadlines, and one that was away is used again by itself.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar

import asyncpg
from msgspec import Struct
from sqlalchemy import Connection, func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from localmodels.core.secrets import Secret
from localmodels.state.files import StateError
from localmodels.state.generations import LOCKS, MIGRATING
from localmodels.state.postgres.refusals import Away, refusals

log = logging.getLogger(__name__)

T = TypeVar("T")

HISTORY = "postgresql"
"""Its migrations."""
HEAD = "0001"
"""The newest of them."""
# Ours alone in a database that others may use as well.
SCHEMA = "localmodels"

# Connections that are kept for transactions, which take milliseconds; the default of a server allows a hundred.
CONNECTIONS = 4
# Seconds between two attempts to reach it.
AGAIN = 0.25
# Seconds after which a connection is made anew, since something on the way may forget it.
AGE = 1800
# Seconds that who leaves waits for a database that does not answer.
LEAVE = 1.0
# Times that a transaction is begun again because another one came in between.
ATTEMPTS = 4
_SETTINGS = {
    "application_name": "localmodels",
    "search_path": SCHEMA,
    "timezone": "UTC",
    # Seconds until it is noticed there that we are gone, and what we hold is free for others.
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
}

_SCHEMA_THERE = text("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = :name)")
_VERSIONED = text("SELECT to_regclass('alembic_version') IS NOT NULL")
_VERSION = text("SELECT version_num FROM alembic_version")
_MAKE_SCHEMA = text("CREATE SCHEMA localmodels")


class Deadlines(Struct, frozen=True):
    """Seconds.

    Attributes:
        connect: for a connection, made or waited for.
        statement: for a statement, by the database's clock and a second later by ours.
        transaction: for all of one, and what is between.
        start: for which a start waits for a database that starts, too.
    """

    connect: float = 5.0
    statement: float = 5.0
    transaction: float = 15.0
    start: float = 20.0

    def settings(self) -> dict[str, str]:
        """As PostgreSQL takes them."""
        statement, transaction = f"{self.statement * 1000:.0f}ms", f"{self.transaction * 1000:.0f}ms"
        return {"statement_timeout": statement, "idle_in_transaction_session_timeout": transaction}


USUAL = Deadlines()


async def connect(url: Secret, deadlines: Deadlines = USUAL, *, bounded: bool = True) -> Any:
    """A connection of the driver's.

    Args:
        url: as PostgreSQL's own programs take it.
        deadlines: of it.
        bounded: end statements that take too long? A migration may take its time.

    Raises:
        StateError: the driver cannot read the URL, or what it names.
        OSError, asyncpg.PostgresError, asyncpg.InterfaceError: there is none.
    """
    try:
        return await asyncpg.connect(
            url.reveal(),
            timeout=deadlines.connect,
            command_timeout=deadlines.statement + 1 if bounded else None,
            server_settings=_SETTINGS | (deadlines.settings() if bounded else {}),
        )
    except ValueError:
        # Without its words, which may be the URL's.
        raise StateError("database_url, or a certificate that it names, cannot be read") from None


class Database:
    """``async with Database(url) as database``; then its tables are today's.

    Args:
        url: of the database, as PostgreSQL's own programs take it.
        deadlines: of what it is asked.
        sleep: as ``asyncio.sleep``.
    """

    def __init__(
        self, url: Secret, deadlines: Deadlines = USUAL, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._url = url
        self._deadlines = deadlines
        self._sleep = sleep
        self._engine = connected(url, deadlines, CONNECTIONS)
        self._seeing = self._engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    async def __aenter__(self) -> Self:
        # At its lowest level it logs rows, and what is in them is for nobody's log.
        logging.getLogger("sqlalchemy").setLevel(logging.WARNING)
        # Traces of connections that could not be closed: that they are lost is told by who needs one.
        logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)
        await self._prepared()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(TimeoutError):  # a database that hangs must not keep who leaves
            async with asyncio.timeout(LEAVE):
                await self._engine.dispose()

    async def look(self, look: Callable[[Connection], T]) -> T:
        """Asks, all of one moment.

        Raises:
            DatabaseUnavailable: it cannot be asked now.
            StoreFailed: it cannot be asked.
        """
        return await self._within(self._seeing, look)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Does something in one transaction; it may be done again when another one came in between.

        Raises:
            DatabaseUnavailable: it cannot be done now; if the connection was lost at its very end, nobody knows.
            StoreFailed, DiskFull: it cannot be done.
        """
        for _ in range(ATTEMPTS - 1):
            try:
                return await self._within(self._engine, work)
            except Away as error:
                if not error.collided:
                    raise
        return await self._within(self._engine, work)

    async def _within(self, engine: AsyncEngine, work: Callable[[Connection], T]) -> T:
        with refusals():
            async with asyncio.timeout(self._deadlines.transaction), engine.begin() as connection:
                return await connection.run_sync(work)

    async def _prepared(self) -> None:
        """Brings the tables up to today's; waits for a database that is about to be there."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._deadlines.start
        while True:
            try:
                with refusals():
                    return await self._upgraded()
            except Away as error:
                if loop.time() > until:
                    raise
                log.info("%s; trying again", error)
            await self._sleep(AGAIN)

    async def _upgraded(self) -> None:
        engine = connected(self._url, self._deadlines, 1, bounded=False)
        try:
            async with engine.begin() as connection:
                if await connection.run_sync(_version) != HEAD:
                    await connection.run_sync(upgrade)
        finally:
            await engine.dispose()


def connected(url: Secret, deadlines: Deadlines, connections: int, *, bounded: bool = True) -> AsyncEngine:
    """An engine of at most so many connections, whatever is in the database; see :func:`connect`."""
    return create_async_engine(
        "postgresql+asyncpg://",
        async_creator=lambda: connect(url, deadlines, bounded=bounded),
        pool_size=connections,
        max_overflow=0,
        pool_timeout=deadlines.connect,
        pool_pre_ping=True,
        pool_recycle=AGE,
        hide_parameters=True,
    )


def upgrade(connection: Connection) -> None:
    """Makes the tables, or brings them up to today's; several gateways may start at once, and one does it.

    Raises:
        StateError: they come from a newer version of this program.
    """
    connection.execute(select(func.pg_advisory_xact_lock(LOCKS, MIGRATING)))
    if not connection.execute(_SCHEMA_THERE, {"name": SCHEMA}).scalar_one():
        connection.execute(_MAKE_SCHEMA)
    if _version(connection) != HEAD:
        # By name, since alembic takes half a second and is needed once a version.
        importlib.import_module("localmodels.state.migrating").upgrade(connection, HISTORY)
        if _version(connection) != HEAD:
            raise StateError(f"the database could not be brought to version {HEAD}")


def _version(connection: Connection) -> str | None:
    if not connection.execute(_VERSIONED).scalar_one():
        return None
    return str(connection.execute(_VERSION).scalar_one())
