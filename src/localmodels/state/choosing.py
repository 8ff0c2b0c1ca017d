"""Where the state is kept: in files of the home, or in a database that several gateways share.

The rule: SQLAlchemy and the database's driver are imported by who has named a database, and by nobody else.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

from localmodels.core.secrets import Secret
from localmodels.state.files import StateError
from localmodels.state.kept import Kept
from localmodels.state.state import State

NOWHERE = Secret("")
# What the extra `postgres` brings; by these names Python says what is missing.
_EXTRA = frozenset({"asyncpg", "greenlet"})


def state_in(
    home: Path, database: Secret = NOWHERE, *, gateway: str = "", quota: int = 0, listens: bool = True
) -> Kept:
    """The state, to be entered.

    Args:
        home: directory of the files, where there is no database.
        database: URL of PostgreSQL; empty for files.
        gateway: id of who shares the database, the same after a restart; see ``files.gateway_of``.
        quota: bytes that all stored responses together may take.
        listens: does it follow what other gateways do? A program that changes one thing and ends need not.

    Raises:
        StateError: the extra ``postgres`` is not installed.
    """
    if not database:
        return State(home, quota=quota)
    state: Kept = postgres("state").PostgresState(database, gateway=gateway, quota=quota, listens=listens)
    return state


def postgres(name: str) -> ModuleType:
    """A module for PostgreSQL.

    Raises:
        StateError: the extra ``postgres`` is not installed.
    """
    try:
        return importlib.import_module(f"localmodels.state.postgres.{name}")
    except ModuleNotFoundError as error:
        if error.name not in _EXTRA:
            raise
        raise StateError("database_url needs the extra `postgres`; in the clone: pip install '.[postgres]'") from error
