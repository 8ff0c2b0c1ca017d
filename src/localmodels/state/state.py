"""The state of one home, for a program that waits for nobody: one thread looks, another one writes.

Looking at keys is SQLite's alone (``glance``). What writes goes through SQLAlchemy, which is imported by the first who
writes, on that thread: a start does not wait for it, and a server that nobody asks never has it in memory.
"""

from __future__ import annotations

import asyncio
import importlib
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

from localmodels.core.access import Key, Use
from localmodels.core.errors import DiskFull, LocalModelsError, StoreFailed
from localmodels.core.responses import StoredResponse
from localmodels.core.tasks import HISTORY, Event, Task, TaskState
from localmodels.state.files import RESPONSES, STATE, StateError, begin
from localmodels.state.glance import Glance

if TYPE_CHECKING:
    from localmodels.state.books import Books

T = TypeVar("T")


class State:
    """``async with State(home) as state``: ``state.keys``, ``.usage``, ``.tasks`` and ``.responses``.

    Args:
        home: directory of the files.
        quota: bytes that all stored responses together may take.
    """

    def __init__(self, home: Path, *, quota: int = 0) -> None:
        self._home = home
        self._quota = quota
        # Two, so that a key that was taken away is noticed also while somebody writes much, or imports.
        self._looking = ThreadPoolExecutor(1, "state-look")
        self._writing = ThreadPoolExecutor(1, "state-write")
        self._glance = Glance(home)
        self._books: Books | None = None
        self.keys = KeptKeys(self)
        self.usage = KeptUsage(self)
        self.tasks = KeptTasks(self)
        self.responses = KeptResponses(self)

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

    async def write(self, work: Callable[[Books], T]) -> T:
        """Does something with the tables.

        Raises:
            StoreFailed: the file cannot be used; the log has the details.
        """
        return await run(self._writing, lambda: work(self._opened()))

    def kept(self, name: str) -> bool:
        """Is there a file of this name?"""
        return (self._home / name).exists()

    def _begin(self) -> None:
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        begin(self._home, STATE)

    def _opened(self) -> Books:
        if self._books is None:
            books: type[Books] = importlib.import_module("localmodels.state.books").Books
            self._books = books(self._home, self._quota)
        return self._books

    def _close(self) -> None:
        if self._books is not None:
            self._books.close()


async def run(thread: Executor, work: Callable[[], T]) -> T:
    """Does it on this thread. Raises as :func:`guarded`."""
    return await asyncio.get_running_loop().run_in_executor(thread, guarded, work)


def guarded(work: Callable[[], T]) -> T:
    """Does it; what the database or the disk says against it becomes an error of ours, without a row of the tables.

    Raises:
        StoreFailed: something is wrong with the file.
    """
    try:
        return work()
    except LocalModelsError:
        raise
    except StateError as error:
        raise StoreFailed(str(error)) from error
    except OSError as error:
        raise StoreFailed(f"the state cannot be written: {error.strerror}") from error
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
    return StoreFailed(f"the state cannot be used: {reason}")


class KeptKeys:
    """The keys of a home; see :class:`localmodels.flows.access.KeyStore`."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def known(self) -> tuple[int, tuple[Key, ...]]:
        """The generation, and all keys of it: also those that open nothing any more."""
        return await self._state.look(lambda glance: glance.keys())

    async def add(self, key: Key) -> None:
        """Keeps a new one."""
        await self._state.write(lambda books: books.keys.add(key))

    async def revoke(self, key_id: str, now: int) -> bool:
        """Makes one open nothing from now on; is there such a key?"""
        return await self._state.write(lambda books: books.keys.revoke(key_id, now))

    async def generation(self) -> int:
        """Raised by every change."""
        return await self._state.look(lambda glance: glance.generation())


class KeptUsage:
    """What was used; see :class:`localmodels.flows.ledger.UsageStore`."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def add(self, uses: Sequence[Use]) -> None:
        """Adds these, all or none."""
        await self._state.write(lambda books: books.usage.add(uses))

    async def of(self, *, since: int, key: str | None = None) -> tuple[Use, ...]:
        """What was used since this hour, latest first."""
        return await self._state.look(lambda glance: glance.uses(since, key))

    async def spent(self, since: Mapping[str, int]) -> Mapping[str, int]:
        """Tokens that these keys used since these hours."""
        return await self._state.look(lambda glance: glance.spent(since))


class KeptTasks:
    """The tasks of a home; see :class:`localmodels.core.tasks.TaskStore`."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def put(self, task: Task, events: Sequence[Event] = ()) -> None:
        """Keeps it as it is now, and adds these events."""
        await self._state.write(lambda books: books.tasks.put(task, events))

    async def get(self, id: str) -> Task | None:  # noqa: A002
        """The task."""
        return await self._state.look(lambda glance: glance.task(id))

    async def all(
        self, *, owner: str | None = None, state: TaskState | None = None, most: int = HISTORY
    ) -> tuple[Task, ...]:
        """The newest first."""
        return await self._state.look(lambda glance: glance.tasks(owner, state, most))

    async def line(self, origin: str) -> tuple[Task, ...]:
        """All tasks of this origin, the newest first."""
        return await self._state.look(lambda glance: glance.line(origin))

    async def events(self, id: str, after: int = -1) -> tuple[Event, ...]:  # noqa: A002
        """Its events after this number, in order."""
        return await self._state.look(lambda glance: glance.events(id, after))

    async def unfinished(self) -> tuple[Task, ...]:
        """All that have not ended, the oldest first."""
        return await self._state.look(lambda glance: glance.unfinished())

    async def remove(self, id: str) -> bool:  # noqa: A002
        """Forgets one; was it there?"""
        return await self._state.write(lambda books: books.tasks.remove(id))

    async def sweep(self, *, most: int = HISTORY) -> tuple[str, ...]:
        """Forgets the oldest ended ones above so many; the origins of those that were forgotten."""
        return await self._state.write(lambda books: books.tasks.sweep(most))


class KeptResponses:
    """Stored responses; see :class:`localmodels.core.responses.ResponseStore`."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def put(self, response: StoredResponse) -> None:
        """Keeps it."""
        await self._state.write(lambda books: books.responses().put(response))

    async def get(self, id: str, owner: str) -> StoredResponse | None:  # noqa: A002
        """The owner's response of this id."""
        return await self._state.write(lambda books: books.responses().get(id, owner))

    async def delete(self, id: str, owner: str) -> bool:  # noqa: A002
        """Takes it away; was it there?"""
        return await self._state.write(lambda books: books.responses().delete(id, owner))

    async def chain(self, id: str, owner: str, most: int) -> tuple[StoredResponse, ...]:  # noqa: A002
        """It and those that it goes on from, oldest first."""
        return await self._state.write(lambda books: books.responses().chain(id, owner, most))

    async def unfinished(self) -> tuple[StoredResponse, ...]:
        """All that are queued or in progress."""
        if not self._state.kept(RESPONSES):  # a start asks, and should not have to import
            return ()
        return await self._state.write(lambda books: books.responses().unfinished())

    async def sweep(self) -> int:
        """Takes away what has expired, and the oldest of what is too much."""
        if not self._state.kept(RESPONSES):
            return 0
        return await self._state.write(lambda books: books.responses().sweep())
