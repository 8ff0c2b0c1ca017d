"""The way to other servers by plain HTTP: connections that are kept, and taken up again newest first.

A kept connection may have been closed by the other side a moment ago. It is known to be dead only when nothing at all
comes back, and that at once; then the request is sent once more on a new connection: whoever closed it has most likely
not read it. That is never certain, so what may be sent only once (``core.once``) gets a new connection at once. The one
rule: a connection serves again only after an answer that ended in good form and with nothing behind it.

A connection goes to an address that ``lookup`` has judged. Nothing of an answer leads anywhere else: redirects and
challenges are answers like others, and no proxy of the environment is known here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import urlsplit

from localmodels.backends.alarm import Alarm
from localmodels.backends.lookup import Lookup, checked, system_lookup
from localmodels.backends.round_trip import KEEPALIVE, Patience, RoundTrip, written
from localmodels.core import once, via
from localmodels.core.errors import Unreachable
from localmodels.core.servers import Reach

MOST_KEPT = 256
# Seconds within which a kept connection that closes without a word was closed before the request came: a way there and
# back. Whoever closes it later may have begun to work for it.
RACE = 0.25


class Tcp:
    """A pool of connections to one address.

    Args:
        base: ``http://host:port``, with a path that stands before every other, without a trailing slash.
        headers: sent with every request, for instance an authorization.
        patience: how long the server may be silent.
        keepalive: seconds that an idle connection is kept.
        most: idle connections that are kept.
        race: seconds within which a kept connection that closes had been closed before the request came.
        reach: where connections may go.
        lookup: the addresses of a name.
    """

    def __init__(
        self,
        base: str,
        *,
        headers: Mapping[str, str] | None = None,
        patience: Patience | None = None,
        keepalive: float = KEEPALIVE,
        most: int = MOST_KEPT,
        race: float = RACE,
        reach: Reach = "any",
        lookup: Lookup = system_lookup,
    ) -> None:
        parts = urlsplit(base)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._prefix = parts.path
        self._fields = f"Host: {parts.netloc}\r\nAccept-Encoding: identity\r\n" + "".join(
            f"{name}: {value}\r\n" for name, value in (headers or {}).items()
        )
        self._patience = patience or Patience()
        self._keepalive = keepalive
        self._most = most
        self._race = race
        self._reach: Reach = reach
        self._lookup = lookup
        self._idle: list[Idle] = []
        self._open: set[RoundTrip] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False

    async def open(self, method: str, path: str, body: bytes | None) -> RoundTrip:
        """Sends a request and waits for the head of its answer.

        Raises:
            Unreachable, BackendTimeout, Garbled: there is none.
        """
        if self._closed:
            raise Unreachable("the connection to the server was closed")
        passed, is_once = via.told(), once.is_said()
        fields = f"{self._fields}{via.HEADER}: {passed}\r\n" if passed else self._fields
        if is_once:
            fields = f"{fields}{once.HEADER}: true\r\n"
        request = written(method, self._prefix + path, body, fields)
        kept = None if is_once else self._kept()
        if kept is not None:
            try:
                await kept.ask(request)
                return kept
            except Unreachable:
                late = method != "GET" and asyncio.get_running_loop().time() - kept.asked > self._race
                if late or not kept.untouched or self._closed:
                    raise
        exchange = await self._connected()
        await exchange.ask(request)
        return exchange

    async def close(self) -> None:
        """Closes every connection; open answers raise."""
        self._closed = True
        for exchange in list(self._open):
            exchange.close()
        for idle in list(self._idle):
            idle.transport.abort()
        self._idle.clear()
        if self._sweep is not None:
            self._sweep.cancel()

    async def _connected(self) -> RoundTrip:
        """A new connection, to the first of the checked addresses that takes it in its share of the time."""
        patience = self._patience.connect
        try:
            async with asyncio.timeout(patience):
                *others, last = await checked(self._host, self._port, self._reach, self._lookup)
                share = None if patience is None else patience / (len(others) + 1)
                for address in others:
                    with suppress(OSError):
                        async with asyncio.timeout(share):
                            return await self._connected_to(address)
                return await self._connected_to(last)
        except (OSError, TimeoutError) as error:
            raise Unreachable("the server cannot be reached") from error

    async def _connected_to(self, address: str) -> RoundTrip:
        _, exchange = await asyncio.get_running_loop().create_connection(self._exchange, address, self._port)
        return exchange

    def _exchange(self, alarm: Alarm | None = None) -> RoundTrip:
        return RoundTrip(self._open, self._patience, self._give_back, alarm)

    def _kept(self) -> RoundTrip | None:
        """The connection that was used last, if it is young enough."""
        while self._idle:
            idle = self._idle.pop()
            if idle.transport.is_closing():
                continue
            exchange = self._exchange(idle.alarm)
            idle.transport.set_protocol(exchange)
            exchange.connection_made(idle.transport)
            return exchange
        return None

    def _give_back(self, transport: asyncio.Transport, alarm: Alarm) -> None:
        if self._closed or transport.is_closing() or len(self._idle) >= self._most:
            transport.abort()
            return
        idle = Idle(transport, alarm, alarm.now() + self._keepalive, self._idle)
        transport.set_protocol(idle)
        self._idle.append(idle)
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(self._keepalive, self._clear)

    def _clear(self) -> None:
        """Closes those that nobody took for too long; the oldest stand in front."""
        self._sweep = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._idle and self._idle[0].until <= now:
            self._idle.pop(0).transport.abort()
        if self._idle:
            self._sweep = loop.call_later(self._idle[0].until - now, self._clear)


class Idle(asyncio.Protocol):
    """A connection that nobody uses.

    Args:
        transport: the connection.
        alarm: goes with it.
        until: when it is too old, by the loop's clock.
        among: leaves this list when it closes.
    """

    def __init__(self, transport: asyncio.Transport, alarm: Alarm, until: float, among: list[Idle]) -> None:
        self.transport = transport
        self.alarm = alarm
        self.until = until
        self._among = among

    def data_received(self, data: bytes) -> None:
        """Nobody asked: an answer to nothing would be taken for the next one's."""
        self._forget()
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed, from either side."""
        self.alarm.end()
        self._forget()

    def _forget(self) -> None:
        if self in self._among:
            self._among.remove(self)
