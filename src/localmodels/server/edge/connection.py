"""One client's connection: from its bytes to requests, one at a time, and from what it does to what that means.

The one rule: whoever leaves is noticed in every phase, so reading goes on while a request is answered. What comes ahead
is kept up to a bound; the next request begins when the answer to the one before has ended.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Callable, Coroutine
from enum import Enum, auto
from math import inf
from typing import Any, cast

from starlette.types import ASGIApp, Scope

from localmodels.core.errors import LocalModelsError, RequestTimeout, ShuttingDown
from localmodels.server.edge.connections import Connections
from localmodels.server.edge.exchange import Exchange
from localmodels.server.edge.reader import Reader
from localmodels.server.edge.request import END, Request
from localmodels.server.edge.seam import EDGE

log = logging.getLogger(__name__)

# From the path, empty as long as it is not known, what is wrong, and what the application was told of the request, if
# it was, to a whole answer that closes the connection.
Refuse = Callable[[str, LocalModelsError, Scope | None], bytes]
MAPPED = "::ffff:"  # before an IPv4 address that came to an IPv6 socket (RFC 4291, 2.5.5.2)
_NO_LINGER = struct.pack("ii", 1, 0)  # wait for nobody, for no time
# Of what is kept of a body, the part that is handed on at once: reading goes on meanwhile.
PORTIONS = 4
INTERNAL = LocalModelsError("internal error; the server's log has the details")


class Phase(Enum):
    """What a connection waits for. Its deadline is named in :meth:`Connection.overdue`."""

    NEW = auto()  # the first byte of the first request
    HEAD = auto()  # the rest of a head
    BODY = auto()  # the rest of a body
    ANSWER = auto()  # the application
    IDLE = auto()  # another request
    LINGER = auto()  # the client, who may still be sending, to read our last words and to close
    LEAVING = auto()  # the client to take the rest, then the end


class Connection(asyncio.Protocol):
    """One client.

    Args:
        application: answers.
        among: all others.
        refuse: writes what the edge itself refuses.

    Attributes:
        due: when the client is late with what its phase waits for.
        stuck: when it has taken nothing of its answer for too long.
        paused: the client has much of its answer to take.
        send: some bytes to the client; the transport's own, since every piece of every answer goes this way.
    """

    __slots__ = (
        "_among", "_application", "_base", "_body_until", "_deaf", "_exchange", "_held", "_host", "_loop", "_phase",
        "_reader", "_reading", "_refuse", "_scope", "_transport", "_wasted", "_writable", "due", "paused", "send",
        "stuck",
    )  # fmt: skip

    def __init__(self, application: ASGIApp, among: Connections, refuse: Refuse) -> None:
        self._application = application
        self._among = among
        self._refuse = refuse
        self._reader = Reader(among.bounds)
        self._exchange: Exchange | None = None
        self._phase = Phase.NEW
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # there is one before anything else happens
        self._loop = asyncio.get_running_loop()
        self._host = ""
        self._base: Scope = {}
        self._scope: Scope | None = None
        self._writable: asyncio.Event | None = None
        self._reading = True
        self._held = 0  # bytes of this body that all connections together are charged with
        self._deaf = False  # too much came ahead
        self._wasted = 0
        self._body_until = inf
        self.due = self.stuck = inf
        self.paused = False

    @property
    def closes(self) -> bool:
        """Is an answer that begins now the last one?"""
        return self._deaf or self._among.draining

    # What the transport tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody is there."""
        self._transport = cast("asyncio.Transport", transport)
        self.send: Callable[[bytes], None] = self._transport.write
        self._transport.set_write_buffer_limits(high=self._among.bounds.write_high)
        client = _address(transport.get_extra_info("peername"))
        self._host = client[0] if client else ""
        self._base = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "scheme": "http",
            "server": _address(transport.get_extra_info("sockname")),
            "client": client,
            "root_path": "",
        }
        self.due = self._among.clock() + self._among.bounds.head_time
        try:
            self._among.enter(self, self._host)
        except LocalModelsError as error:
            self._turn_away(error)

    def data_received(self, data: bytes) -> None:
        """Some bytes."""
        phase = self._phase
        if phase is Phase.ANSWER:
            self._keep_ahead(data)
        elif phase is Phase.LINGER or phase is Phase.LEAVING:
            self._waste(data)
        else:
            self._feed(data)

    def eof_received(self) -> None:
        """The client sends no more: it has left. Whoever only stops sending is not told from one who does."""
        if self._exchange is not None:
            self._lose()
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed, from either side."""
        self._lose()
        self._among.leave(self, self._host)
        self.resume_writing()  # whoever waits to write need not

    def pause_writing(self) -> None:
        """The client has much to take."""
        self.paused = True
        self.stuck = self._among.clock() + self._among.bounds.blocked

    def resume_writing(self) -> None:
        """It has taken most of it."""
        self.paused = False
        self.stuck = inf
        if self._writable is not None:
            self._writable.set()
            self._writable = None
        exchange = self._exchange
        if exchange is not None and exchange.on_resume is not None:
            exchange.on_resume()

    # What the clock tells.

    def overdue(self, now: float) -> None:
        """It is late."""
        if now >= self.stuck:
            log.info("a client took nothing of its answer for %g s; it was given up", self._among.bounds.blocked)
            self._reset()
            return
        match self._phase:
            case Phase.HEAD if self._reader.begun:
                self._turn_away(RequestTimeout("the request's head did not come in time"))
            case Phase.BODY:
                self._turn_away(RequestTimeout("the request's body came too slowly"))
            case Phase.LEAVING:
                self._reset()
            case _:
                self._leave()

    def drain(self) -> None:
        """The server ends: who is about to ask has a moment, and an answer that is the last; who asks nothing, less."""
        bounds = self._among.bounds
        moment = {Phase.IDLE: bounds.parting, Phase.NEW: bounds.hurry, Phase.HEAD: bounds.hurry}.get(self._phase)
        if moment is not None:
            self.due = min(self.due, self._among.clock() + moment)

    def cut(self) -> None:
        """The server ends, and waits no longer: whoever has nothing of his answer yet is told, others notice."""
        exchange, error = self._exchange, ShuttingDown("the server is shutting down")
        if exchange is not None and not exchange.begun:
            self._turn_away(error)
            return
        self._lose(error)
        if exchange is not None and exchange.torn:
            self._reset()
        else:
            self.abort()

    def abort(self) -> None:
        """It ends, now."""
        self._lose()
        self._transport.abort()

    # Reading.

    def _feed(self, data: bytes) -> None:
        reader = self._reader
        try:
            reader.feed(data)
            request = reader.request
            if request is None:
                if self._phase is not Phase.HEAD:
                    bounds = self._among.bounds
                    self._wait(Phase.HEAD, bounds.hurry if self._among.draining else bounds.head_time)
                return
            exchange = self._exchange
            if exchange is None:
                self._exchange = exchange = Exchange(self, request, max(1, self._among.bounds.body_high // PORTIONS))
                self._take_body(exchange)
                self._begin(exchange, request)
            else:
                self._take_body(exchange)
        except LocalModelsError as error:
            self._turn_away(error)

    def _begin(self, exchange: Exchange, request: Request) -> None:
        self._scope = scope = {
            **self._base,
            "method": request.method,
            "path": request.path,
            "raw_path": request.raw_path,
            "query_string": request.query,
            "http_version": request.version,
            "headers": request.headers,
            "state": {},
            "extensions": {EDGE: exchange},
        }
        # ASGI says only that an application gives an awaitable; all that are written as functions give a coroutine.
        work = cast("Coroutine[Any, Any, None]", self._application(scope, exchange.receive, exchange.send))
        exchange.task = task = self._loop.create_task(work)
        self._among.tasks.add(task)
        task.add_done_callback(exchange.task_ended)

    def _take_body(self, exchange: Exchange) -> None:
        """Hands on what has come of the body, and says when the rest is late."""
        reader = self._reader
        pieces, size = reader.pieces, 0
        if pieces:
            reader.pieces = []
            size = sum(map(len, pieces))
            self._held += size
            self._among.hold(size)
        exchange.feed(pieces, size, whole=reader.whole)
        if reader.whole:
            self._phase, self.due = Phase.ANSWER, inf
            return
        bounds, now = self._among.bounds, self._among.clock()
        if self._phase is not Phase.BODY:
            self._phase = Phase.BODY
            self._body_until = now + bounds.body_time
            self.due = inf if exchange.waits_to_be_asked else now + bounds.body_grace
            return
        # What came pays for the time to come, but not for a long rest.
        self.due = min(self.due + size / bounds.body_rate, now + bounds.body_rest, self._last_moment(exchange))
        if exchange.unread > bounds.body_high:
            self._reading = False
            self.due = inf  # it is us who are slow
            self._transport.pause_reading()

    def _last_moment(self, exchange: Exchange) -> float:
        return inf if exchange.streamed else self._body_until

    def _keep_ahead(self, data: bytes) -> None:
        """Another request before the answer to this one; too much of it is not kept, and nothing follows the answer."""
        reader = self._reader
        if self._deaf or len(reader.ahead) + len(data) > self._among.bounds.ahead:
            self._deaf = True
            self._waste(data)
        else:
            reader.feed(data)

    def _waste(self, data: bytes) -> None:
        self._wasted += len(data)
        if self._wasted > self._among.bounds.wasted:
            self.abort()

    # What an exchange tells.

    async def writable(self) -> None:
        """Waits until the client has taken most of what there is."""
        self._writable = self._writable or asyncio.Event()
        await self._writable.wait()

    def asked(self) -> None:
        """The client was asked for the body."""
        self.due = self._among.clock() + self._among.bounds.body_grace

    def taken(self, *, all_of_it: bool) -> None:
        """The application has taken what there was of the body."""
        exchange = self._exchange
        if all_of_it or (exchange is not None and exchange.streamed):
            self._release()
        if not self._reading:
            self._read_on()
            if exchange is not None:
                self.due = min(self._among.clock() + self._among.bounds.body_grace, self._last_moment(exchange))

    def answered(self, *, last: bool) -> None:
        """The answer has ended."""
        reader = self._reader
        self._exchange = self._scope = None
        self._release()
        if last or self._deaf:
            self._linger()
            return
        bounds, draining = self._among.bounds, self._among.draining
        ahead = reader.next()
        if ahead:
            self._wait(Phase.HEAD, bounds.hurry if draining else bounds.head_time)
            self._feed(ahead)
        else:  # an answer that began before the server's end has not said that it is the last
            self._wait(Phase.IDLE, bounds.parting if draining else bounds.idle)

    def ended(self, task: asyncio.Task[None]) -> None:
        """The application is done."""
        self._among.ended(task)

    def failed(self, *, begun: bool, torn: bool) -> None:
        """There will be no more of the answer. ``torn``: only a broken connection says so."""
        self._exchange = None
        if torn:
            self._reset()
        elif begun:
            self._release()
            self._linger()
        else:
            self._turn_away(INTERNAL)

    # The end.

    def _wait(self, phase: Phase, most: float) -> None:
        self._phase = phase
        self.due = self._among.clock() + most

    def _turn_away(self, error: LocalModelsError) -> None:
        """Tells what is wrong, where that can still be told, and ends."""
        exchange, scope = self._exchange, self._scope
        if exchange is None or exchange.task is None:  # else the application notes it
            self._among.refusals[error.code] += 1
        self._lose(error)
        if (exchange is not None and exchange.begun) or len(self._among) > 2 * self._among.bounds.connections:
            self._transport.abort()
            return
        answer = self._refuse(self._reader.path, error, scope)
        self._transport.write(answer[: answer.index(END) + 4] if self._reader.bodiless else answer)
        self._linger()

    def _leave(self) -> None:
        """Ends, once the client has taken what there is for it."""
        self._wait(Phase.LEAVING, self._among.bounds.blocked)
        self._transport.close()

    def _linger(self) -> None:
        """Sends no more, but reads till the client ends: to close on one who still sends destroys our last words."""
        self._wait(Phase.LINGER, self._among.bounds.linger)
        self._read_on()
        self._transport.write_eof()

    def _reset(self) -> None:
        """Ends, and takes back what the client has not taken; the kernel would go on offering it."""
        connection = self._transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.abort()

    def _read_on(self) -> None:
        if not self._reading:
            self._reading = True
            self._transport.resume_reading()

    def _release(self) -> None:
        self._among.buffered -= self._held
        self._held = 0

    def _lose(self, refusal: LocalModelsError | None = None) -> None:
        """The work for this client ends: it has left, or is sent away for a reason."""
        self._release()
        exchange, self._exchange = self._exchange, None
        self._scope = None
        if exchange is not None:
            exchange.lose(refusal)


def _address(name: Any) -> tuple[str, int] | None:
    """An address as ASGI has it; None for what has no port. IPv4 at a socket for both families is IPv4."""
    if not isinstance(name, tuple):
        return None
    host = str(name[0])
    mapped = host.removeprefix(MAPPED)
    return mapped if "." in mapped else host, int(name[1])
