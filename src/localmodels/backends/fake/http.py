"""The few lines of HTTP that the fake server speaks, and everything that it can do wrong with them.

Written here on purpose: a server that must misbehave to the byte cannot stand on a library that exists to prevent it.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Mapping

from msgspec import Struct

from localmodels.backends.fake.script import Wire

# An abortive close: what is not yet sent is dropped and the other side gets a reset.
LINGER_NOT = struct.pack("ii", 1, 0)


class Asked(Struct, frozen=True):
    """One HTTP request; names of headers in lower case."""

    method: str
    path: str
    body: bytes
    headers: Mapping[str, str] = {}


def parse(data: bytes) -> tuple[Asked, int] | None:
    """The first request in these bytes and its length; None as long as it is not whole."""
    head, end, _ = data.partition(b"\r\n\r\n")
    if not end:
        return None
    lines = head.decode("latin-1").split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    size = len(head) + len(end) + int(fields.get("content-length", "0"))
    if len(data) < size:
        return None
    method, path, _ = lines[0].split(" ")
    return Asked(method, path, data[len(head) + len(end) : size], fields), size


class Hangup(Exception):
    """The script says that the connection ends here; ``reset`` says how."""

    def __init__(self, *, reset: bool) -> None:
        super().__init__()
        self.reset = reset


class Body:
    """Writes the body of an answer, up to the byte at which the script has something go wrong.

    Args:
        transport: the connection.
        wire: how.
        head: sent before the first byte, without the line that says how the body ends.
    """

    def __init__(self, transport: asyncio.Transport, wire: Wire, head: bytes) -> None:
        self._transport = transport
        self._wire = wire
        self._head = head
        self._held = b""
        self._sent = 0

    async def write(self, data: bytes) -> None:
        """Sends some more."""
        if self._wire.framing == "length":
            self._held += data
        else:
            await self._put(data)

    async def end(self) -> None:
        """Sends what was held and the end."""
        if self._wire.framing == "length":
            held, self._held = self._held, b""
            self._begin(len(held))
            await self._put(held)
        self._begin()
        if self._wire.at == self._sent:
            await self._go_wrong()
        if self._wire.framing == "chunked":
            self._transport.write(b"0\r\n\r\n")
        if self._wire.framing == "close" or self._wire.length_error:
            raise Hangup(reset=False)

    async def _put(self, data: bytes) -> None:
        self._begin()
        limit = len(data) if self._wire.at is None else max(0, self._wire.at - self._sent)
        await self._pieces(data[:limit])
        self._sent += min(limit, len(data))
        if limit < len(data):
            await self._go_wrong()

    async def _pieces(self, data: bytes) -> None:
        size = self._wire.write_size or len(data) or 1
        for start in range(0, len(data), size):
            self._transport.write(self._framed(data[start : start + size]))
            await asyncio.sleep(0)  # a turn of the loop, so that the pieces are not put together again

    async def _go_wrong(self) -> None:
        if self._wire.then == "stall":
            await asyncio.Event().wait()
        if self._wire.then == "garbage":
            self._transport.write(self._framed(self._wire.garbage))
            if self._wire.framing == "chunked":
                self._transport.write(b"0\r\n\r\n")
        raise Hangup(reset=self._wire.then == "rst")

    def _framed(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if self._wire.framing == "chunked" else data

    def _begin(self, length: int = 0) -> None:
        if not self._head:
            return
        ends = {
            "chunked": b"Transfer-Encoding: chunked\r\n\r\n",
            "close": b"Connection: close\r\n\r\n",
            "length": b"Content-Length: %d\r\n\r\n" % (length + self._wire.length_error),
        }
        self._transport.write(self._head + ends[self._wire.framing])
        self._head = b""


def head(status: int, content_type: str, retry_after: float | None = None, *, fields: str = "") -> bytes:
    """The head of an answer, without the line that tells how its body ends and the empty one after it."""
    again = "" if retry_after is None else f"Retry-After: {retry_after:.0f}\r\n"
    return f"HTTP/1.1 {status} Fake\r\nContent-Type: {content_type}\r\n{again}{fields}".encode()


def whole(status: int, body: bytes, retry_after: float | None = None) -> bytes:
    """A whole answer in one piece."""
    return head(status, "application/json", retry_after) + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


async def misheaded(wire: Wire, transport: asyncio.Transport) -> None:
    """Does what the script says goes wrong with the head; returns when nothing does.

    Raises:
        Hangup: the connection shall end.
    """
    if wire.head == "endless":
        transport.write(head(200, "text/plain") + b"X-Endless: ")
        await asyncio.Event().wait()
    if wire.head == "garbage":
        transport.write(wire.garbage)
    if wire.head in {"garbage", "none"}:
        raise Hangup(reset=False)


def hang_up(transport: asyncio.WriteTransport, *, reset: bool) -> None:
    """Ends a connection: with a FIN behind everything that was written, or with a reset."""
    if reset:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
        transport.abort()
    transport.close()
