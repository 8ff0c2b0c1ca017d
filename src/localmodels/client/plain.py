"""A carrier over the standard library's HTTP, for programs that start, ask once and end.

``import httpx2`` takes 90 ms, all of ``localmodels list`` is to take 150; this takes 15. It keeps no connections. Its
failures read as those of the other carrier do.
"""

from __future__ import annotations

import http.client
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

from localmodels.client import site
from localmodels.client.wire import CONNECT_TIMEOUT, READ_TIMEOUT, nobody
from localmodels.core.errors import BackendTimeout, LocalModelsError, StreamCut, Unreachable

READ_SIZE = 65_536
_KINDS: Mapping[str, type[http.client.HTTPConnection]] = {
    "http": http.client.HTTPConnection,
    "https": http.client.HTTPSConnection,
}


class Plain:
    """Carries each request over a connection of its own.

    Args:
        url: of the server, as ``Site.url`` writes it.
        headers: go with every request.
        timeout: seconds for the connection and between two pieces of an answer; None is as long as in the SDK.
    """

    def __init__(self, url: str, headers: Mapping[str, str], timeout: float | None = None) -> None:
        self.url = url
        self._site = urlsplit(url)
        self._headers = dict(headers)
        self._connect_timeout = timeout or CONNECT_TIMEOUT
        self._read_timeout = timeout or READ_TIMEOUT

    @contextmanager
    def open(
        self,
        method: str,
        path: str,
        body: bytes | Iterator[bytes] | None,
        *,
        size: int | None = None,
        content_type: str = "",
    ) -> Iterator[PlainReply]:
        """Sends a request."""
        kind = _KINDS[self._site.scheme]
        connection = kind(self._site.hostname or "", self._site.port, timeout=self._connect_timeout)
        try:
            headers = {**self._headers, **site.body_headers(body, size, content_type)}
            yield PlainReply(self._asked(connection, method, self._site.path + path, body, headers))
        finally:
            connection.close()

    def close(self) -> None:
        """Nothing is kept."""

    def _asked(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: bytes | Iterator[bytes] | None,
        headers: Mapping[str, str],
    ) -> http.client.HTTPResponse:
        """The answer, as soon as its head is there."""
        try:
            connection.connect()
        except (http.client.HTTPException, OSError) as error:
            raise nobody(self.url, error) from error
        connection.sock.settimeout(self._read_timeout)
        with _failing(
            BackendTimeout(f"the server at {self.url} did not answer in time"),
            Unreachable(f"the server at {self.url} closed the connection without an answer"),
        ):
            # A server that refuses a large file says why and takes no more of it.
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, path, body, headers)
            return connection.getresponse()


class PlainReply:
    """An answer whose head has come."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers: Mapping[str, str] = {name.lower(): value for name, value in response.getheaders()}
        self._response = response

    def pieces(self) -> Iterator[bytes]:
        """The body as it comes."""
        cut = StreamCut("the connection broke in the middle of the answer")
        with _failing(BackendTimeout("the server fell silent in the middle of its answer"), cut):
            while data := self._response.read1(READ_SIZE):
                yield data
        if self._response.length:  # `read1` takes the end of a cut connection for the end of the body
            raise cut


@contextmanager
def _failing(late: LocalModelsError, broken: LocalModelsError) -> Iterator[None]:
    """Failures of sockets and of HTTP as errors of ours."""
    try:
        yield
    except TimeoutError as error:
        raise late from error
    except (http.client.HTTPException, OSError) as error:
        raise broken from error
