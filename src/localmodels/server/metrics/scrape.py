"""``/metrics``: the endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Protocol, cast

from starlette.types import Receive, Scope, Send

from localmodels.flows.metric import Reading
from localmodels.server.late import loaded
from localmodels.server.metrics.meter import Meter
from localmodels.server.wire import header, respond

Reads = Callable[[], Iterable[Reading]]


class _Writes(Protocol):
    def exposition(self, meter: Meter, readings: Iterable[Reading], accept: str) -> tuple[bytes, str]: ...


class Scrape:
    """An ASGI endpoint.

    Args:
        meter: what happened so far.
        reads: each tells how a part of the system stands.
        servers: the names of those who may answer now; None keeps the figures of all who ever did.
    """

    def __init__(
        self, meter: Meter, reads: Sequence[Reads], servers: Callable[[], Collection[str]] | None = None
    ) -> None:
        self._meter = meter
        self._reads = tuple(reads)
        self._servers = servers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        readings = [reading for read in self._reads for reading in read()]
        if self._servers is not None:
            self._meter.keep(self._servers())
        # The library that writes the page costs 40 ms and 5 MiB, which a server that nobody scrapes need not pay.
        writer = cast("_Writes", await asyncio.to_thread(loaded, WRITER))
        # In a thread, and of a copy: ten thousand lines take 80 ms, for which every stream would pause.
        still, accept = self._meter.copy(), header(scope, b"accept")
        page, content_type = await asyncio.to_thread(writer.exposition, still, readings, accept)
        await respond(send, 200, page, content_type)


WRITER = "localmodels.server.metrics.exposition"
