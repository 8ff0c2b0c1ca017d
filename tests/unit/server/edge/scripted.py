"""A connection without sockets: the client's bytes and its behaviour are a script, and so is the clock."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from localmodels.core.errors import LocalModelsError
from localmodels.server.edge.answer import whole_answer
from localmodels.server.edge.bounds import Bounds
from localmodels.server.edge.connection import Connection
from localmodels.server.edge.connections import Connections

BOUNDS = Bounds()
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Transport(asyncio.Transport):
    """The server's end of a connection, which notes what is done to it."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        super().__init__({"sockname": ("127.0.0.1", 8000), "peername": (host, 9)})
        self.written = b""
        self.writes = 0
        self.high = 0
        self.pauses = self.resumes = 0
        self.ended = self.closed = self.aborted = False

    def write(self, data: Any) -> None:
        assert not self.ended
        assert not self.closed
        self.written += data
        self.writes += 1

    def write_eof(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.pauses += 1

    def resume_reading(self) -> None:
        self.resumes += 1

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high = high or 0


class World:
    """A server with a clock that stands still until it is moved."""

    def __init__(self, application: ASGIApp, bounds: Bounds = BOUNDS) -> None:
        self.now = 1000.0
        self.application = application
        self.among = Connections(bounds, lambda: self.now)

    def client(self, host: str = "127.0.0.1") -> Client:
        return Client(self, host)

    def later(self, seconds: float) -> None:
        """Time passes, as the server sees it: a second at a time."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 1)
            for _ in self.among.sweep():
                pass


class Client:
    """One client."""

    def __init__(self, world: World, host: str) -> None:
        self.transport = Transport(host)
        self.connection = Connection(world.application, world.among, refuse)
        self.connection.connection_made(self.transport)

    async def send(self, *pieces: bytes) -> None:
        """Sends, and lets the server do what it can."""
        for piece in pieces:
            if self.transport.closed:
                return
            self.connection.data_received(piece)
            await settle()

    def go(self, error: Exception | None = None) -> None:
        """Its connection is gone."""
        self.connection.connection_lost(error)

    def over(self) -> bool:
        """Has the server ended the connection, or its side of it?"""
        return self.state() != "open"

    def state(self) -> str:
        """What the server has made of the connection: open, ended (it sends no more), closed or aborted."""
        line = self.transport
        return next((word for word in ("aborted", "closed", "ended") if getattr(line, word)), "open")

    @property
    def heard(self) -> bytes:
        return self.transport.written


async def settle() -> None:
    """Lets all tasks run until they wait for somebody else."""
    for _ in range(10):
        await asyncio.sleep(0)


def refuse(path: str, error: LocalModelsError, scope: Scope | None) -> bytes:
    told = "" if scope is None else f" (of {scope['method']})"
    return whole_answer(error.status, f"{path}: {error.message}{told}".encode(), ())


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads its request, and answers."""
    while (message := await receive()).get("more_body"):
        pass
    if message["type"] != "http.disconnect":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"hello"})


class Endless:
    """Answers without an end, and knows what became of it."""

    def __init__(self, *, reads: bool = True, begins: bool = True) -> None:
        self.reads = reads
        self.begins = begins
        self.begun = 0
        self.cancelled = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.begun += 1
        try:
            while self.reads and (await receive()).get("more_body"):
                pass
            if self.begins:
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b"word ", "more_body": True})
            await asyncio.Future()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
