"""Whose turn it is where: many hosts, and requests of which each may go to some of them.

The rule: a request goes to the first of its hosts that has a place; if none has, it waits for all of them at once, and
a place that becomes free goes to whoever is next *at that host* among those whom it suits. Each host has turns of its
own (``core.fair``): with one turn for all, who is served all the time at one host would never be next at another.

A caller's own requests need not be served in order: one to which the host is the best of all goes before older ones,
so that prompts are read where they are known, and those are passed over only so often (Zaharia et al., "Delay
Scheduling", 2010). Without it, a fleet that is full once stays so: whatever place becomes free, a prompt is read anew.

What waits is bounded by what its hosts allow together: each request *stands* in the line of one of its hosts, the one
that had most room when it came, and fills one place of that line; it may be called by any of its hosts.

No asyncio and no clock here: the same decisions serve requests (:mod:`.places`) and the simulation of a fleet
(``benchmarks/fleet``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from math import inf

from msgspec import Struct

from localmodels.core.errors import LocalModelsError, QueueFull, Unavailable
from localmodels.fleet.hosts import Host
from localmodels.fleet.stands import Stand, Waiter

# What a request is said to take where none has ended yet, in seconds: about one answer's length.
GUESS = 5.0
# How much the last request weighs in the mean of what they take; the scheduler of our own engine has the same.
WEIGHT = 0.2
SHORTEST_RETRY, LONGEST_RETRY = 1.0, 60.0  # seconds; Retry-After has no smaller unit
HEALING = 5.0  # seconds; a host that is down is looked at again within them
# How often a request may be passed over by others of its caller, for each of its hosts: in that time every host, the
# best one too, has had two places for somebody.
PASSED = 2
_NAMED = 3  # hosts that a message names


class Verdict(Struct, frozen=True):
    """What became of somebody who waited: he has a place at this host, or he is refused."""

    waiter: Waiter
    outcome: Host | LocalModelsError


class Turns:
    """The places of all hosts: owns ``in_flight``, ``asked``, ``waiting`` and ``service`` of each of them.

    After every call, :meth:`settled` tells what became of those who waited.
    """

    def __init__(self) -> None:
        self._stands: dict[Host, Stand] = {}
        self._waiting: dict[str, Waiter] = {}
        self._proving: dict[Host, int] = {}  # who has been given his one request, and how many older ones he has
        self._settled: list[Verdict] = []
        self._count = 0

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return len(self._waiting)

    def settled(self) -> list[Verdict]:
        """What became of those who waited, since this was asked last."""
        settled = self._settled
        if settled:
            self._settled = []
        return settled

    def ask(
        self,
        hosts: Sequence[Host],
        caller: str = "",
        weight: int = 1,
        *,
        model: str = "",
        max_wait: float = inf,
        again: bool = False,
    ) -> Host | Waiter:
        """The first host that has a place, which is taken now; or one who waits.

        Args:
            hosts: all that suit, the best first; at least one.
            caller: whose request it is.
            weight: his share beside others'.
            model: what is asked, as ``same_name`` spells it; empty where that does not matter.
            max_wait: seconds; who would, as things go, wait longer is refused.
            again: has this request had a place that was of no use? Then it goes before its caller's others.

        Raises:
            QueueFull: too many wait already, or it would take too long.
            Unavailable: none of the hosts answers.
        """
        for host in hosts:
            if self._open(host) and (host not in self._stands or self._serve(host)):
                self._give(host, model, caller, weight)
                return host
        answering = [host for host in hosts if host.may_be_asked]
        if not answering:
            raise gone(hosts)
        if (wait := self.foreseen(answering, caller, weight) if max_wait < inf else 0.0) > max_wait:
            why = f"the wait would be about {wait:.1f} s, and the longest that is promised is {max_wait:g} s"
            raise self.full(answering, why, wait - max_wait)
        home = self._room(answering, caller)
        self._count += 1
        number = -self._count if again else self._count
        waiter = Waiter(str(self._count), number, tuple(hosts), home, caller, weight, model)
        self._join(waiter, again)
        return waiter

    def leave(self, waiter: Waiter) -> None:
        """He waits no longer; nothing if he did not."""
        if waiter.key in self._waiting:
            self._part(waiter)
            for host in waiter.hosts:
                self._tidy(host)

    def give_back(self, host: Host, model: str = "", seconds: float | None = None) -> None:
        """A place is free again, after so many seconds; None where the request ended badly, which tells nothing."""
        host.in_flight -= 1
        if model:
            asked = {**host.asked, model: host.asked[model] - 1}
            if not asked[model]:
                del asked[model]
            host.asked = asked
        self._proved(host)
        if seconds is not None:
            host.service = host.service + WEIGHT * (seconds - host.service) if host.service else seconds
        if host in self._stands:
            self._serve(host)
            self._tidy(host)

    def unused(self, host: Host, model: str = "") -> None:
        """A place is free again that nobody has taken: who was called had left already."""
        self._proving.pop(host, None)
        self.give_back(host, model)

    def is_open(self, host: Host) -> bool:
        """Has it a place, for whoever is next there?"""
        return self._open(host)

    def look(self, host: Host) -> None:
        """After it came up or went down, or a limit of it was changed: some have places now, others wait in vain."""
        if host.state != "trying" or host.proving:  # it is known by now which request proves it
            self._proving.pop(host, None)
        self._serve(host)
        stand = self._stands.get(host)
        if stand and not host.may_be_asked:
            for waiter in [one for one in stand.line.values() if not any(other.may_be_asked for other in one.hosts)]:
                self.leave(waiter)
                self._settled.append(Verdict(waiter, gone(waiter.hosts)))

    def foreseen(self, hosts: Iterable[Host], caller: str, weight: int = 1) -> float:
        """Seconds that a request of this caller would wait if it came now, as things go; 0 while nobody can know.

        Who is ahead at several hosts counts where he stands.
        """
        ahead = rate = 0.0
        for host in hosts:
            if not host.service:
                return 0.0
            rate += host.spec.max_concurrent / host.service
            stand = self._stands.get(host)
            if stand and len(stand.line):
                ahead += stand.line.ahead(caller, weight) * host.waiting / len(stand.line)
        return (ahead + 1) / rate if rate else 0.0

    def full(self, hosts: Sequence[Host], why: str, seconds: float | None = None) -> QueueFull:
        """A refusal; who comes back after so many seconds, or when all who wait now were served, may well find room."""
        if seconds is None:
            rate = sum(max(1, host.spec.max_concurrent) / (host.service or GUESS) for host in hosts)
            seconds = (sum(host.waiting for host in hosts) + 1) / rate
        retry_after = min(LONGEST_RETRY, max(SHORTEST_RETRY, seconds))
        return QueueFull(f"{words_for(hosts)} {_is(hosts)} busy: {why}", retry_after=retry_after)

    def _open(self, host: Host) -> bool:
        """Has it a place? One that was down gets one request, by which it is judged."""
        return host.free and host.may_be_asked and (host.state != "trying" or host not in self._proving)

    def _serve(self, host: Host) -> bool:
        """Gives its free places to those who wait for it; is one left?"""
        stand = self._stands.get(host)
        while stand and self._open(host):
            if (first := self._next(stand, host)) is None:
                return True
            self._part(first)
            self._give(host, first.model, first.caller, first.weight)
            self._settled.append(Verdict(first, host))
            for other in first.hosts:
                self._tidy(other)
        return self._open(host)

    def _next(self, stand: Stand, host: Host) -> Waiter | None:
        """Who gets a place here: of the caller whose turn it is, the oldest request to which this host is the best.

        If he has none, his oldest; or if that has been passed over too often.
        """
        oldest = stand.line.first()
        if oldest is None or oldest.hosts[0] is host or oldest.passed >= PASSED * len(oldest.hosts):
            return oldest
        best = next(iter(stand.best.of(oldest.caller)), oldest)
        oldest.passed += 1
        return best

    def _give(self, host: Host, model: str, caller: str, weight: int) -> None:
        if host.state == "trying":
            self._proving[host] = host.in_flight
        host.in_flight += 1
        if model:
            host.asked = {**host.asked, model: host.asked.get(model, 0) + 1}
        if host.spec.max_concurrent:
            self._stand(host).line.served(caller, weight)

    def _proved(self, host: Host) -> None:
        """A place there is free again: of whoever proves it, once all who were there before him must have gone."""
        older = self._proving.get(host)
        if older is None:
            return
        if older and host.in_flight:
            self._proving[host] = older - 1
        else:
            del self._proving[host]

    def _room(self, hosts: Sequence[Host], caller: str) -> Host:
        """In whose line a request of this caller stands."""
        home = max(hosts, key=_room_at)
        if _room_at(home) > 0:
            return home
        goes = self._surplus(hosts, caller)
        if goes is None:
            raise self.full(hosts, f"{sum(host.waiting for host in hosts)} requests wait already")
        self.leave(goes)
        refusal = self.full(goes.hosts, "others who had fewer requests here came")
        self._settled.append(Verdict(goes, refusal))
        return goes.home

    def _surplus(self, hosts: Iterable[Host], caller: str) -> Waiter | None:
        """Who goes for a request of this caller: the newest of whoever has most here, if the caller still has less."""
        stands = [self._stands[host] for host in hosts if host.waiting]
        counts: Counter[str] = Counter()
        for stand in stands:
            counts.update(stand.standing.counts())
        if not counts:
            return None
        who, most = counts.most_common(1)[0]
        if most <= counts[caller] + 1:
            return None
        return max((one for stand in stands for one in stand.standing.of(who)), key=lambda one: one.number)

    def _join(self, waiter: Waiter, again: bool) -> None:
        self._waiting[waiter.key] = waiter
        for host in waiter.hosts:
            self._stand(host).line.join(waiter.key, waiter, waiter.caller, waiter.weight, first=again)
        self._stand(waiter.home).standing.add(waiter)
        self._stand(waiter.hosts[0]).best.add(waiter)
        waiter.home.waiting += 1

    def _part(self, waiter: Waiter) -> None:
        del self._waiting[waiter.key]
        for host in waiter.hosts:
            self._stands[host].line.leave(waiter.key)
        self._stands[waiter.home].standing.take(waiter)
        self._stands[waiter.hosts[0]].best.take(waiter)
        waiter.home.waiting -= 1

    def _stand(self, host: Host) -> Stand:
        stand = self._stands.get(host)
        if stand is None:
            stand = self._stands[host] = Stand()
        return stand

    def _tidy(self, host: Host) -> None:
        """A host where nobody is has no line; so nothing stays of hosts that have left the fleet."""
        stand = self._stands.get(host)
        if stand and not host.in_flight and not len(stand.line):
            del self._stands[host]


def gone(hosts: Sequence[Host]) -> Unavailable:
    """None of them can be asked."""
    if len(hosts) == 1:
        return Unavailable(f"{words_for(hosts)} does not answer", retry_after=HEALING)
    return Unavailable(f"none of {words_for(hosts)} answers", retry_after=HEALING)


def words_for(hosts: Sequence[Host]) -> str:
    """For messages: the server 'a', or the servers 'a', 'b', 'c' and 5 more."""
    names = ", ".join(f"'{host.spec.name}'" for host in hosts[:_NAMED])
    more = f" and {len(hosts) - _NAMED} more" if len(hosts) > _NAMED else ""
    return f"the server{'s' if len(hosts) > 1 else ''} {names}{more}"


def _is(hosts: Sequence[Host]) -> str:
    return "is" if len(hosts) == 1 else "are"


def _room_at(host: Host) -> int:
    return host.spec.max_queue - host.waiting
