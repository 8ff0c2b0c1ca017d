"""A client's connection: asks once or again and again, as slowly as it likes, and leaves where it likes.

It shares nothing with the server but the socket; HTTP is read by httptools.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Any, cast

import httptools
from msgspec import Struct
from tests.hostile.attacker import Heard

PATIENCE = 40.0  # seconds of silence that nobody should need, on a machine that does much else
WHOLE = -1
SLOW_PAUSE = 0.05
SLOW_BUFFER = 4096


class Request(Struct, frozen=True):
    """What goes over the wire: ``length`` is told in place of the body's own, where it is not 0."""

    method: str
    path: str
    body: bytes = b""
    key: str = ""
    length: int = 0

    @property
    def sent(self) -> bytes:
        """All of it."""
        lines = [f"{self.method} {self.path} HTTP/1.1", "Host: localhost"]
        if self.key:
            lines.append(f"Authorization: Bearer {self.key}")
        if self.body or self.length:
            lines += ["Content-Type: application/json", f"Content-Length: {self.length or len(self.body)}"]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + self.body


def asking(path: str, fields: Mapping[str, Any], key: str = "", method: str = "POST") -> Request:
    """A request with a body of JSON."""
    return Request(method, path, json.dumps(fields).encode(), key)


class Connection(asyncio.Protocol):
    """One; ``body`` and ``status`` are of the answer that comes."""

    def __init__(self, *, slow: bool = False) -> None:
        self.body = bytearray()
        self.status = 0
        self._slow = slow
        self._headers: list[tuple[str, str]] = []
        self._whole = False
        self._closed = False
        self._news = asyncio.Event()
        self._last = monotonic()

    def send(self, data: bytes) -> None:
        """Without waiting for anything."""
        self._transport.write(data)

    async def ask(self, request: Request) -> Heard:
        """Asks, and waits for the end of the answer."""
        self.send(request.sent)
        return await self.answer()

    async def answer(self, upto: int = WHOLE) -> Heard:
        """The answer, when it has ended, or when so many bytes of its body have come."""
        silence = 0.0
        while not (self._whole or self._closed or 0 <= upto <= len(self.body)):
            self._news.clear()
            before = self._last = monotonic()
            try:
                await asyncio.wait_for(self._news.wait(), PATIENCE)
            except TimeoutError:
                silence = PATIENCE
                break
            silence = max(silence, self._last - before)
        heard = Heard(self.status, tuple(self._headers), bytes(self.body), silence, self._whole)
        self.body, self.status, self._headers, self._whole = bytearray(), 0, [], False
        self._parser = httptools.HttpResponseParser(self)
        return heard

    def leave(self, *, reset: bool) -> None:
        """Hangs up, politely or not."""
        if reset:
            self._transport.abort()
        else:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # what TCP always gives
        self._parser = httptools.HttpResponseParser(self)

    def data_received(self, data: bytes) -> None:
        self._last = monotonic()
        with suppress(httptools.HttpParserError):
            self._parser.feed_data(data)
        self._news.set()
        if self._slow:
            self._transport.pause_reading()
            asyncio.get_running_loop().call_later(SLOW_PAUSE, self._go_on)

    def _go_on(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        self._news.set()

    # What httptools calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self._whole = self.status >= 200


@asynccontextmanager
async def connected(port: int, *, slow: bool = False) -> AsyncIterator[Connection]:
    """A connection, for as long as the block lasts."""
    loop = asyncio.get_running_loop()
    connection = socket.socket()
    connection.setblocking(False)
    if slow:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLOW_BUFFER)
    await loop.sock_connect(connection, ("127.0.0.1", port))
    transport, one = await loop.create_connection(lambda: Connection(slow=slow), sock=connection)
    try:
        yield one
    finally:
        transport.close()
