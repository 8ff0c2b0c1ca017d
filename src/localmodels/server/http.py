"""The server, told when to begin and when to end: the edge, with refusals in the dialect of their path, and signals."""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
import socket
from collections.abc import Callable
from contextlib import suppress

from starlette.types import ASGIApp, Scope

from localmodels.core.errors import LocalModelsError
from localmodels.server.app import dialect_of, id_headers, new_id
from localmodels.server.edge.answer import whole_answer
from localmodels.server.edge.bounds import Bounds
from localmodels.server.edge.server import EdgeServer
from localmodels.server.wire import JSON_TYPE, VISIT, retry_headers

log = logging.getLogger(__name__)

# Open files for each connection, its own and one to the runner or the server that answers; and all others.
FILES_EACH, FILES_ELSE = 2, 1024


def refuse(path: str, error: LocalModelsError, scope: Scope | None) -> bytes:
    """An answer of the edge's own: what is wrong, in the dialect of the path, which may not be known yet.

    Args:
        path: empty where it is not known.
        error: what is wrong.
        scope: of the request, if the application was told of it; then the answer has the id under which it is logged.
    """
    dialect, visit = dialect_of(path), scope.get(VISIT) if scope is not None else None
    request_id = visit.id if visit is not None else new_id()
    if visit is None:
        log.info("request %s was refused before it was read: %s", request_id, error)
    headers = [
        (b"content-type", JSON_TYPE.encode()),
        (b"x-content-type-options", b"nosniff"),
        *id_headers(request_id),
        *retry_headers(error),
    ]
    return whole_answer(dialect.status(error), dialect.write_error(error), headers)


def make_room(connections: int) -> None:
    """Lets this process open the files that so many connections need, as far as it may; most shells give it 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections * FILES_EACH + FILES_ELSE
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):  # the kernel may have a lower bound of its own
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def run(
    application: ASGIApp,
    sockets: list[socket.socket],
    *,
    drain: float,
    ready: Callable[[], None],
    draining: Callable[[], None],
    refusing: Callable[[], None] = lambda: None,
    reload: Callable[[], None] | None = None,
    bounds: Bounds | None = None,
    opened: Callable[[EdgeServer], None] | None = None,
) -> None:
    """Serves until SIGINT or SIGTERM, then lets streams finish for ``drain`` seconds.

    Args:
        application: answers.
        sockets: already listening.
        drain: seconds.
        ready: called once, when connections are accepted.
        draining: called once, with the signal.
        refusing: called once, when half of the time is over: who still waits for his turn is better told so, and asks
            elsewhere, than cut.
        reload: called at each SIGHUP. Without it the signal means what it meant before.
        bounds: what clients may take of us.
        opened: is shown what stands at the door, whose figures are worth a look.
    """
    leaving = asyncio.Event()
    bounds = bounds or Bounds()
    make_room(bounds.connections)
    async with EdgeServer(application, sockets, refuse, bounds) as server:

        def leave() -> None:
            if leaving.is_set():
                server.abort()  # asked twice: do not wait for streams
                return
            if server.busy:
                log.info("%d answers have %g s to end; asked again, the server ends at once", server.busy, drain)
            leaving.set()
            draining()
            server.drain()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, leave)
        if reload is not None:
            loop.add_signal_handler(signal.SIGHUP, reload)
        if opened is not None:
            opened(server)
        ready()
        await leaving.wait()
        ended = asyncio.ensure_future(server.ended(drain))
        await asyncio.wait((ended,), timeout=drain / 2)
        refusing()
        await ended
