"""A server on a loopback port, as tests of the edge meet it: an address, and what happens behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import uvloop
from msgspec import Struct
from starlette.types import ASGIApp, Receive, Scope, Send
from tests.hostile.framing import echo

from localmodels.core.address import Address
from localmodels.server import listeners
from localmodels.server.edge.bounds import Bounds
from localmodels.server.edge.server import EdgeServer
from localmodels.server.http import refuse

Loop = Callable[[], asyncio.AbstractEventLoop]

# uvloop is what the server runs on; the other is what it runs on where there is no uvloop.
LOOPS: dict[str, Loop] = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
DEADLINE = 60.0  # seconds; only a test that hangs ever sees it
WORD = b"word " * 1000


def run(loop: str, work: Coroutine[Any, Any, None]) -> None:
    """Runs a test to its end on this kind of event loop; a hang is a failure and not a long wait."""

    async def bounded() -> None:
        async with asyncio.timeout(DEADLINE):
            await work

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(bounded())


class Streams:
    """An application: what :func:`echo` says, and ``/stream``, which goes on for ever, ``/silent``, which says nothing.

    Attributes:
        open: how many of those that do not end are under way.
        ended: how many were cancelled.
        news: is set at each change.
    """

    def __init__(self) -> None:
        self.open = self.ended = 0
        self.news = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] not in {"/stream", "/silent"}:
            await echo(scope, receive, send)
            return
        self.open += 1
        self.news.set()
        try:
            if scope["path"] == "/silent":
                await asyncio.Future()
            await send({"type": "http.response.start", "status": 200})
            while True:
                await send({"type": "http.response.body", "body": WORD, "more_body": True})
                await asyncio.sleep(0)
        finally:
            self.open -= 1
            self.ended += 1
            self.news.set()

    async def until(self, true: Callable[[], bool]) -> None:
        """Waits for it to become true."""
        while not true():
            self.news.clear()
            await self.news.wait()


class Served(Struct):
    """An address, and the server behind it."""

    port: int
    server: EdgeServer


@asynccontextmanager
async def serving(application: ASGIApp, bounds: Bounds | None = None) -> AsyncIterator[Served]:
    """The application, served by the edge."""
    sockets = listeners.bind([Address("127.0.0.1", 0)], asked=True)
    async with EdgeServer(application, sockets, refuse, bounds) as server:
        yield Served(sockets[0].getsockname()[1], server)
