"""The way to our own runners: HTTP over a unix socket, a connection for each request, and nothing that is not needed.

Every token passes here, and every request waits for it: a general client takes a quarter of all the time that the
gateway adds to a first token (``docs/why.md``). It is as small as this because the other side is known: it is a process
of ours on this machine that answers in HTTP/1.1, needs no pool, no TLS, no redirects and no clock; its death breaks the
connection. What it sends is parsed by httptools (the parser of Node.js), not by us.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import cast

import httptools

from localmodels.core.errors import Garbled, InvalidRequest, LocalModelsError, StreamCut, Unreachable

# Bytes of a body that nobody has read yet; more are left to the socket, and so to the sender.
MOST_WAITING = 2**18
MOST_HEAD = 2**16
HEAD = "{} {} HTTP/1.1\r\nHost: runner\r\nConnection: close\r\n"
BODY = "Content-Type: application/json\r\nContent-Length: {}\r\n"


class UnixSocket:
    """Connections to one socket.

    Args:
        path: of the socket.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._open: set[Exchange] = set()
        self._closed = False

    async def open(self, method: str, path: str, body: bytes | None) -> Exchange:
        """Sends a request and waits for the head of its answer.

        Raises:
            Unreachable: there is nobody, or he left without an answer.
            Garbled: the answer is not HTTP.
        """
        if self._closed:
            raise Unreachable("the connection to the server was closed")
        request = written(method, path, body)
        loop = asyncio.get_running_loop()
        try:
            _, exchange = await loop.create_unix_connection(lambda: Exchange(self._open), self._path)
        except OSError as error:
            raise Unreachable("the server cannot be reached") from error
        try:
            await exchange.ask(request)
        except BaseException:
            exchange.close()
            raise
        return exchange

    async def close(self) -> None:
        """Closes every connection; open answers raise."""
        self._closed = True
        for exchange in list(self._open):
            exchange.close()


def written(method: str, path: str, body: bytes | None) -> bytes:
    """The bytes of a request.

    Raises:
        InvalidRequest: a path that would not stay one word of its line.
    """
    if not path.isascii() or not path.isprintable() or " " in path:
        raise InvalidRequest(f"not a path: {path[:120]!r}")
    head = HEAD.format(method, path)
    if body is None:
        return f"{head}\r\n".encode()
    return f"{head}{BODY.format(len(body))}\r\n".encode() + body


class Exchange(asyncio.Protocol):
    """One request and its answer, on a connection of its own.

    Args:
        among: holds it while its connection is open.
    """

    def __init__(self, among: set[Exchange]) -> None:
        self.status = 0
        self.content_type = ""
        self.headers: Mapping[str, str] = {}
        self._among = among
        self._head: dict[str, str] = {}
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._head_bytes = 0
        self._whole = False
        self._failure: LocalModelsError | None = None
        self._wake: asyncio.Future[None] | None = None

    # For whoever asks.

    async def ask(self, request: bytes) -> None:
        """Sends the request and waits for the head of the answer."""
        if self._transport is not None:
            self._transport.write(request)
        while not self.status:
            self._raise_failure()
            await self._news()

    @property
    def ended(self) -> bool:
        """Has all of it been read?"""
        return self._whole and not self._waiting

    async def piece(self) -> bytes:
        """What has arrived of the body, empty at its end."""
        while not self._waiting:
            if self._whole:
                return b""
            self._raise_failure()
            await self._news()
        data = self._waiting[0] if len(self._waiting) == 1 else b"".join(self._waiting)
        self._waiting.clear()
        if self._waiting_bytes > MOST_WAITING and self._transport is not None:
            self._transport.resume_reading()
        self._waiting_bytes = 0
        return data

    def close(self) -> None:
        """Closes the connection."""
        if self._transport is not None:
            self._transport.abort()

    async def _news(self) -> None:
        self._wake = asyncio.get_running_loop().create_future()
        try:
            await self._wake
        finally:
            self._wake = None

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    # What the connection tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self._transport = cast("asyncio.Transport", transport)
        self._among.add(self)

    def data_received(self, data: bytes) -> None:
        """Bytes of the answer."""
        if self._whole:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(Garbled(f"the server's answer is not HTTP: {type(error).__name__}"))
            self.close()
        if not self.status:
            self._head_bytes += len(data)
            if self._head_bytes > MOST_HEAD:
                self._fail(Garbled(f"the head of the server's answer is larger than {MOST_HEAD >> 10} KiB"))
                self.close()
        self._awake()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed, from either side."""
        self._among.discard(self)
        self._transport = None
        if not self.status:
            self._fail(Unreachable("the server closed the connection without an answer"))
        elif "content-length" not in self._head and "transfer-encoding" not in self._head:
            self._whole = True  # a body without a length ends with its connection
        elif not self._whole:
            self._fail(StreamCut("the connection broke in the middle of the answer"))
        self._awake()

    def _fail(self, error: LocalModelsError) -> None:
        self._failure = self._failure or error

    def _awake(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    # What the parser tells.

    def on_header(self, name: bytes, value: bytes) -> None:
        """A line of the head."""
        self._head[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """The head is whole."""
        if self._whole:  # a second answer behind the first is none of ours
            return
        self.status = self._parser.get_status_code()
        self.content_type = self._head.get("content-type", "").partition(";")[0].strip().lower()
        self.headers = {name.title(): value for name, value in self._head.items()}

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        if self._whole:
            return
        self._waiting.append(body)
        self._waiting_bytes += len(body)
        if self._waiting_bytes > MOST_WAITING and self._transport is not None:
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        """The body is whole."""
        self._whole = True
