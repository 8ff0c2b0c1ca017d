"""Clients that ask once, on a connection of their own, and keep every byte of the answer.

They share nothing with the server but the socket: HTTP is read by httptools, and times are the client's own.
"""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import cast

import httptools
from benchmarks.gateway.sides import Side


class Asking(asyncio.Protocol):
    """One request and its answer.

    Attributes:
        status: of the answer; 0 before it began.
        headers: of the answer, by their names in small letters.
        body: what came of it, without HTTP's chunks.
        first: seconds from the request to the first byte of the body; 0 before.
        longest: seconds of the longest pause between two pieces of the body.
        took: seconds from the request to the end; 0 before.
        whole: did it end as HTTP says that it should?
        end: done when nothing comes any more, however it ended.
    """

    def __init__(self, side: Side, *, stream: bool, key: str = "") -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.first = self.longest = self.took = 0.0
        self._last = 0.0
        self.whole = False
        self.end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asked = {"model": side.model, "messages": [{"role": "user", "content": "hello"}], "stream": stream}
        body = json.dumps(asked).encode()
        credential = f"authorization: Bearer {key}\r\n" if key else ""
        head = f"POST {side.path} HTTP/1.1\r\nhost: 127.0.0.1:{side.port}\r\ncontent-type: application/json\r\n"
        self._request = f"{head}{credential}content-length: {len(body)}\r\n\r\n".encode() + body
        self._parser = httptools.HttpResponseParser(self)
        self._leave_after = -1

    def leave(self, after: int = 0) -> None:
        """Hangs up as soon as this many bytes of the body have come."""
        self._leave_after = after
        self._left()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # what TCP always gives
        self._start = monotonic()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.end.done():
            self.end.set_result(None)

    # What httptools calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode().lower()] = value.decode()

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        now = monotonic()
        self.first = self.first or now - self._start
        self.longest = max(self.longest, now - (self._last or now))
        self._last = now
        self.body += body
        self._left()

    def on_message_complete(self) -> None:
        self.took = monotonic() - self._start
        self.whole = True
        self._transport.close()

    def _left(self) -> None:
        if 0 <= self._leave_after <= len(self.body):
            self._transport.abort()


@contextmanager
def undisturbed() -> Iterator[None]:
    """These clients do not look for garbage: with thousands of answers kept, that would be taken for a silence."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def ask(side: Side, *, stream: bool = True, key: str = "") -> Asking:
    """Connects and asks; the answer comes by and by."""
    loop = asyncio.get_running_loop()
    _, asking = await loop.create_connection(lambda: Asking(side, stream=stream, key=key), "127.0.0.1", side.port)
    return asking


async def answered(side: Side, *, stream: bool = True) -> Asking:
    """Asks and waits for the end."""
    asking = await ask(side, stream=stream)
    await asking.end
    return asking


async def arriving(side: Side, many: int, seconds: float) -> list[Asking]:
    """So many clients, evenly over so many seconds; the answers go on when this returns."""
    start, asked = monotonic(), []
    for number in range(many):
        await asyncio.sleep(start + seconds * number / many - monotonic())
        asked.append(await ask(side))
    return asked
