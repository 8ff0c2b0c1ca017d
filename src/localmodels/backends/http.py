"""HTTP as a backend needs it: one POST, answered whole or as a stream of bytes, with every failure named.

The one rule: what goes wrong comes out as an error of ``core.errors``, and dropping a stream closes its connection at
once, because that is the only sign by which the other side learns that nobody listens any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress

import aiohttp
from msgspec import Struct

from localmodels.core.chat import Done, Event
from localmodels.core.errors import (
    BackendTimeout,
    Garbled,
    LocalModelsError,
    StreamCut,
    Unreachable,
)
from localmodels.dialects.protocol import EventReader

ReadError = Callable[[int, bytes, float | None], LocalModelsError]

JSON = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
# An answer in one piece larger than this is not one (threat V-22).
MAX_ANSWER = 32 * 2**20
READ_SIZE = 2**18
# Seconds for the end of an answer whose last event has come: it travels with that event or right behind it.
TAIL = 0.05


class Patience(Struct, frozen=True):
    """How long to wait, in seconds; None is as long as it takes.

    Defaults are those for other servers (``reliability.md`` part D); a runner of ours may read a long prompt for
    minutes, and its death is noticed otherwise. ``first_byte`` counts anew for the head of an answer and for the first
    byte of its body: some servers send the head at once, others with the first token.
    """

    connect: float | None = 3.0
    first_byte: float | None = 60.0
    idle: float | None = 120.0


class Http:
    """A pool of connections to one address.

    Args:
        base: ``http://host:port`` without a trailing slash; any host name for a unix socket.
        socket: path of a unix socket to use instead of the host in ``base``.
        headers: sent with every request, for instance an authorization.
        keepalive: seconds that an idle connection to a host is kept. llama.cpp closes its own after about 5 s; 3 s
            failed 0 of 120 requests where the default failed 2 (measured).
    """

    def __init__(
        self,
        base: str,
        read_error: ReadError,
        *,
        socket: str | None = None,
        headers: Mapping[str, str] | None = None,
        patience: Patience | None = None,
        keepalive: float = 3.0,
    ) -> None:
        self._base = base
        self._read_error = read_error
        self._patience = patience or Patience()
        # llama.cpp closes a kept connection without a word after a stream; a new unix socket costs 50 microseconds.
        connector: aiohttp.BaseConnector = (
            aiohttp.UnixConnector(socket, limit=0, force_close=True)
            if socket
            else aiohttp.TCPConnector(limit=0, keepalive_timeout=keepalive)
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            headers={**JSON, **(headers or {})},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            read_bufsize=READ_SIZE,
            trust_env=False,
        )

    async def post(self, path: str, body: bytes) -> bytes:
        """The whole answer.

        Raises:
            LocalModelsError: what ``read_error`` makes of a status of 400 or more, or the failure of the connection.
        """
        async with self._open("POST", path, body) as response:
            return await self._whole(response)

    async def get(self, path: str) -> bytes:
        """The whole answer; raises as :meth:`post` does."""
        async with self._open("GET", path, None) as response:
            return await self._whole(response)

    async def stream(self, path: str, body: bytes, reader: EventReader) -> AsyncGenerator[list[Event], None]:
        """Events as they arrive, all that one read brought together. What comes after ``Done`` is no part of it.

        Raises:
            LocalModelsError: as :meth:`post`; and what the reader raises for a stream that breaks.
        """
        async with self._open("POST", path, body) as response:
            if response.content_type == "application/json":
                # llama.cpp and Ollama both answer 200 with plain JSON when a request fails early; the reader knows.
                raise self._read_error(response.status, await self._whole(response), None)
            while data := await piece(response):
                events = reader.feed(data)
                if not events:
                    continue
                yield events
                if isinstance(events[-1], Done):
                    await tail(response)
                    return
                reader.feed(b"")  # an error in the same bytes comes out now, not when the server says more
            reader.close()

    async def close(self) -> None:
        """Closes every connection; open streams raise."""
        await self._session.close()

    @asynccontextmanager
    async def _open(self, method: str, path: str, body: bytes | None) -> AsyncIterator[aiohttp.ClientResponse]:
        response = await self._begin(method, path, body)
        done = False
        try:
            if response.status != 200:
                raise self._read_error(response.status, await self._whole(response), retry_after(response.headers))
            yield response
            done = True
        finally:
            # `release` would keep reading an answer nobody wants; `close` tells the other side now.
            if done and response.content.at_eof():
                response.release()
            else:
                response.close()

    async def _begin(self, method: str, path: str, body: bytes | None) -> aiohttp.ClientResponse:
        if self._session.closed:
            raise Unreachable("the connection to the server was closed")
        patience = self._patience
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=patience.connect, connect=None, sock_read=patience.first_byte
        )
        try:
            response = await self._session.request(
                method, self._base + path, data=body, timeout=timeout, allow_redirects=False
            )
        except aiohttp.SocketTimeoutError as error:
            raise BackendTimeout("the server did not answer in time") from error
        except aiohttp.ServerDisconnectedError as error:
            raise Unreachable("the server closed the connection without an answer") from error
        except (aiohttp.ClientConnectionError, ConnectionError, TimeoutError) as error:
            raise Unreachable("the server cannot be reached") from error
        except aiohttp.ClientError as error:
            raise Garbled(f"the server's answer is not HTTP: {type(error).__name__}") from error
        set_idle(response, patience.idle)
        return response

    async def _whole(self, response: aiohttp.ClientResponse) -> bytes:
        data = bytearray()
        while some := await piece(response):
            data += some
            if len(data) > MAX_ANSWER:
                raise Garbled(f"the server's answer is larger than {MAX_ANSWER >> 20} MiB")
        return bytes(data)


def set_idle(response: aiohttp.ClientResponse, seconds: float | None) -> None:
    """Allows so much silence from the first byte of the body on; the time for that byte goes on running."""
    protocol = response.connection.protocol if response.connection else None
    if protocol is None:  # the whole answer is here
        return
    protocol.read_timeout = seconds
    if response.content.total_bytes:
        protocol.start_timeout()


async def piece(response: aiohttp.ClientResponse) -> bytes:
    """What has arrived of the body, empty at its end.

    Raises:
        BackendTimeout, StreamCut: it goes on no more, or not in time.
    """
    try:
        return await response.content.readany()
    except (aiohttp.SocketTimeoutError, TimeoutError) as error:
        raise BackendTimeout("the server fell silent in the middle of its answer") from error
    except (aiohttp.ClientError, ConnectionError, RuntimeError) as error:
        # The last one is aiohttp's for a body whose connection was closed from here while nobody read it.
        raise StreamCut("the connection broke in the middle of the answer") from error


async def tail(response: aiohttp.ClientResponse) -> None:
    """Reads the end of an answer that is complete, so that its connection can serve again; a bad end is no harm."""
    with suppress(TimeoutError, aiohttp.ClientError, ConnectionError):
        async with asyncio.timeout(TAIL):
            while not response.content.at_eof():
                await response.content.readany()


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds from a ``Retry-After`` header; the date form is not used by any model server and is ignored."""
    text = headers.get("Retry-After", "")
    return float(text) if text.isdecimal() and len(text) < 7 else None
