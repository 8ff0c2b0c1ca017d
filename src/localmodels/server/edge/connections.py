"""All connections of one server: how many there may be, what they hold, and which of them are late.

The one rule: there is one clock for all of them. A timer for each request costs more than the request's own
bookkeeping; a look at everybody ten times a second costs a thousandth of it, and no deadline here is exact to that.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from ipaddress import IPv6Address, ip_address
from typing import Protocol

from localmodels.core.errors import Unavailable
from localmodels.server.edge.bounds import Bounds

SOON = 1.0  # seconds after which who was turned away may come back
# Of those who are late. Each takes about as long as a request, and hundreds may be late in the same second: slow
# clients come in crowds.
AT_ONCE = 1


class Guest(Protocol):
    """A connection, as far as the look at everybody is concerned.

    Attributes:
        due: when it is late with what it owes us.
        stuck: when it has taken nothing of its answer for too long.
    """

    due: float
    stuck: float

    def overdue(self, now: float) -> None: ...

    def drain(self) -> None: ...

    def cut(self) -> None: ...


class Connections:
    """Who is there.

    Args:
        bounds: how many may be.
        clock: seconds, of no particular beginning.

    Attributes:
        tasks: of requests that are being answered, and of those that are cleaning up.
        refusals: how often the edge itself refused, by the error's code.
        buffered: bytes of bodies on their way.
        draining: nobody new is answered.
    """

    def __init__(self, bounds: Bounds, clock: Callable[[], float]) -> None:
        self.bounds = bounds
        self.clock = clock
        self.tasks: set[asyncio.Task[None]] = set()
        self.refusals: Counter[str] = Counter()
        self.buffered = 0
        self.draining = False
        self._open: set[Guest] = set()
        self._from: Counter[str] = Counter()
        self._quiet = asyncio.Event()

    def __len__(self) -> int:
        return len(self._open)

    def enter(self, guest: Guest, host: str) -> None:
        """Somebody has come.

        Raises:
            Unavailable: there are too many already, here or from this host. It is counted all the same till it leaves.
        """
        self._open.add(guest)
        origin = origin_of(host)
        self._from[origin] += 1
        if len(self._open) > self.bounds.connections:
            raise Unavailable("the server has as many connections as it takes", retry_after=SOON)
        if origin and self._from[origin] > self.bounds.per_address:
            raise Unavailable(
                f"the server takes {self.bounds.per_address} connections from one address", retry_after=SOON
            )

    def leave(self, guest: Guest, host: str) -> None:
        """Its connection is closed."""
        self._open.discard(guest)
        origin = origin_of(host)
        self._from[origin] -= 1
        if not self._from[origin]:
            del self._from[origin]
        self._look_whether_quiet()

    def hold(self, size: int) -> None:
        """More of a body has come.

        Raises:
            Unavailable: all of them together hold too much. It is counted all the same.
        """
        self.buffered += size
        if self.buffered > self.bounds.buffered:
            raise Unavailable("too much is being sent to this server at once", retry_after=SOON)

    def ended(self, task: asyncio.Task[None]) -> None:
        """A request's work is done, and cleaned up."""
        self.tasks.discard(task)
        self._look_whether_quiet()

    def sweep(self) -> Iterator[None]:
        """Looks who is late, and tells some of them at each step. Between two steps others may be answered."""
        now = self.clock()
        late = [guest for guest in self._open if now >= guest.due or now >= guest.stuck]
        portion = max(1, len(late)) if self.draining else AT_ONCE  # while draining, all others wait for these to go
        for start in range(0, len(late), portion):
            for guest in late[start : start + portion]:
                if guest in self._open and (now >= guest.due or now >= guest.stuck):  # still
                    guest.overdue(now)
            yield

    def drain(self) -> None:
        """Nobody new is answered; who is being answered may stay till then."""
        self.draining = True
        for guest in list(self._open):
            guest.drain()
        self._look_whether_quiet()

    def cut(self) -> None:
        """Everybody goes, now."""
        for guest in list(self._open):
            guest.cut()

    async def quiet(self) -> None:
        """Waits, while draining, until everybody has gone and nobody cleans up any more."""
        await self._quiet.wait()

    def _look_whether_quiet(self) -> None:
        if self.draining and not self._open and not self.tasks:
            self._quiet.set()


def origin_of(host: str) -> str:
    """Whom a connection is counted for: an address, or a /64 network of IPv6; empty for this machine, which is not."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return ""  # a unix socket has no address
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        elif not address.is_loopback:
            return address.packed[:8].hex()
    return "" if address.is_loopback else str(address)
