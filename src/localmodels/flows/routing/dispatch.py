"""One request on its way to a host that answers it: where it is, who is asked next, and what each host is said to be.

The one rule: another host is asked only before the first of an answer has come; what follows on an error is said in
:mod:`localmodels.flows.connections.failover`. So the caller gets one answer, or one error, and every host is told apart
by what it did::

    async with Errand(hops, visit, traffic) as errand:     # it has a place at errand.hop
        while True:
            try:
                …ask errand.hop, and call errand.answered() when the first of its answer has come…
                return
            except LocalModelsError as error:
                await errand.after(error)                  # raises it, or has a place at the next hop
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from time import monotonic
from types import TracebackType
from typing import Self, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from localmodels.core import once, via
from localmodels.core.errors import LocalModelsError, ModelNotFound, NotFound, QueueFull, Unavailable
from localmodels.fleet.fleet import Attempt, id_of
from localmodels.fleet.hosts import Host, same_name
from localmodels.fleet.patience import worth_waiting_for
from localmodels.fleet.targets import Target
from localmodels.flows.connections.failover import verdict
from localmodels.flows.connections.remotes import Server
from localmodels.flows.connections.request_counts import UNSUITED, outcome_of
from localmodels.flows.connections.server_names import astray
from localmodels.flows.connections.traffic import Traffic
from localmodels.flows.routing.refusals import refusal, soonest
from localmodels.flows.visit import Visit

T = TypeVar("T")

# What a host is told of a request that ended before it was asked anything.
_NOTHING = GeneratorExit()


class OtherWay(Exception):
    """The request may be asked of further hosts, and not as it is: its visit tells whom it has tried."""


class Hop(Struct, frozen=True):
    """Where a request may go.

    Attributes:
        host: who would answer.
        model: its name there.
        server: the connections to it; None is this process's own engine.
        reason: makes the words for why it may go there; None where there was nothing to choose.
        patient: does it rather wait for a host that has the model loaded than have it loaded elsewhere?
        target: the decision for it; None where there was nothing to choose.
    """

    host: Host
    model: str
    server: Server | None = None
    reason: Callable[[], str] | None = None
    patient: bool = False
    target: Target | None = None

    @property
    def reached(self) -> Server:
        """The connections to it; our own engine has none."""
        if self.server is None:
            raise TypeError(f"nothing leads to {self.host.spec.name} but a call")
        return self.server


class Errand:
    """One request.

    Args:
        hops: where it may go, the best first; at least one.
        visit: is told who answers, and why.
        traffic: what all requests share.
        answers: is told where the first of the answer came from.
        spare: hosts that are asked when all others have failed.
        beyond: are there further hosts, to which only another errand leads?

    Attributes:
        hop: where it is.
    """

    __slots__ = (
        "_answers",
        "_attempt",
        "_begun",
        "_beyond",
        "_failed",
        "_held",
        "_hops",
        "_model",
        "_perhaps",
        "_since",
        "_spare",
        "_told",
        "_traffic",
        "_tried",
        "_visit",
        "hop",
    )

    def __init__(
        self,
        hops: Sequence[Hop],
        visit: Visit,
        traffic: Traffic,
        answers: Callable[[Hop], object] | None = None,
        spare: Sequence[Hop] = (),
        *,
        beyond: bool = False,
    ) -> None:
        self.hop = hops[0]
        self._model = same_name(hops[0].model)  # it is spelled alike wherever it is the same
        self._hops = hops
        self._visit = visit
        self._traffic = traffic
        self._answers = answers
        self._spare = spare
        self._beyond = beyond
        self._tried: tuple[str, ...] = ()
        self._since = 0.0  # when it got its place, by a clock that only ever grows; 0 while it has none
        self._held: AbstractAsyncContextManager[object] | None = None
        self._attempt: Attempt | None = None
        self._begun = False
        self._perhaps = visit.repeated  # may a host have begun to answer, before it failed?
        self._failed: LocalModelsError | None = None
        self._told: LocalModelsError | None = None

    async def __aenter__(self) -> Self:
        if not self._visit.tried:
            self._traffic.retries.request()
        await self._go(again=bool(self._visit.tried))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        failed = self._failed if error is not None and error is self._told else error
        await self._leave(failed)
        if isinstance(error, LocalModelsError) and not self._taken(failed or error):
            self._visit.admitted = 0
        if isinstance(error, LocalModelsError) and error is not self._told:
            raise self._as_told(error) from None

    def _taken(self, error: BaseException) -> bool:
        """May a host have taken the request up, though it failed with this?"""
        return self._begun or self._perhaps or not isinstance(error, LocalModelsError) or verdict(error) == "perhaps"

    def answered(self) -> None:
        """The first of the answer has come; from now on no other host is asked. Saying so again does no harm."""
        if self._begun:
            return
        self._begun = True
        if self._attempt is not None:
            self._attempt.answered()
        if self._answers is not None:
            self._answers(self.hop)

    def stay(self) -> None:
        """What has come of the request so far means something at this host alone: no other is asked any more."""
        self._hops, self._spare = (self.hop,), ()

    async def hold(self, more: AbstractAsyncContextManager[T]) -> T:
        """Enters what is needed besides the place; it is left with it."""
        held = await more.__aenter__()
        self._held = more
        return held

    async def after(self, error: LocalModelsError, *, unsuited: bool = False) -> None:
        """The host has failed the request. Returns with a place at the next one.

        Args:
            error: as it came.
            unsuited: is it this host alone that cannot do what is asked, and has it done nothing?

        Raises:
            LocalModelsError: the same in other words, if nobody else is asked.
            QueueFull, Unavailable: nobody else has a place.
            OtherWay: further hosts are to be asked by another errand of this visit.
        """
        host = self.hop.host
        if not self._begun and not unsuited:
            self._traffic.met(host, self.hop.model, error)
            if isinstance(error, NotFound):
                self._traffic.missing(host)
        if self._begun or not self._goes_on(error, unsuited=unsuited):
            self._failed, self._told = error, self._as_told(error)
            raise self._told from None
        self._traffic.tally.at(host).failovers[UNSUITED if unsuited else error.code] += 1
        self._tried += (id_of(host.spec),)
        left = [hop for hop in self._hops if hop.host is not host]
        # After one that may have begun there is one more chance, and it is not for proving hosts that were down.
        self._hops = sorted(left, key=lambda hop: hop.host.state != "up") if self._perhaps else left
        await self._leave(error)
        if not self._has_more():
            raise OtherWay
        await self._go(again=True)

    def _has_more(self) -> bool:
        """Is another hop left? If not, the visit knows by now who was asked."""
        if not self._hops:
            self._hops, self._spare = self._spare, ()
        if not self._hops:
            self._visit.tried, self._visit.repeated = frozenset(self._tried), self._perhaps
        return bool(self._hops)

    def _goes_on(self, error: LocalModelsError, *, unsuited: bool) -> bool:
        if len(self._hops) + len(self._spare) + self._beyond < 2:
            return False
        if unsuited:
            return True
        what = verdict(error)
        if what == "perhaps":
            if self._perhaps or self._visit.once:
                return False
            self._perhaps = True
        if what == "refused":
            return False
        met = self._traffic.tally.at(self.hop.host)
        if not self._traffic.retries.take():
            met.refused += 1
            return False
        met.duplicates += what == "perhaps"
        return True

    async def _go(self, *, again: bool = False) -> None:
        """Takes a place at the first hop that has one."""
        visit, traffic = self._visit, self._traffic
        try:
            hop, self._attempt = await self._admitted(again=again)
        except LocalModelsError as error:
            self._told = error  # our own words, of no server
            raise
        self._since = monotonic()
        host = hop.host
        if hop.server is not None and hop.server.now is not hop.server:  # while it waited
            hop = replace(hop, server=hop.server.now)
            self._hops = [hop if one.host is host else one for one in self._hops]
        self.hop = hop
        if hop.server is not None:
            hop.server.enter()
        once.say(once=visit.once)
        visit.server = host.spec.name
        if hop.reason is not None:
            visit.route = hop.reason()
        if hop.target is not None:
            traffic.tally.at(host).chose(hop.target)

    async def _admitted(self, *, again: bool) -> tuple[Hop, Attempt]:
        """A place where the model has not been given up while the request waited: it is not sent to fail there.

        Who asks for one server by its name when the model rests there already, asks that server and is sent.
        """
        fleet, late = self._traffic.fleet, []
        rested = fleet.resting(self._model)
        while True:
            hosts = [hop.host for hop in self._hops]
            if len(hosts) == 1 and hosts[0].state == "down":
                fleet.dare(hosts[0])
            host = await self._place(hosts, again=again)
            hop, attempt = self._hops[hosts.index(host)], fleet.began(host, self._model)
            if not attempt.is_late or (hop.target is None and host.id in rested):
                return hop, attempt
            attempt.ended(_NOTHING)
            self._traffic.places.give_back(host, self._model)
            late.append(host)
            self._tried += (id_of(host.spec),)
            self._hops, again = [one for one in self._hops if one.host is not host], True
            if not self._has_more():
                if self._beyond:
                    raise OtherWay
                raise refusal(late, hop.model, soonest(late, self._model, fleet))

    async def _place(self, hosts: Sequence[Host], *, again: bool) -> Host:
        places, caller = self._traffic.places, self._visit.caller
        few = worth_waiting_for(hosts, self._model) if self.hop.patient else hosts
        try:
            return await places.get(few, caller.id, caller.weight, model=self._model, again=again)
        except QueueFull:
            raise
        except Unavailable:  # those went down while it waited for them
            if len(few) == len(hosts):
                raise
        return await places.get(hosts, caller.id, caller.weight, model=self._model, again=True)

    async def _leave(self, error: BaseException | None) -> None:
        """Gives everything back; ``error`` is what the host met the request with."""
        since, self._since = self._since, 0.0
        if not since:
            return
        once.say(once=False)
        if self._attempt is not None:
            self._attempt.ended(error if self._begun or error is not None else _NOTHING)
        self._traffic.tally.at(self.hop.host).ended[outcome_of(error, begun=self._begun)] += 1
        server = self.hop.server
        try:
            if self._held is not None:
                held, self._held = self._held, None
                await held.__aexit__(type(error) if error is not None else None, error, None)
        finally:
            took = monotonic() - since if error is None and self._begun else None
            self._traffic.places.give_back(self.hop.host, self._model, took)
            if server is not None and server.leave():
                await server.far.close()

    def _as_told(self, error: LocalModelsError) -> LocalModelsError:
        """The error as the caller shall hear it."""
        server = self.hop.server
        if server is None:
            return error
        told, visit = server.said(error, self.hop.model), self._visit
        if not isinstance(told, ModelNotFound) or not visit.model:
            return told
        if visit.model != f"{server.name}/{self.hop.model}":  # the name was right, and what was known of it is old
            return ModelNotFound(visit.model)
        lost = astray(visit.model, self._traffic.fleet, via.way(), aliases=self._traffic.aliases)
        return lost.told_to(visit.caller.may_ask)
