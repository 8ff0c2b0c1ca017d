"""A place at a host for one request, with all that goes with it.

That is the attempt by which the host is judged, the connections that stay open as long as somebody uses them, and
whatever else is needed while the request is there.

The one rule: who has left has given everything back, whatever of it fails.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from time import monotonic
from typing import TypeVar

from msgspec.structs import replace

from localmodels.core import once
from localmodels.fleet.fleet import Attempt
from localmodels.flows.connections.request_counts import outcome_of
from localmodels.flows.connections.traffic import Traffic
from localmodels.flows.routing.plans import Hop

T = TypeVar("T")


class Seat:
    """Somebody's place, from the moment in which he has it.

    Args:
        hop: where; its connections are those of now, whatever happened while somebody waited.
        attempt: what the host is told.
        traffic: what all requests share.
        once_only: is the request to be given to nobody else?

    Attributes:
        hop: as it is now.
    """

    __slots__ = ("_attempt", "_held", "_since", "_traffic", "hop")

    def __init__(self, hop: Hop, attempt: Attempt, traffic: Traffic, *, once_only: bool) -> None:
        if hop.server is not None and hop.server.now is not hop.server:
            hop = replace(hop, server=hop.server.now)
        self.hop = hop
        self._attempt = attempt
        self._traffic = traffic
        self._since = monotonic()
        self._held: AbstractAsyncContextManager[object] | None = None
        if hop.server is not None:
            hop.server.enter()
        once.say(once=once_only)

    def answered(self) -> None:
        """The first of the answer has come."""
        self._attempt.answered()

    async def hold(self, more: AbstractAsyncContextManager[T]) -> T:
        """Enters what is needed besides the place; it is left with it."""
        held = await more.__aenter__()
        self._held = more
        return held

    async def leave(self, error: BaseException | None, *, timed: bool) -> None:
        """Gives everything back.

        Args:
            error: what the host met the request with; None where it has done what was asked.
            timed: has it given an answer whose time tells how long answers take there?
        """
        once.say(once=False)
        if error is None:  # also what has no first piece of an answer: a load, a count
            self._attempt.answered()
        self._attempt.ended(error)
        host, server = self.hop.host, self.hop.server
        self._traffic.tally.at(host).ended[outcome_of(error)] += 1
        try:
            if self._held is not None:
                held, self._held = self._held, None
                await held.__aexit__(type(error) if error is not None else None, error, None)
        finally:
            took = monotonic() - self._since if error is None and timed else None
            self._traffic.places.give_back(host, self._attempt.model, took)
            if server is not None and server.leave():
                await server.far.close()
