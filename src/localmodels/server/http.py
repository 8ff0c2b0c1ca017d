"""uvicorn, told when to begin and when to end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator
from math import ceil

import uvicorn
from starlette.types import ASGIApp


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
            http="httptools",
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
        if server.should_exit:
            server.force_exit = True  # asked twice: do not wait for streams
        server.should_exit = True
        draining()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, leave)
    await server.serve(sockets=sockets)
