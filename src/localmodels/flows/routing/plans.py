"""Where a request may still go, and what it has met so far: what follows upon a failure is another plan.

The one rule: a plan is what was decided, and changes nothing. Who has a place, and what hosts are told, is said in
:mod:`localmodels.flows.routing.dispatch`.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct
from msgspec.structs import replace

from localmodels.fleet.hosts import Host, same_name
from localmodels.fleet.targets import Target
from localmodels.flows.connections.remotes import Server

Tried = tuple[tuple[str, str], ...]
"""Copies that have failed a request, in order: ids of hosts, and of each the model as ``same_name`` spells it, or
nothing where the host itself has failed."""


class Hop(Struct, frozen=True):
    """Where a request may go.

    Attributes:
        host: who would answer.
        model: its name there.
        server: the connections to it; None is this process's own engine.
        reason: makes the words for why it may go there; None where there was nothing to choose.
        patient: does it rather wait for a host that has the model loaded than have it loaded elsewhere?
        target: the decision for it; None where there was nothing to choose.
        name: under which the model is listed; empty where it is the one that was asked for.
    """

    host: Host
    model: str
    server: Server | None = None
    reason: Callable[[], str] | None = None
    patient: bool = False
    target: Target | None = None
    name: str = ""

    @property
    def reached(self) -> Server:
        """The connections to it; our own engine has none."""
        if self.server is None:
            raise TypeError(f"nothing leads to {self.host.spec.name} but a call")
        return self.server


Further = Callable[[Tried], tuple[Hop, ...]]
"""Decides anew for a request for which these were tried: hops for one model, the best first; none if nobody is left."""


class Plan(Struct, frozen=True):
    """Where a request may go.

    Attributes:
        hops: for one model, the best first; none where nobody is left.
        further: decides anew when these are used up; None where there is nobody else.
        suits: can the request be asked there as it is? None where it can everywhere.
        tried: what has failed it.
        repeated: may a host have begun to answer it, before it failed?
    """

    hops: tuple[Hop, ...]
    further: Further | None = None
    suits: Callable[[Hop], bool] | None = None
    tried: Tried = ()
    repeated: bool = False

    @property
    def model(self) -> str:
        """That is asked for; it is spelled alike wherever it is the same."""
        return same_name(self.hops[0].model)

    @property
    def hosts(self) -> tuple[Host, ...]:
        """In their order."""
        return tuple([hop.host for hop in self.hops])

    @property
    def is_named(self) -> bool:
        """Does it lead to one server that its caller has named?"""
        return self.hops[0].target is None

    def without(self, hop: Hop, *, whole: bool = False, repeated: bool = False) -> Plan:
        """What follows when a hop has failed.

        Args:
            hop: one of these.
            whole: is it the host that has failed, whatever it was asked for?
            repeated: may it have begun to answer?
        """
        failed = (hop.host.id, "" if whole else same_name(hop.model))
        left = tuple(one for one in self.hops if one.host is not hop.host)
        return self._then(left, (*self.tried, failed), repeated=self.repeated or repeated)

    def elsewhere(self) -> Plan:
        """What follows when none of its hosts answers any more."""
        return self._then((), (*self.tried, *((hop.host.id, "") for hop in self.hops)), repeated=self.repeated)

    def alone(self, hop: Hop) -> Plan:
        """The same, and nobody else is asked."""
        return replace(self, hops=(hop,), further=None)

    def suiting(self) -> Plan | None:
        """The same with those hops alone to which the request can go as it is; None where the best is none of them."""
        if self.suits is None:
            return self
        hops = tuple(filter(self.suits, self.hops))
        return replace(self, hops=hops) if hops and hops[0] is self.hops[0] else None

    def _then(self, left: tuple[Hop, ...], tried: Tried, *, repeated: bool) -> Plan:
        hops = left or (self.further(tried) if self.further is not None else ())
        if repeated:  # there is one more chance, and it is not for proving hosts that were down
            hops = tuple(sorted(hops, key=lambda hop: hop.host.state != "up"))
        return replace(self, hops=hops, tried=tried, repeated=repeated)
