"""The fleet as this gateway knows it, and how it hears of what others have changed.

The rules: what cannot be read leaves the fleet as it was known; what is known is handed whole to those who connect and
to those who choose, in one step that nobody can interrupt, before anybody is told of it; and our own engine is written
down with the first server that is registered, or when its owner says something of it: until then nothing is written by
itself, and what writes is not even loaded.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

from localmodels.core.errors import Conflict, LocalModelsError
from localmodels.core.fleet import FleetStore, Replicas, ServerRow
from localmodels.core.servers import ServerSpec
from localmodels.flows.connections.remotes import Remotes
from localmodels.flows.servers.roster import Roster, roster

log = logging.getLogger(__name__)

Sleep = Callable[[float], Awaitable[object]]

# Seconds between two attempts to read what could not be read.
AGAIN = 1.0
# Seconds after which one looks though nobody has said anything: a word may be lost while a connection is made anew.
LOOK_EVERY = 5.0


class Known:
    """What is known.

    Args:
        store: where the fleet is kept.
        replicas: the other gateways.
        remotes: connections; its fleet knows how the servers are.
        local: this program's own engine, as it is kept at first.
        file: the servers of the configuration's file.
        sleep: as ``asyncio.sleep``.

    Attributes:
        roster: all as they are known now.
        fleet: see above.
        settled: is our own engine written down?
    """

    def __init__(
        self,
        store: FleetStore,
        replicas: Replicas,
        remotes: Remotes,
        local: ServerRow,
        file: Iterable[ServerSpec],
        sleep: Sleep,
    ) -> None:
        self.fleet = remotes.fleet
        self.roster: Roster = roster(local, file, (), {}, ())
        self.settled = False
        self._store = store
        self._replicas = replicas
        self._remotes = remotes
        self._sleep = sleep
        self._generation: int | None = None
        self._specs: tuple[ServerSpec, ...] = ()
        self._turn = asyncio.Lock()

    async def begin(self) -> None:
        """Hands out what is known, and reads the rest.

        Raises:
            StoreFailed: that cannot be read; all that was known is handed out.
        """
        if not self._specs:
            await self._adopt()
        await self.refresh()

    async def settle(self) -> None:
        """Our own engine is written down from now on, and what was found on it can be.

        Raises:
            StoreFailed: it cannot be written.
        """
        if not self.settled:
            with suppress(Conflict):  # another program of this home was faster
                await self._store.add(self.roster.local)
            await self.refresh()

    async def adopt(self, file: Iterable[ServerSpec]) -> None:
        """These are the servers of the file from now on; what was registered stays."""
        async with self._turn:
            known = self.roster
            rows = (known.local, *known.rows.values())
            self.roster = roster(known.local, file, rows, known.keys, known.models.values())
            await self._adopt()

    async def refresh(self) -> None:
        """Reads what has changed, here or on another gateway.

        Raises:
            StoreFailed: it cannot be read; all stays as it was known.
        """
        async with self._turn:
            generation = await self._store.generation()
            if generation == self._generation:
                return
            rows, keys, models = await self._store.servers(), await self._store.keys(), await self._store.models()
            self.roster = roster(self.roster.local, self.roster.file, rows, keys, models)
            self.settled = any(row.id == self.roster.local.id for row in rows)
            await self._adopt()
            self._generation = generation  # last: a change that was not handed out would never be read again

    async def follow(self) -> None:
        """Hears of changes, until it is cancelled."""
        while True:
            with suppress(LocalModelsError):
                async for _ in self._replicas.changes():
                    await self.catch_up()
            await self._sleep(AGAIN)

    async def look_again(self) -> None:
        """Looks now and then whether something has changed, until it is cancelled."""
        while True:
            await self._sleep(LOOK_EVERY)
            await self.catch_up()

    async def catch_up(self) -> None:
        """Reads what has changed, again and again until that is possible."""
        failure = ""
        while True:
            try:
                await (self.begin() if self._generation is None else self.refresh())
            except LocalModelsError as error:
                if error.message != failure:
                    log.warning("the fleet stays as it was known: %s", error)
                failure = error.message
                await self._sleep(AGAIN)
            else:
                return

    async def _adopt(self) -> None:
        known = {spec.id: spec for spec in self._specs}
        # Who stays as he was is the same object, by which others see that they need not look at him anew.
        self._specs = tuple(before if (before := known.get(spec.id)) == spec else spec for spec in self.roster.specs())
        self.fleet.restrict(self.roster.models.values())  # first: nothing may come between the two that waits
        await self._remotes.adopt(self._specs)
