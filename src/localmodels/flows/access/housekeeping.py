"""What is done again and again beside the requests: look for changed keys, write what was used.

Another program may take a key away (``localmodels keys rm``, another server of the same home); half a second later it
opens nothing here either. What cannot be read or written is told once and tried again, whatever was wrong; until then
the keys that were known go on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Self

from localmodels.core.errors import LocalModelsError
from localmodels.flows.access.keys import Issuer
from localmodels.flows.access.ledger import Ledger
from localmodels.flows.metric import Reading

log = logging.getLogger(__name__)

LOOK_EVERY = 0.5  # seconds; a revocation counts within one
LOOKS_A_WRITE = 4
WORK = ("read", "written")


class Rounds:
    """``async with Rounds(keys, ledger)``; on leaving, everything is written.

    Args:
        keys: of this server.
        ledger: of this server.
        sleep: as ``asyncio.sleep``.
    """

    def __init__(
        self, keys: Issuer, ledger: Ledger, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._keys = keys
        self._ledger = ledger
        self._sleep = sleep
        self._task: asyncio.Task[None] | None = None
        self._failing: set[str] = set()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._go())
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._surely("written", self._ledger.flush)

    async def _go(self) -> None:
        looks = 0
        while True:
            await self._sleep(LOOK_EVERY)
            looks += 1
            await self._surely("read", self._look)
            if looks % LOOKS_A_WRITE == 0:
                await self._surely("written", self._write)

    async def _look(self) -> None:
        if await self._keys.refresh():
            await self._ledger.recount()

    async def _write(self) -> None:
        await self._ledger.flush()
        await self._ledger.recount()

    def readings(self) -> Iterator[Reading]:
        """How it goes, for the metrics."""
        for what in WORK:
            failing = float(what in self._failing)
            yield Reading("localmodels_bookkeeping_failing", _FAILING, failing, (("work", what),))
        yield Reading("localmodels_usage_lost", _LOST, self._ledger.lost, counts=True)

    async def _surely(self, what: str, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except LocalModelsError as error:
            self._failed(what, str(error))
        except Exception as error:  # noqa: BLE001 - a supervisor: without rounds a revoked key opens for ever
            self._failed(what, type(error).__name__)  # a database's own words may repeat a row
        else:
            self._failing.discard(what)

    def _failed(self, what: str, why: str) -> None:
        if what not in self._failing:
            log.error("keys and usage cannot be %s, and it is tried again: %s", what, why)
        self._failing.add(what)


_FAILING = "1 while keys and usage cannot be read, or written; revoked keys may open meanwhile."
_LOST = "Rows of usage that no database could keep, and which are lost."
