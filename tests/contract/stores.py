"""The places where the state is really kept, for suites that hold for each: files of a home, and PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from tests.postgres import Postgres

from localmodels.core.secrets import Secret
from localmodels.state.kept import Kept
from localmodels.state.postgres.state import PostgresState
from localmodels.state.state import State

Place = Path | Secret
"""A home, or the URL of a database; opening it again finds what was kept before."""


def opened(place: Place, *, quota: int = 2**20, gateway: str = "one") -> Kept:
    """The state in this place, to be entered."""
    if isinstance(place, Secret):
        return PostgresState(place, gateway=gateway, quota=quota)
    return State(place, quota=quota)


def in_files(request: pytest.FixtureRequest, home: Path) -> Place:
    """The files of a home."""
    return home


def in_postgres(request: pytest.FixtureRequest, home: Path) -> Place:
    """A database."""
    server: Postgres = request.getfixturevalue("postgres")
    return server.database()


STORES: Mapping[str, Callable[[pytest.FixtureRequest, Path], Place]] = {"files": in_files, "postgres": in_postgres}
