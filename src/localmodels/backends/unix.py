"""The way to our own runners: a unix socket, a connection for each request, and nothing that is not needed.

The other side is known: it is a process of ours on this machine, so there is no pool and no clock; its death breaks the
connection.
"""

from __future__ import annotations

import asyncio

from localmodels.backends.round_trip import RoundTrip, written
from localmodels.core.errors import Unreachable

FIELDS = "Host: runner\r\nConnection: close\r\n"


class UnixSocket:
    """Connections to one socket.

    Args:
        path: of the socket.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._open: set[RoundTrip] = set()
        self._closed = False

    async def open(self, method: str, path: str, body: bytes | None) -> RoundTrip:
        """Sends a request and waits for the head of its answer.

        Raises:
            Unreachable: there is nobody, or he left without an answer.
            Garbled: the answer is not HTTP.
        """
        if self._closed:
            raise Unreachable("the connection to the server was closed")
        request = written(method, path, body, FIELDS)
        loop = asyncio.get_running_loop()
        try:
            _, exchange = await loop.create_unix_connection(lambda: RoundTrip(self._open), self._path)
        except OSError as error:
            raise Unreachable("the server cannot be reached") from error
        await exchange.ask(request)
        return exchange

    async def close(self) -> None:
        """Closes every connection; open answers raise."""
        self._closed = True
        for exchange in list(self._open):
            exchange.close()
