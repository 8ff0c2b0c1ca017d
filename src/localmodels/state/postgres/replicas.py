"""Several gateways on one database: what one changes all hear of, and one of them reconciles.

One connection is kept for it. PostgreSQL tells on it what was changed, as soon as that is durable; its being there
holds the lock of who reconciles, so that the lock is free as soon as its holder is gone. When it is lost it is made
anew, and everybody looks again, since something may have been missed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager, suppress
from time import time_ns
from types import TracebackType
from typing import Any, Self

from msgspec.structs import replace

from localmodels.core.errors import LocalModelsError
from localmodels.core.fleet import Loads
from localmodels.core.secrets import Secret
from localmodels.state.generations import CHANNEL, FLEET, LOCKS, RECONCILING
from localmodels.state.postgres.database import AGAIN, LEAVE, USUAL, Database, connect
from localmodels.state.postgres.gateways import Gateways
from localmodels.state.postgres.refusals import LOST, refusals

log = logging.getLogger(__name__)

# Seconds between two looks whether the connection is still one; what is between may have forgotten it silently.
LOOK_EVERY = 5.0
NANO = 1e9
_GENERATION = "SELECT value FROM meta WHERE name = $1"
_TAKE = "SELECT pg_try_advisory_lock($1, $2)"
_GIVE = "SELECT pg_advisory_unlock($1, $2)"
Sleep = Callable[[float], Awaitable[None]]


class Together:
    """``async with``; see :class:`localmodels.core.fleet.Replicas`.

    Args:
        url: of the database.
        database: the same one, open.
        gateway: id of this one.
        clock: nanoseconds since 1970, UTC; of this machine.
        sleep: as ``asyncio.sleep``.
    """

    def __init__(
        self,
        url: Secret,
        database: Database,
        gateway: str,
        *,
        clock: Callable[[], int] = time_ns,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._url = url
        self._database = database
        self._gateway = gateway
        self._clock = clock
        self._sleep = sleep
        self._listening: asyncio.Task[None] | None = None
        self._connection: Any = None
        self._speaking = asyncio.Lock()  # a connection answers one at a time
        self._turn = False
        self._waiting: set[asyncio.Event] = set()
        self._seen = 0

    async def __aenter__(self) -> Self:
        self._listening = asyncio.create_task(self._listen())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait([self._listening])
        try:
            async with asyncio.timeout(LEAVE):
                await self._database.write(lambda connection: Gateways(connection).leave(self._gateway))
        except (LocalModelsError, TimeoutError) as failure:
            log.info("what this gateway had under way stays in the database for a while: %s", failure)

    async def changes(self) -> AsyncIterator[None]:
        """One item at once, and one after changes of the fleet; also when some may have been missed."""
        event = asyncio.Event()
        event.set()  # what was changed before anybody listened
        self._waiting.add(event)
        try:
            while True:
                await event.wait()
                event.clear()
                yield
        finally:
            self._waiting.discard(event)

    @asynccontextmanager
    async def reconciling(self) -> AsyncIterator[bool]:
        """Is it this gateway's turn? Never while the database cannot be reached."""
        connection = await self._taken()
        try:
            yield connection is not None
        finally:
            if connection is not None:
                await self._given_back(connection)

    async def publish(self, loads: Loads) -> None:
        """Tells the others what is under way here. Its ``at`` is not: the database knows when it was told.

        Raises:
            StoreFailed: it cannot be told.
        """
        await self._database.write(lambda connection: Gateways(connection).publish(self._gateway, loads))

    async def loads(self, since: int) -> Collection[Loads]:
        """What the others have said since that moment; ``at`` is when they did, by the clock of this machine.

        Raises:
            StoreFailed: it cannot be asked.
        """
        within = (self._clock() - since) / NANO
        said = await self._database.look(lambda connection: Gateways(connection).others(self._gateway, within))
        now = self._clock()
        return tuple(replace(loads, at=now - round(age * NANO)) for age, loads in said)

    async def _listen(self) -> None:
        """Keeps the connection: makes it, looks after it, makes it anew."""
        failing = False
        while True:
            try:
                with refusals():
                    async with self._connected() as connection:
                        failing = False
                        await self._look_after(connection)
            except LocalModelsError as error:
                if not failing:
                    log.warning("changes by other gateways are not heard of, and it is tried again: %s", error)
                failing = True
            await self._sleep(AGAIN)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Any]:
        connection = await connect(self._url)
        try:
            await connection.add_listener(CHANNEL, self._heard)
            self._seen = await connection.fetchval(_GENERATION, FLEET) or 0
            self._connection = connection
            self._tell()
            yield connection
        finally:
            self._connection = None
            connection.terminate()

    async def _look_after(self, connection: Any) -> None:
        """Returns when the connection has ended."""
        ended = asyncio.Event()
        connection.add_termination_listener(lambda _: ended.set())
        while not connection.is_closed():
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY):
                    await ended.wait()
                return
            async with self._speaking:
                now = await connection.fetchval(_GENERATION, FLEET)
            self._saw(now or 0)  # what a proxy on the way did not let through

    def _heard(self, connection: object, process: int, channel: str, told: str) -> None:
        name, _, value = told.partition(" ")
        if name == FLEET:
            self._saw(int(value))

    def _saw(self, generation: int) -> None:
        if generation > self._seen:
            self._seen = generation
            self._tell()

    def _tell(self) -> None:
        for event in self._waiting:
            event.set()

    async def _taken(self) -> Any:
        """The connection that holds the lock; None where another gateway, or somebody here, has it."""
        connection = self._connection
        if connection is None or self._turn:
            return None
        self._turn = True
        try:
            async with self._speaking:
                is_ours = await connection.fetchval(_TAKE, LOCKS, RECONCILING)
        except LOST:
            is_ours = False  # and if it was, it was lost with the connection
            connection.terminate()
        except BaseException:
            self._turn = False
            connection.terminate()  # nobody knows whether it was ours, and so it is freed
            raise
        self._turn = is_ours
        return connection if is_ours else None

    async def _given_back(self, connection: Any) -> None:
        try:
            async with asyncio.timeout(USUAL.statement), self._speaking:
                await connection.fetchval(_GIVE, LOCKS, RECONCILING)
        except LOST:
            connection.terminate()
        except BaseException:  # also when it is cut off: what is closed frees the lock
            connection.terminate()
            raise
        finally:
            self._turn = False
