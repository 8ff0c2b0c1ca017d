"""The state of one home, for a program that waits for nobody: one thread looks, another one writes.

Looking at keys is SQLite's alone (``glance``). What writes goes through SQLAlchemy, which is imported by the first who
writes, on that thread: a start does not wait for it, and a server that nobody asks never has it in memory.
"""

from __future__ import annotations

import asyncio
import importlib
import sqlite3
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

from localmodels.core.access import Unwritable
from localmodels.core.errors import DiskFull, LocalModelsError, StoreFailed
from localmodels.core.fleet import Replicas
from localmodels.state.alone import Alone
from localmodels.state.files import STATE, StateError, begin
from localmodels.state.glance import Glance
from localmodels.state.kept import Kept

if TYPE_CHECKING:
    from localmodels.state.books import Books
    from localmodels.state.engine import Engines

T = TypeVar("T")


class State(Kept):
    """``async with State(home) as state``; see :class:`~localmodels.state.kept.Kept`.

    Args:
        home: directory of the files.
        quota: bytes that all stored responses together may take.
    """

    def __init__(self, home: Path, *, quota: int = 0) -> None:
        super().__init__(quota=quota)
        self._home = home
        # Two, so that a key that was taken away is noticed also while somebody writes much, or imports.
        self._looking = ThreadPoolExecutor(1, "state-look")
        self._writing = ThreadPoolExecutor(1, "state-write")
        self._glance = Glance(home)
        self._engines: Engines | None = None
        self._alone = Alone(self.fleet.generation, trace=self._trace)

    @property
    def replicas(self) -> Replicas:
        """Nobody: a home has one server, and other programs that change its files."""
        return self._alone

    async def __aenter__(self) -> Self:
        await run(self._writing, self._begin)
        return self

    async def __aexit__(self, *error: object) -> None:
        await run(self._looking, self._glance.close)
        await run(self._writing, self._close)
        self._looking.shutdown()
        self._writing.shutdown()

    async def look(self, look: Callable[[Glance], T]) -> T:
        """What SQLite alone can tell. Raises as :meth:`write`."""
        return await run(self._looking, lambda: look(self._glance))

    async def write(self, work: Callable[[Books], T], name: str = STATE) -> T:
        """Does something with the tables of a file.

        Raises:
            StoreFailed: the file cannot be used; the log has the details.
        """
        return await run(self._writing, lambda: self._opened().write(name, work))

    def has(self, name: str) -> bool:
        """Is there a file of this name?"""
        return (self._home / name).exists()

    def _trace(self) -> object | None:
        """What the last write to the state's file has left: SQLite writes into it, or into a log beside it first."""
        file, log = (_trace_of(self._home / f"{STATE}{ending}") for ending in ("", "-wal"))
        return (file, log) if file else None

    def _begin(self) -> None:
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        begin(self._home, STATE)

    def _opened(self) -> Engines:
        if self._engines is None:
            engines: type[Engines] = importlib.import_module("localmodels.state.engine").Engines
            self._engines = engines(self._home)
        return self._engines

    def _close(self) -> None:
        if self._engines is not None:
            self._engines.close()


def _trace_of(path: Path) -> tuple[int, int, int] | None:
    """Another one after every write; None of what is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


async def run(thread: Executor, work: Callable[[], T]) -> T:
    """Does it on this thread. Raises as :func:`guarded`."""
    return await asyncio.get_running_loop().run_in_executor(thread, guarded, work)


def guarded(work: Callable[[], T]) -> T:
    """Does it; what the database or the disk says against it becomes an error of ours, without a row of the tables.

    Raises:
        StoreFailed: something is wrong with the file.
        Unwritable: it is what shall be written that is wrong.
    """
    try:
        return work()
    except LocalModelsError:
        raise
    except StateError as error:
        raise StoreFailed(str(error)) from error
    except OSError as error:
        raise StoreFailed(f"the state cannot be written: {error.strerror}") from error
    except OverflowError as error:  # of the driver, which says it of a number beyond 64 bits before SQLite sees it
        raise Unwritable("the state cannot hold a number as large as that") from error
    except UnicodeError as error:
        raise Unwritable("the state cannot hold what is no text") from error
    except sqlite3.Error as error:
        raise refused(error) from error
    except Exception as error:
        # SQLAlchemy's errors, whose class is not imported here, repeat the statement and its parameters; the driver's
        # own words do not.
        if not isinstance(reason := getattr(error, "orig", None), sqlite3.Error):
            raise
        raise refused(reason) from None


def refused(reason: sqlite3.Error) -> LocalModelsError:
    """What SQLite says, as an error of ours."""
    if getattr(reason, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        return DiskFull("the disk is full: the state cannot be written; make room and ask again")
    if isinstance(reason, (sqlite3.DataError, sqlite3.IntegrityError)):
        return Unwritable(f"the state cannot hold this: {reason}")
    return StoreFailed(f"the state cannot be used: {reason}")
