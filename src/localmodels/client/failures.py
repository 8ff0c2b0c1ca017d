"""What httpx2's failures mean, and how long it is to wait. No I/O, so both forms of the client share it."""

from __future__ import annotations

import httpx2

from localmodels.client.wire import CONNECT_TIMEOUT, READ_TIMEOUT, nobody
from localmodels.core.errors import BackendTimeout, Garbled, LocalModelsError, StreamCut, Unreachable

TIMEOUT = httpx2.Timeout(READ_TIMEOUT, connect=CONNECT_TIMEOUT)


def not_reached(error: httpx2.TransportError, url: str) -> LocalModelsError:
    """What a connection that failed before the answer means."""
    if isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout)):
        return nobody(url, error)
    if isinstance(error, httpx2.TimeoutException):
        return BackendTimeout(f"the server at {url} did not answer in time")
    return Unreachable(f"the server at {url} closed the connection without an answer")


def broken(error: httpx2.RequestError) -> LocalModelsError:
    """What a failure within the answer means."""
    if isinstance(error, httpx2.DecodingError):
        return Garbled("the answer is compressed in a way that its header does not name")
    if isinstance(error, httpx2.TimeoutException):
        return BackendTimeout("the server fell silent in the middle of its answer")
    return StreamCut("the connection broke in the middle of the answer")
