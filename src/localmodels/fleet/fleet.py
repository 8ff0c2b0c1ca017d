"""All hosts: the one owner of what is known of them, and the index from a model's name to who has it.

It hears of probes (:meth:`Fleet.saw`, :meth:`Fleet.failed`), of requests (:meth:`Fleet.began`), of their owner's words
(:meth:`Fleet.adopt`, :meth:`Fleet.restrict`) and of other gateways (:meth:`Fleet.elsewhere`), and tells whoever
listens. The one rule: nothing here waits or asks anybody; every method is done when it returns.
"""

from __future__ import annotations

import logging
from bisect import bisect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from math import inf
from time import monotonic, time_ns

from localmodels.core.errors import Forbidden, LocalModelsError, LoopDetected, QueueFull, RateLimited, Unauthenticated
from localmodels.core.fleet import Loads, ModelRow
from localmodels.core.servers import ServerSpec, key_goes, scope_missing
from localmodels.dialects.told import Told
from localmodels.fleet import breaker
from localmodels.fleet.breaker import Breaker
from localmodels.fleet.copies import Copies, healing, may_be_tried, rests
from localmodels.fleet.hosts import Host, id_of, same_name
from localmodels.fleet.sights import Rows, remembered, sight_of

__all__ = ["BUSY", "FRESH_LOADS", "Attempt", "Fleet", "Listener", "failure_of", "id_of"]

log = logging.getLogger(__name__)

# Seconds for which the word of another gateway counts. It says it again every second; one that died leaves nothing
# behind that would keep places free for it.
FRESH_LOADS = 5.0

BUSY = (QueueFull, RateLimited)

Listener = Callable[[Host], object]


class Attempt:
    """One request at one host, from the moment in which it has its place there.

    Attributes:
        host: where.
        model: that it asks for; empty where nobody says.
        is_cold: does the host not count it among those in its memory?
        is_proof: may it prove a host that was down?
        is_try: does it try a model that was given up there?
        is_late: was the model given up there before its turn came, so that only another may try it?
    """

    __slots__ = ("_done", "_era", "_fleet", "_heard", "host", "is_cold", "is_late", "is_proof", "is_try", "model")

    def __init__(
        self,
        fleet: Fleet,
        host: Host,
        era: int,
        *,
        model: str = "",
        is_cold: bool = False,
        is_proof: bool = False,
        is_try: bool = False,
        is_late: bool = False,
    ) -> None:
        self.host = host
        self.model = model
        self.is_cold = is_cold
        self.is_proof = is_proof
        self.is_try = is_try
        self.is_late = is_late
        self._fleet = fleet
        self._era = era
        self._heard = self._done = False

    def answered(self) -> None:
        """The first of its answer has come. Saying so again does no harm."""
        if not self._heard and not self._done:
            self._heard = True
            self._fleet._answered(self, self._era)

    def ended(self, error: BaseException | None = None) -> None:
        """It is over: answered to its end, or by this. Saying so again does no harm.

        Args:
            error: what the host met it with, before it is put in other words for the caller; what is no error of the
                host (its caller left, our own defect) does not count.
        """
        if not self._done:
            self._done = True
            self._fleet._ended(self, error, self._era)


class Fleet:
    """The hosts.

    Args:
        clock: seconds that only ever grow.
        now: nanoseconds since 1970.

    Attributes:
        shared: is any server registered, so that our own engine is one of many?
    """

    def __init__(self, *, clock: Callable[[], float] = monotonic, now: Callable[[], int] = time_ns) -> None:
        self._clock = clock
        self._now = now
        self._hosts: dict[str, Host] = {}
        self._names: dict[str, Host] = {}
        self._holders: dict[str, tuple[Host, ...]] = {}
        self._offers: dict[Host, frozenset[str]] = {}
        self._breakers: dict[Host, Breaker] = {}
        self._copies = Copies()
        self._told: dict[Host, Told] = {}
        self._heard: dict[Host, float] = {}
        self._behind: dict[Host, float] = {}
        self._order: dict[Host, int] = {}
        self._rows: dict[str, Rows] = {}
        self._listeners: list[Listener] = []
        self.shared = False

    # Who reads.

    def hosts(self) -> tuple[Host, ...]:
        """All, in the order in which they were adopted; also those that may not be asked."""
        return tuple(self._hosts.values())

    def host(self, id: str) -> Host | None:  # noqa: A002
        """The one with this id."""
        return self._hosts.get(id)

    def named(self, name: str) -> Host | None:
        """The one of this name, in any case of letters."""
        return self._names.get(name.lower())

    def holders(self, model: str) -> Sequence[Host]:
        """Who offers this model under its bare name (as ``same_name`` spells it), whether it answers now or not.

        These are registered servers and our own engine with all that they have, and servers of the file with the models
        that their tables list; other models of these are asked by ``NAME/MODEL`` alone.
        """
        return self._holders.get(model, ())

    def told(self, host: Host) -> Told | None:
        """What it told last, whole: also models that are switched off, and when each was changed."""
        return self._told.get(host)

    def silence(self, host: Host) -> float | None:
        """Seconds since it has told anything; None where it never has."""
        return self._clock() - host.sight.at if host.sight is not None and host in self._told else None

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Calls this whenever anything of a host is not as it was; what is returned ends it.

        The host came or left or has other settings, went down or came up, told something, has more room, was asked for
        a model that is not in its memory or has answered with it, or has begun to fail or to answer again. A listener
        must not raise.
        """
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    # What their owner says.

    def adopt(self, specs: Iterable[ServerSpec]) -> None:
        """These and no others from now on. Who is still at his address remains the same, with all that is known."""
        before, self._hosts = self._hosts, {}
        changed = []
        for spec in specs:
            host = before.get(id_of(spec))
            if host is None or (host.spec.url, host.spec.kind) != (spec.url, spec.kind):
                host = Host(spec)
                self._breakers[host] = breaker.FRESH
                changed.append(host)
            elif host.spec != spec:
                host.spec = spec
                changed.append(host)
            self._hosts[id_of(spec)] = host
        self.shared = any(host.spec.registered for host in self._hosts.values())
        self._names = {host.spec.name.lower(): host for host in reversed(self._hosts.values())}
        self._order = {host: place for place, host in enumerate(self._hosts.values())}
        self._holders, self._offers = {}, {}
        for host in changed:
            self._look_again(host)
        for host in self._hosts.values():
            self._index(host)
        for host in before.values():
            if self._hosts.get(host.id) is not host:
                for known_of in (self._breakers, self._told, self._heard, self._behind):
                    known_of.pop(host, None)
                self._copies.forget(host)
                host.state = "down"  # who waits for a place there waits in vain
                changed.append(host)
        for host in changed:
            self._tell(host)

    def restrict(self, rows: Iterable[ModelRow]) -> None:
        """What their owners say of all models: those switched off are not held, capabilities and priorities count."""
        by_server: dict[str, dict[str, ModelRow]] = {}
        for row in rows:
            by_server.setdefault(row.server_id, {})[same_name(row.model)] = row
        self._rows = dict(by_server)
        for host in self._hosts.values():
            self._look_again(host)
            self._index(host)

    def off(self, host: Host) -> frozenset[str]:
        """Models that its owner has switched off there, as they were called when he did."""
        return frozenset(row.model for row in self._rows.get(host.id, {}).values() if not row.is_active)

    # What probes met.

    def saw(self, host: Host, told: Told, since: float = inf) -> None:
        """A probe was good; it began at ``since``, by the fleet's clock, or has just been made."""
        if not self._owns(host):
            return
        if self._behind.get(host, since) <= since:
            self._behind.pop(host, None)
        host.checked_at = self._now()
        self._told[host] = told
        self._look_again(host, at=self._clock())
        self._index(host)
        self._become(host, breaker.seen(self._breakers[host]))
        self._tell(host)

    def failed(self, host: Host, error: LocalModelsError, since: float) -> None:
        """A probe that began at ``since`` failed. Where an answer came meanwhile, that is the newer word.

        Args:
            host: which.
            error: why; who says that he is too busy to tell, is well.
            since: seconds of the fleet's clock.
        """
        if not self._owns(host):
            return
        host.checked_at = self._now()
        if isinstance(error, BUSY):
            self._become(host, breaker.seen(self._breakers[host]))
            return
        if self._heard.get(host, since) > since:
            return
        host.failure = failure_of(error, host.spec)
        if isinstance(error, LoopDetected):
            self._forget(host)
        self._become(host, breaker.unseen(self._breakers[host]))

    # What requests met.

    def is_doubted(self, host: Host) -> bool:
        """Has it failed requests since it answered, but not so many that it, or a model of it, was given up?"""
        known = self._breakers.get(host)
        return known is not None and known.state == "up" and (known.row > 0 or self._copies.fails(host))

    def is_behind(self, host: Host) -> bool:
        """Is another model in its memory, or one less, since it told what is there?"""
        return host in self._behind

    def memory_changed(self, host: Host) -> None:
        """A request has taken a model out of its memory: what it told of that is old."""
        if self._owns(host):
            self._behind[host] = self._clock()
            self._tell(host)

    def may_be_dared(self, host: Host) -> bool:
        """Is it down, and may a request prove it that can go nowhere else? Only requests have found it so."""
        known = self._breakers.get(host)
        return known is not None and host.spec.is_active and breaker.untried(known, self._clock()) == 0.0

    def dare(self, host: Host) -> None:
        """A request that gets its place there now may prove it, where it is down."""
        if self._owns(host):
            self._become(host, breaker.dared(self._breakers[host]))

    def given_up(self, model: str = "", *, last: bool = False) -> frozenset[tuple[str, str]]:
        """Copies that rest since they have failed so often, as ids of hosts and models.

        Args:
            model: this one's, as ``same_name`` spells it; empty for all.
            last: without those that a request may try which can go nowhere else.
        """
        if not self._copies:
            return frozenset()
        now = self._clock()
        if model:
            resting = ((host, model, self._copies.of(host, model)) for host in self._copies.resting(model, now))
        else:
            resting = (one for one in self._copies.given_up() if rests(one[2], now))
        return frozenset((host.id, name) for host, name, copy in resting if not (last and may_be_tried(copy, now)))

    def healing(self, host: Host, model: str) -> float | None:
        """Seconds until a request that can go nowhere else may try a host; None where a probe has to find it well."""
        now, known = self._clock(), self._breakers.get(host)
        rest = healing(self._copies.of(host, model), now)
        if known is None or known.state != "down":
            return rest
        seconds = breaker.untried(known, now)
        return None if seconds is None else max(seconds, rest)

    def began(self, host: Host, model: str = "") -> Attempt:
        """A request has a place there, and is about to be sent; called as soon as it has it.

        Args:
            host: where.
            model: as ``same_name`` spells it; one that is not in its memory will soon be.
        """
        if not self._owns(host):
            return Attempt(self, host, 0, model=model)
        after, is_proof = breaker.began(self._breakers[host])
        self._become(host, after)
        is_cold = bool(model) and host.is_warm(model) is False
        if is_cold:
            self._tell(host)
        now = self._clock()
        is_try = bool(self._copies) and self._copies.began(host, model, now)
        is_late = bool(self._copies) and not is_try and rests(self._copies.of(host, model), now)
        return Attempt(
            self, host, after.era, model=model, is_cold=is_cold, is_proof=is_proof, is_try=is_try, is_late=is_late
        )

    def _answered(self, attempt: Attempt, era: int) -> None:
        host = attempt.host
        if not self._owns(host):
            return
        self._heard[host] = self._clock()
        self._become(host, breaker.answered(self._breakers[host], era))
        if self._copies:
            self._copies.heard(host, attempt.model)
        if attempt.is_cold and host.is_warm(attempt.model) is False:
            self._behind[host] = self._clock()
            self._tell(host)

    def _ended(self, attempt: Attempt, error: BaseException | None, era: int) -> None:
        host = attempt.host
        if not self._owns(host):
            return
        before, was_doubted = self._breakers[host], self.is_doubted(host)
        after = self._judged(attempt, error, era)
        if after.state == "down" != before.state:
            host.failure = failure_of(error, host.spec) if isinstance(error, LocalModelsError) else "it does not answer"
        self._become(host, after)
        if after.state == before.state and self.is_doubted(host) != was_doubted:
            self._tell(host)

    def _judged(self, attempt: Attempt, error: BaseException | None, era: int) -> Breaker:
        """How a host has answered, after a request has ended; what only its model is to blame for leaves it well."""
        host, model, now = attempt.host, attempt.model, self._clock()
        before, met = self._breakers[host], breaker.met(error)
        if met == "answer":
            self._heard[host] = now
            if self._copies:
                self._copies.answered(host, model)
        elif met == "nothing":
            if attempt.is_try:
                self._copies.left(host, model, now)
        elif model and breaker.is_of_the_model(error):
            was_given_up = self._copies.of(host, model).rest > 0
            told = self._copies.failed(
                host,
                model,
                now,
                silent=met == "silence",
                trying=attempt.is_try,
                answered_at=self._heard.get(host, -inf),
            )
            if told.given_up and isinstance(error, LocalModelsError):
                # Its kind alone: a server may say anything in an error, also our key or what it was asked.
                log.warning("the model '%s' is given up on the server '%s': %s", model, host.spec.name, error.code)
            if told.blames_server:
                return breaker.given_up(before)
            if before.state != "trying" or was_given_up:
                met = "nothing"
        elif attempt.is_try:  # nobody could ask for the model
            self._copies.left(host, model, now)
        return breaker.ended(before, met, era, proving=attempt.is_proof, now=now)

    # What other gateways say.

    def elsewhere(self, loads: Collection[Loads]) -> None:
        """What others have under way, of each its latest word; all that they have said before is forgotten."""
        now = self._now()
        latest = {one.gateway: one for one in sorted(loads, key=lambda one: one.at)}
        counts = [one.in_flight for one in latest.values() if abs(now - one.at) <= FRESH_LOADS * 1e9]
        for id_, host in self._hosts.items():
            before, host.elsewhere = host.elsewhere, sum(max(0, count.get(id_, 0)) for count in counts)
            if host.elsewhere < before:
                self._tell(host)

    def keep(self, places: Mapping[str, int]) -> None:
        """So many places are the part of other gateways, by the hosts' ids; of others it stays as it was."""
        for id_, kept in places.items():
            if host := self._hosts.get(id_):
                before, host.kept = host.kept, kept
                if kept < before:
                    self._tell(host)

    def _owns(self, host: Host) -> bool:
        return host in self._breakers

    def _look_again(self, host: Host, at: float | None = None) -> None:
        """Makes its sight anew, of what it told (now, at ``at``, or before) and of what its owner says.

        One that was never asked has what it had when somebody wrote it down: a gateway that starts must not say for a
        moment that nobody has a model.
        """
        told, rows = self._told.get(host), self._rows.get(host.id, {})
        if told is None and not host.spec.models and not rows:
            host.sight = None
            return
        if at is None:
            at = self._clock() if told is None or host.sight is None else host.sight.at
        host.sight = sight_of(told or remembered(rows), host.spec, rows, at)

    def _forget(self, host: Host) -> None:
        """What it told is not its own: it leads back to us."""
        self._told.pop(host, None)
        host.sight = None
        self._index(host)

    def _index(self, host: Host) -> None:
        """Puts it where the models that it offers under their bare names are, and nowhere else."""
        before, after = self._offers.get(host, frozenset()), _offers(host)
        self._offers[host] = after
        for model in before - after:
            left = tuple(one for one in self._holders[model] if one is not host)
            if left:
                self._holders[model] = left
            else:
                del self._holders[model]
        for model in after - before:
            held = self._holders.get(model, ())
            place = bisect(held, self._order[host], key=self._order.__getitem__)
            self._holders[model] = (*held[:place], host, *held[place:])

    def _become(self, host: Host, after: Breaker) -> None:
        before = self._breakers[host]
        if after is before:  # as after most requests
            return
        self._breakers[host] = after
        if after.state == before.state and after.proving == before.proving:
            return
        host.state, host.proving = after.state, after.proving
        if after.state == "down":
            log.warning("the server '%s' is given up: %s", host.spec.name, host.failure)
        else:
            host.failure = ""
            if before.state in {"down", "trying"} and after.state == "up":
                log.info("the server '%s' answers again", host.spec.name)
        self._tell(host)

    def _tell(self, host: Host) -> None:
        for listener in tuple(self._listeners):
            listener(host)


def _offers(host: Host) -> frozenset[str]:
    """The models that may be asked for there by their bare names."""
    bare = host.is_shared or host.spec.models
    return frozenset(host.sight.holdings) if bare and host.sight is not None else frozenset()


def failure_of(error: LocalModelsError, spec: ServerSpec) -> str:
    """Why a server is down, for people: without our key, which it may have said again."""
    said = spec.key.out_of(error.message)
    if isinstance(error, Unauthenticated):
        if spec.key or spec.key_file:
            return f"it refuses our key; {key_goes(spec, 'another')}"
        return f"it asks for a key; {key_goes(spec)}"
    if isinstance(error, Forbidden):
        return f"it does not allow us this: {scope_missing(said, spec) or said}"
    return said
