"""A gateway that shares its tables with no other one. Other programs of its home may change them all the same.

The rules: who is alone reconciles, and hears of nobody's load; and as long as nobody writes, nobody reads.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager

from localmodels.core.errors import LocalModelsError
from localmodels.core.fleet import Loads

log = logging.getLogger(__name__)

# Seconds between two looks at the generation: what another program of the home changed counts here within one.
LOOK_EVERY = 0.5


class Alone:
    """See :class:`localmodels.core.fleet.Replicas`.

    Args:
        generation: of the fleet.
        sleep: as ``asyncio.sleep``.
        trace: another one whenever somebody may have written something; costs next to nothing. None is no trace.
    """

    def __init__(
        self,
        generation: Callable[[], Awaitable[int]],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        trace: Callable[[], object | None] = lambda: None,
    ) -> None:
        self._generation = generation
        self._trace = trace
        self._sleep = sleep
        self._turn = False

    async def changes(self) -> AsyncIterator[None]:
        """One item at once, and one whenever the generation is another one than it was."""
        known = left = None
        while True:
            trace = self._trace()  # before the look: what is written meanwhile leaves another one
            if trace is None or trace != left:
                now = await self._seen()
                left = None if now is None else trace
                if now is not None and now != known:
                    known = now
                    yield
            await self._sleep(LOOK_EVERY)

    @asynccontextmanager
    async def reconciling(self) -> AsyncIterator[bool]:
        """Always, but for who does so already."""
        if self._turn:
            yield False
            return
        self._turn = True
        try:
            yield True
        finally:
            self._turn = False

    async def publish(self, loads: Loads) -> None:
        """Nobody hears it."""

    async def loads(self, since: int) -> Collection[Loads]:
        """Nobody says anything."""
        return ()

    async def _seen(self) -> int | None:
        """The generation; None while it cannot be read, which the store tells whoever needs it."""
        try:
            return await self._generation()
        except LocalModelsError as error:
            log.debug("the generation of the fleet cannot be read: %s", error)
            return None
