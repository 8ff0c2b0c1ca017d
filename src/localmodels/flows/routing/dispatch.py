"""One request on its way to a host that answers it: where it is, who is asked next, and what each host is said to be.

The one rule: another host is asked only before the first of an answer has come; what follows on an error is said in
:mod:`localmodels.flows.connections.failover`, and who is next by its plan (:mod:`localmodels.flows.routing.plans`). So
the caller gets one answer, or one error, and every host is told apart by what it did::

    async with Errand(hops, visit, traffic) as errand:     # it has a place at errand.hop
        while True:
            try:
                …ask errand.hop, and call errand.answered() when the first of its answer has come…
                return
            except LocalModelsError as error:
                await errand.after(error)                  # raises it, or has a place at the next hop
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Self, TypeVar

from localmodels.core import via
from localmodels.core.errors import LocalModelsError, ModelNotFound, NotFound, QueueFull, Unavailable
from localmodels.fleet.breaker import is_of_the_model
from localmodels.fleet.hosts import Host
from localmodels.fleet.patience import worth_waiting_for
from localmodels.flows.connections.failover import verdict
from localmodels.flows.connections.request_counts import UNSUITED
from localmodels.flows.connections.server_names import astray
from localmodels.flows.connections.traffic import Traffic
from localmodels.flows.routing.plans import Further, Hop, Plan
from localmodels.flows.routing.refusals import refusal, soonest
from localmodels.flows.routing.seats import Seat
from localmodels.flows.visit import Visit

T = TypeVar("T")

# What a host is told of a request that ended before it was asked anything.
_NOTHING = GeneratorExit()


class OtherWay(Exception):
    """The request may be asked of further hosts, and not as it is: its visit tells whom it has tried."""


class Errand:
    """One request.

    Args:
        hops: where it may go, the best first; at least one.
        visit: is told who answers, and why.
        traffic: what all requests share.
        answers: is told where the first of the answer came from.
        further: decides anew when all hops have failed; None where there is nobody else.
        suits: can a hop be asked as the request is? Where the best of the further ones cannot, only another errand
            leads there.

    Attributes:
        hop: where it is.
    """

    __slots__ = (
        "_answers",
        "_begun",
        "_empty",
        "_failed",
        "_heard",
        "_plan",
        "_seat",
        "_told",
        "_traffic",
        "_visit",
        "hop",
    )

    def __init__(
        self,
        hops: Sequence[Hop],
        visit: Visit,
        traffic: Traffic,
        answers: Callable[[Hop], object] | None = None,
        further: Further | None = None,
        suits: Callable[[Hop], bool] | None = None,
    ) -> None:
        if visit.repeated:  # the one repetition goes to who is known to be well
            hops = sorted(hops, key=lambda hop: hop.host.state != "up")
        self.hop = hops[0]
        self._plan = Plan(tuple(hops), further, suits, visit.tried, visit.repeated)
        self._visit = visit
        self._traffic = traffic
        self._answers = answers
        self._seat: Seat | None = None
        self._begun = self._empty = self._heard = False
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
        taken = self._taken(failed or error)
        await self._leave(failed)
        if not taken:
            self._visit.admitted = 0
        if isinstance(error, LocalModelsError) and error is not self._told:
            raise self._as_told(error) from None

    def _taken(self, error: BaseException | None) -> bool:
        """May a host have taken the request up, though it ends with this? It has a place, or has had one."""
        if self._begun or self._heard or self._plan.repeated or self._visit.repeated:
            return True
        return self._seat is not None and (not isinstance(error, LocalModelsError) or verdict(error) == "perhaps")

    def heard(self) -> None:
        """The host has begun to answer, and nothing of it goes out yet: if it breaks off, one other may be asked."""
        self._heard = True
        if self._seat is not None:
            self._seat.answered()

    def answered(self) -> None:
        """The first of the answer has come; from now on no other host is asked. Saying so again does no harm."""
        if self._begun:
            return
        self._begun = True
        if self._seat is not None:
            self._seat.answered()
        if self._answers is not None:
            self._answers(self.hop)

    def empty(self) -> None:
        """What was answered has no content (a load): how long it took tells nothing of how long answers take."""
        self._empty = True

    def stay(self) -> None:
        """What has come of the request so far means something at this host alone: no other is asked any more."""
        self._plan = self._plan.alone(self.hop)

    async def hold(self, more: AbstractAsyncContextManager[T]) -> T:
        """Enters what is needed besides the place; it is left with it."""
        if self._seat is None:
            raise TypeError("only who has a place can hold more")
        return await self._seat.hold(more)

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
        following = None if self._begun else self._following(error, unsuited=unsuited)
        if following is None:
            self._failed, self._told = error, self._as_told(error)
            raise self._told from None
        self._traffic.tally.at(host).failovers[UNSUITED if unsuited else error.code] += 1
        await self._leave(error)
        self._follow(following)
        await self._go(again=True)

    def _following(self, error: LocalModelsError, *, unsuited: bool) -> Plan | None:
        """Who is asked after this host; None where nobody is."""
        what = "untouched" if unsuited else verdict(error)
        if what == "untouched" and self._heard:  # whatever it says of itself: it has generated
            what = "perhaps"
        if what == "refused" or (what == "perhaps" and (self._plan.repeated or self._visit.once)):
            return None
        whole = not unsuited and not is_of_the_model(error)
        following = self._plan.without(self.hop, whole=whole, repeated=what == "perhaps")
        if not following.hops:
            return None
        if unsuited and not self._heard:
            return following
        met = self._traffic.tally.at(self.hop.host)
        if not self._traffic.retries.take():
            met.refused += 1
            return None
        met.duplicates += what == "perhaps"
        return following

    def _follow(self, plan: Plan) -> None:
        """Goes by another plan from now on.

        Raises:
            OtherWay: the best of its hosts cannot be asked as the request is.
        """
        suiting = plan.suiting()
        if suiting is None:
            self._visit.tried, self._visit.repeated = plan.tried, plan.repeated
            raise OtherWay
        self._plan = suiting

    async def _go(self, *, again: bool = False) -> None:
        """Takes a place at the first hop that has one."""
        visit = self._visit
        try:
            self._seat = await self._seated(again=again)
        except LocalModelsError as error:
            self._told = error  # our own words, of no server
            raise
        hop = self.hop = self._seat.hop
        visit.server = hop.host.spec.name
        visit.model = hop.name or visit.model
        if hop.reason is not None:
            visit.route = hop.reason()
        if hop.target is not None:
            self._traffic.tally.at(hop.host).chose(hop.target)

    async def _seated(self, *, again: bool) -> Seat:
        """A place where the model has not been given up while the request waited: it is not sent to fail there.

        Who asks for one server by its name when the model rests there already, asks that server and is sent.
        """
        fleet, late = self._traffic.fleet, list[Host]()
        rested = fleet.given_up(self._plan.model) if self._plan.is_named else frozenset()
        while True:
            plan = self._plan
            try:
                host = await self._place(plan, again=again)
            except QueueFull:  # they are well, and have too much to do
                raise
            except Unavailable:  # none of these answers any more
                following = plan.elsewhere()
                if not following.hops:
                    raise
            else:
                hop = next(hop for hop in plan.hops if hop.host is host)
                attempt = fleet.began(host, plan.model)
                if not attempt.is_late or (host.id, attempt.model) in rested:
                    return Seat(hop, attempt, self._traffic, once_only=self._visit.once)
                attempt.ended(_NOTHING)
                self._traffic.places.give_back(host, attempt.model)
                late.append(host)
                following = plan.without(hop)
                if not following.hops:
                    raise self._refusal(late, hop, following)
            self._follow(following)
            again = True

    def _refusal(self, late: Sequence[Host], hop: Hop, plan: Plan) -> Unavailable:
        """That the model was given up wherever it could be asked; whoever has failed before may heal first."""
        fleet = self._traffic.fleet
        tried = [(host, model) for id_, model in plan.tried if (host := fleet.host(id_)) is not None]
        return refusal(late, self._visit.model or hop.model, soonest(tried, fleet))

    async def _place(self, plan: Plan, *, again: bool) -> Host:
        """A place at one of the hosts: for a moment only where the model is, if that is worth it, and then at any."""
        patience, hosts, model = self._traffic.places.patience, plan.hosts, plan.model
        if plan.hops[0].patient:
            few, seconds = worth_waiting_for(hosts, model)
            if len(few) < len(hosts):
                loop = asyncio.get_running_loop()
                begun = loop.time()
                try:
                    return await self._place_at(few, model, seconds, again=again)
                except (QueueFull, Unavailable):  # it would be loaded elsewhere by now; or they went down, or are full
                    again, patience = True, max(0.0, patience - (loop.time() - begun))
        return await self._place_at(hosts, model, patience, again=again)

    async def _place_at(self, hosts: Sequence[Host], model: str, patience: float, *, again: bool) -> Host:
        self._dare(hosts)
        caller = self._visit.caller
        return await self._traffic.places.get(
            hosts, caller.id, caller.weight, model=model, again=again, patience=patience
        )

    def _dare(self, hosts: Sequence[Host]) -> None:
        """The first that has a place may be one that is down, and is proved by who gets it: this request, right now.

        Whoever asks for one server by its name asks that server, whatever is thought of it.
        """
        fleet, places = self._traffic.fleet, self._traffic.places
        for host in hosts:
            if places.is_open(host):
                return
            if host.state == "down" and host.free and (self._plan.is_named or fleet.may_be_dared(host)):
                fleet.dare(host)
                return

    async def _leave(self, error: BaseException | None) -> None:
        """Gives everything back; ``error`` is what the host met the request with."""
        seat, self._seat = self._seat, None
        self._heard = False
        if seat is not None:
            await seat.leave(error, timed=self._begun and not self._empty)

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
        return lost.told_to(visit.caller)
