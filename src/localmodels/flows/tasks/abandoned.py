"""Tasks of gateways that never came back: ended in a way that whoever looks knows what became of them.

The rule: a gateway that says nothing is given a generous time, by who has the turn to reconcile, and what was heard of
it meanwhile counts: its database may have been away, or its machine asleep. What a task has left for a retry stays in
its gateway's home.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import monotonic
from types import TracebackType
from typing import Self

from localmodels.core.errors import LocalModelsError
from localmodels.core.fleet import Replicas
from localmodels.core.tasks import Task, TaskStore

log = logging.getLogger(__name__)

# Seconds between two looks, and those for which nothing must have been heard of a gateway in all of them.
LOOK_EVERY = 60.0
GENEROUS = 900.0


class Abandoned:
    """``async with``; looks again and again.

    Args:
        store: has the tasks.
        replicas: the gateways.
        end: ends a task.
        clock: seconds that only ever grow.
        sleep: as ``asyncio.sleep``.
    """

    def __init__(
        self,
        store: TaskStore,
        replicas: Replicas,
        end: Callable[[Task], Awaitable[None]],
        *,
        clock: Callable[[], float] = monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._replicas = replicas
        self._end = end
        self._clock = clock
        self._sleep = sleep
        self._since: dict[str, float] = {}
        self._looking: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._looking = asyncio.create_task(self._go_on())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])

    async def look(self) -> None:
        """Looks once.

        Raises:
            LocalModelsError: the tasks cannot be read or written.
        """
        now = self._clock()
        silent = await self._store.silent()
        self._since = {gateway: self._since.get(gateway, now) for gateway in silent}
        given_up = [gateway for gateway, since in self._since.items() if now - since >= GENEROUS]
        if not given_up:
            return
        async with self._replicas.reconciling() as ours:
            for gateway in given_up if ours else ():
                log.warning(
                    "the gateway %s has not been heard of for %.0f minutes: its %d unfinished tasks are ended",
                    gateway, GENEROUS / 60, len(silent[gateway]),
                )  # fmt: skip
                for task in silent[gateway]:
                    await self._end(task)

    async def _go_on(self) -> None:
        while True:
            await self._sleep(LOOK_EVERY)
            try:
                await self.look()
            except LocalModelsError as error:
                self._since = {}  # nobody can say that nothing was heard
                log.info("the tasks of other gateways cannot be looked through: %s", error)
