"""uvicorn, told when to begin and when to end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from math import ceil

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

log = logging.getLogger(__name__)

MOST_HEAD = 64 * 1024  # bytes of a request's head; browsers with their cookies send a quarter of it
TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's, but for heads, chunk sizes and trailers that do not end: it and its parser gather them for ever."""

    _fruitless = 0  # bytes that came since the last that meant something: a whole head, some of a body
    _head = 0  # bytes of the names and values of this head
    _refused = False

    def data_received(self, data: bytes) -> None:
        """Some bytes of a request."""
        if self._refused:
            return
        self._fruitless += len(data)
        super().data_received(data)
        if self._fruitless > MOST_HEAD:
            self._refuse()

    def on_header(self, name: bytes, value: bytes) -> None:
        """One line of the head; trailers, which end up here too, are bounded by what leads to nothing."""
        self._head += len(name) + len(value)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole."""
        if self._head > MOST_HEAD:
            self._refuse()
            return
        self._fruitless = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Some of the body."""
        self._fruitless = 0
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The body is whole; what comes next is another head."""
        self._fruitless = self._head = 0
        if not self._refused:
            super().on_message_complete()

    def _refuse(self) -> None:
        if self._refused:
            return
        self._refused = True
        # Where an answer is under way, no other can be said.
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete:
            self.transport.write(TOO_LARGE)
        self.transport.close()


class HttpServer(uvicorn.Server):
    """uvicorn, but for signals: whoever runs it ends it, then everything that it stands on.

    Args:
        config: as uvicorn's.
        ready: called once, when connections are accepted.
    """

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals to :func:`run`; uvicorn would raise them again before runners have been stopped."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to accept, then says so."""
        await super().startup(sockets)
        self._ready()


async def run(
    application: ASGIApp,
    sockets: list[socket.socket],
    *,
    drain: float,
    ready: Callable[[], None],
    draining: Callable[[], None],
) -> None:
    """Serves until SIGINT or SIGTERM, then lets streams finish for ``drain`` seconds.

    Args:
        application: answers.
        sockets: already listening.
        drain: seconds.
        ready: called once, when connections are accepted.
        draining: called once, when no more requests shall be admitted.
    """
    server = HttpServer(
        uvicorn.Config(
            application,
            loop="none",
            http=BoundedProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=ceil(drain),
            timeout_keep_alive=75,
        ),
        ready,
    )

    def leave() -> None:
        open_answers = len(server.server_state.tasks)
        if server.should_exit:
            server.force_exit = True  # asked twice: do not wait for streams
        elif open_answers:
            log.info("%d answers have %g s to end; asked again, the server ends at once", open_answers, drain)
        server.should_exit = True
        draining()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, leave)
    await server.serve(sockets=sockets)
