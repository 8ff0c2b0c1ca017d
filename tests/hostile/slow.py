"""Clients that hold what others wait for (threat V-31): each gives a little, or takes nothing, as long as it may."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

from msgspec import Struct

PAUSE = 0.1  # seconds between two bytes
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n"
STREAM = b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n"


class Slow(Struct, frozen=True):
    """A kind of slowness.

    Attributes:
        begins: what it sends at once.
        trickles: what it goes on with, byte by byte, for ever.
        reads: does it take what it is sent?
        heard: how the server's last words begin; empty where there are none.
        pause: seconds between two bytes.
    """

    name: str
    begins: bytes
    trickles: bytes
    reads: bool
    heard: bytes
    pause: float = PAUSE


KINDS = (
    Slow("sends nothing", b"", b"", reads=True, heard=b""),
    Slow("sends its head byte by byte", b"GET / HTTP/1.1\r\nX: ", b"a", reads=True, heard=b"HTTP/1.1 408 "),
    Slow("sends its body byte by byte", POST, b"a", reads=True, heard=b"HTTP/1.1 408 "),
    Slow("takes nothing of its answer", STREAM, b"", reads=False, heard=b""),
)


async def visit(port: int, kind: Slow) -> bytes:
    """Visits a server on this machine as slowly as the kind is, until the server ends it; what it has heard."""
    loop = asyncio.get_running_loop()
    with socket.socket() as connection:
        connection.setblocking(False)
        if not kind.reads:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await loop.sock_connect(connection, ("127.0.0.1", port))
        await loop.sock_sendall(connection, kind.begins)
        if not kind.reads:
            await _ended(connection)
            return b""
        trickling = asyncio.create_task(_trickle(connection, kind))
        try:
            return await _read(connection)
        finally:
            trickling.cancel()
            await asyncio.wait({trickling})  # to await it would take our own cancellation for its end


async def _trickle(connection: socket.socket, kind: Slow) -> None:
    with suppress(ConnectionError):
        while kind.trickles:
            await asyncio.sleep(kind.pause)
            await asyncio.get_running_loop().sock_sendall(connection, kind.trickles)


async def _read(connection: socket.socket) -> bytes:
    heard = b""
    with suppress(ConnectionError):
        while data := await asyncio.get_running_loop().sock_recv(connection, 4096):
            heard += data
    return heard


async def _ended(connection: socket.socket) -> None:
    """Waits until the connection was reset, without reading from it, which no event loop offers."""
    while not connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):  # noqa: ASYNC110
        await asyncio.sleep(PAUSE)
