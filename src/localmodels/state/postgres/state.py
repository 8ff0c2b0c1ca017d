"""The state of several gateways, in one database; the same to the rest of the program as files of a home."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from time import time_ns
from types import TracebackType
from typing import Self, TypeVar

from localmodels.core.fleet import Replicas
from localmodels.core.secrets import Secret
from localmodels.state.books import Books
from localmodels.state.files import STATE
from localmodels.state.kept import Kept, Looks
from localmodels.state.postgres.database import Database
from localmodels.state.postgres.replicas import Together
from localmodels.state.selects import Selects

T = TypeVar("T")


class PostgresState(Kept):
    """``async with PostgresState(url) as state``; see :class:`~localmodels.state.kept.Kept`.

    Args:
        url: of the database, as PostgreSQL's own programs take it.
        gateway: id of this one, the same after a restart; tasks and responses that it left unfinished are its own.
        quota: bytes that all stored responses together may take.
        listens: does it hear of what other gateways change, and reconcile? A program that only changes something
            need not.
    """

    def __init__(self, url: Secret, *, gateway: str = "", quota: int = 0, listens: bool = True) -> None:
        super().__init__(quota=quota)
        self._gateway = gateway
        self._listens = listens
        self._database = Database(url)
        self._together = Together(url, self._database, gateway)
        self._stack = AsyncExitStack()

    @property
    def replicas(self) -> Replicas:
        """The gateways that share the database."""
        return self._together

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._database)
            if self._listens:
                await stack.enter_async_context(self._together)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def look(self, look: Callable[[Looks], T]) -> T:
        """Asks, all of one moment. Raises as :meth:`write`."""
        return await self._database.look(lambda connection: look(Selects(connection, self._gateway)))

    async def write(self, work: Callable[[Books], T], name: str = STATE) -> T:
        """Does something with the tables, in one transaction.

        Raises:
            StoreFailed: they cannot be used.
        """
        return await self._database.write(lambda connection: work(Books(connection, self._gateway, time_ns())))

    def has(self, name: str) -> bool:
        """All tables stand beside each other."""
        return True
