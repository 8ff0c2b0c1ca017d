"""The edge as a whole: accepts on sockets, looks after the clock, and ends in order."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from time import monotonic
from types import TracebackType
from typing import Self

from starlette.types import ASGIApp

from localmodels.server.edge.bounds import Bounds
from localmodels.server.edge.connection import Connection, Refuse
from localmodels.server.edge.connections import Connections

log = logging.getLogger(__name__)

BACKLOG = 2048  # connections that the kernel keeps until we accept them
# Seconds between two looks at the clock. Who is sent away often comes back at once: whoever is looked for once a second
# comes back in the same moment of each.
SWEEP = 0.1
PAUSE = 0.001  # seconds for everybody else between two steps of one
FAREWELL = 5.0  # seconds that work which was cancelled has to clean up


class EdgeServer:
    """Serves an application on sockets that listen, as long as it is entered.

    Args:
        application: ASGI 3.
        sockets: they are closed when it drains.
        refuse: writes what the edge itself refuses.
        bounds: what clients may take of us.
        clock: seconds, of no particular beginning.
    """

    def __init__(
        self,
        application: ASGIApp,
        sockets: Iterable[socket.socket],
        refuse: Refuse,
        bounds: Bounds | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._application = application
        self._sockets = tuple(sockets)
        self._refuse = refuse
        self._connections = Connections(bounds or Bounds(), clock)
        self._servers: list[asyncio.Server] = []
        self._next: asyncio.TimerHandle | None = None
        self._late: Iterator[None] | None = None  # the steps of a look that is not over

    async def __aenter__(self) -> Self:
        """Begins to accept."""
        loop = asyncio.get_running_loop()
        for listener in self._sockets:
            self._servers.append(await loop.create_server(self._connection, sock=listener, backlog=BACKLOG))
        self._sweep()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends at once what has not ended."""
        self.drain()
        await self.ended(0)
        if self._next is not None:
            self._next.cancel()

    @property
    def busy(self) -> int:
        """How many requests are being answered."""
        return len(self._connections.tasks)

    @property
    def open(self) -> int:
        """How many connections there are."""
        return len(self._connections)

    @property
    def refusals(self) -> Counter[str]:
        """How often the edge itself refused, by the error's code."""
        return self._connections.refusals

    def drain(self) -> None:
        """Accepts nobody any more. Answers that are under way go on, each the last one of its connection."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        self._connections.drain()

    async def ended(self, grace: float) -> None:
        """Waits until all answers have ended, after :meth:`drain`; cuts those that take more than ``grace`` seconds."""
        try:
            async with asyncio.timeout(grace):
                await self._connections.quiet()
        except TimeoutError:
            self.abort()
        # What was cut has runners to release and files to close.
        try:
            async with asyncio.timeout(FAREWELL):
                await self._connections.quiet()
        except TimeoutError:
            log.warning("%d requests did not end %g s after they were cancelled", self.busy, FAREWELL)

    def abort(self) -> None:
        """Cuts every answer, and cancels the work for it; who has nothing of his yet is told."""
        self._connections.cut()

    def _connection(self) -> Connection:
        return Connection(self._application, self._connections, self._refuse)

    def _sweep(self) -> None:
        self._next = asyncio.get_running_loop().call_later(SWEEP, self._sweep)  # first, whatever comes of this one
        if self._late is None:
            self._step(self._connections.sweep())

    def _step(self, late: Iterator[None]) -> None:
        self._late = None
        for _ in late:
            self._late = late
            asyncio.get_running_loop().call_later(PAUSE, self._step, late)
            return
