"""Plain HTTP by the standard library, for programs that start, ask once and end.

httpx2's own transport brings 40 ms of imports (two event loops and TLS) on top of its 60; this one brings none, since
``http.client`` has been imported by then. It keeps no connections and speaks no TLS; its failures are those of httpx2.
"""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2

READ_SIZE = 65_536


class PlainTransport(httpx2.BaseTransport):
    """Carries each request over a connection of its own."""

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Sends it and gives the answer as soon as its head is there."""
        url, timeout = request.url, request.extensions.get("timeout", {})
        connection = http.client.HTTPConnection(url.host, url.port or 80, timeout=timeout.get("connect"))
        try:
            with _failures(httpx2.ConnectError, httpx2.ConnectTimeout):
                connection.connect()
            connection.sock.settimeout(timeout.get("read"))
            with _failures(httpx2.ReadError, httpx2.ReadTimeout):
                connection.request(request.method, url.raw_path.decode("ascii"), request.read(), dict(request.headers))
                response = connection.getresponse()
        except httpx2.TransportError:
            connection.close()
            raise
        return httpx2.Response(response.status, headers=response.getheaders(), stream=_Body(connection, response))


class _Body(httpx2.SyncByteStream):
    """The rest of the answer, as it arrives."""

    def __init__(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        self._connection = connection
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        with _failures(httpx2.ReadError, httpx2.ReadTimeout):
            while data := self._response.read1(READ_SIZE):
                yield data
        if self._response.length:  # `read1` takes the end of a cut connection for the end of the body
            raise httpx2.RemoteProtocolError("the connection ended before the body did")

    def close(self) -> None:
        self._response.close()
        self._connection.close()


@contextmanager
def _failures(broken: type[httpx2.TransportError], late: type[httpx2.TransportError]) -> Iterator[None]:
    """Failures of sockets and of HTTP as httpx2 names them."""
    try:
        yield
    except TimeoutError as error:
        raise late(str(error)) from error
    except http.client.HTTPException as error:
        raise httpx2.RemoteProtocolError(repr(error)) from error
    except OSError as error:
        raise broken(str(error)) from error
