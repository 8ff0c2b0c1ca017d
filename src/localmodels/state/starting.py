"""What a start does with the state by itself: read the keys before it listens, and make the first one once it does."""

from __future__ import annotations

import importlib
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from localmodels.core.access import Key
from localmodels.core.errors import LocalModelsError
from localmodels.core.secrets import Secret
from localmodels.state.choosing import NOWHERE, postgres
from localmodels.state.files import HEADS, STATE, StateError
from localmodels.state.glance import Glance, begin_with

T = TypeVar("T")


def known_keys(home: Path, database: Secret = NOWHERE) -> tuple[Key, ...]:
    """All keys of a home, or of a database; none where it has no state. An earlier version is brought up to today's.

    Raises:
        StateError: it cannot be used. Its keys may say who is to be kept out, so it is never passed over.
    """
    if database:
        keys: tuple[Key, ...] = postgres("starting").known_keys(database)
        return keys
    if not (home / STATE).exists():
        return ()
    return told(home, lambda: _keys(home))


def first_key(home: Path, key: Key, database: Secret = NOWHERE) -> tuple[int, tuple[Key, ...]] | None:
    """Keeps this key in a home, or in a database, in which none was ever made.

    Returns:
        The generation and all keys of it; None where there was one, whatever became of it.

    Raises:
        StateError: it cannot be kept.
    """
    if database:
        known: tuple[int, tuple[Key, ...]] | None = postgres("starting").first_key(database, key)
        return known
    return told(home, lambda: _begun(home, key))


def _begun(home: Path, key: Key) -> tuple[int, tuple[Key, ...]] | None:
    if not begin_with(home, key):
        return None
    with closing(Glance(home)) as glance:
        return glance.keys()


def _keys(home: Path) -> tuple[Key, ...]:
    with closing(Glance(home)) as glance:
        if glance.version() != HEADS[STATE]:
            # By name: SQLAlchemy and alembic take a second to import, and are needed once a version.
            importlib.import_module("localmodels.state.engine").open_engine(home, STATE).dispose()
        return glance.keys()[1]


def told(home: Path, work: Callable[[], T]) -> T:
    """Does it; what goes wrong names the file.

    Raises:
        StateError: something did.
    """
    try:
        return work()
    except (OSError, sqlite3.Error, LocalModelsError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StateError(f"{home / STATE} cannot be used: {reason}") from error
