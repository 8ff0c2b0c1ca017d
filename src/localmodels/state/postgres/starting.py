"""What a start does with a database by itself; as ``starting`` does with files, and from wherever it is called."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from sqlalchemy import Connection

from localmodels.core.access import Key
from localmodels.core.errors import LocalModelsError
from localmodels.core.secrets import Secret
from localmodels.state.files import StateError
from localmodels.state.keys import Keys
from localmodels.state.postgres.database import Database
from localmodels.state.selects import Selects

T = TypeVar("T")


def known_keys(url: Secret) -> tuple[Key, ...]:
    """All keys; the tables are made, or brought up to today's.

    Raises:
        StateError: the database cannot be used.
    """
    return _asked(url, lambda database: database.look(_keys))[1]


def first_key(url: Secret, key: Key) -> tuple[int, tuple[Key, ...]] | None:
    """Keeps this key in a database in which none was ever made.

    Returns:
        The generation and all keys of it; None where there was one, whatever became of it.

    Raises:
        StateError: it cannot be kept.
    """

    def begun(connection: Connection) -> tuple[int, tuple[Key, ...]] | None:
        return _keys(connection) if Keys(connection).begin_with(key) else None

    return _asked(url, lambda database: database.write(begun))


def _keys(connection: Connection) -> tuple[int, tuple[Key, ...]]:
    return Selects(connection, "").keys()


def _asked(url: Secret, ask: Callable[[Database], Coroutine[Any, Any, T]]) -> T:
    """Asks on a thread of its own, since the caller's may have an event loop that runs."""

    async def asked() -> T:
        async with Database(url) as database:
            return await ask(database)

    try:
        with ThreadPoolExecutor(1, "state-start") as thread:
            return thread.submit(asyncio.run, asked()).result()
    except LocalModelsError as error:
        raise StateError(str(error)) from error
