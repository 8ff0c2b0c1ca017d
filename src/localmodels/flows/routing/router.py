"""Which hosts a bare name means, and where a request for it goes: routing with a memory.

The decision itself is pure (:mod:`localmodels.fleet.routing`). One owner: :class:`Routes` keeps what decisions go by
besides the hosts: who was sent which prompts, where conversations are at home, whose turn it is. The one rule: what is
remembered is remembered when an answer has begun, so that a host that fails is nobody's home.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

from msgspec import Raw, Struct
from msgspec.structs import replace

from localmodels.backends.kinds import KINDS
from localmodels.core import via
from localmodels.core.access import EVERY_MODEL, Caller
from localmodels.core.chat import ChatRequest, EmbedRequest, GenerateRequest
from localmodels.core.errors import Forbidden, LocalModelsError, ModelNotFound
from localmodels.core.rerank import RerankRequest
from localmodels.dialects.protocol import Call
from localmodels.fleet.affinity import Affinity, Prefix, Sessions
from localmodels.fleet.automatic import is_automatic
from localmodels.fleet.copies import BLAMED
from localmodels.fleet.hosts import Host, same_name
from localmodels.fleet.prefix import marks_of, marks_of_fields
from localmodels.fleet.routing import Ask, Explanation, Target, decide, explain
from localmodels.flows.answering.chat import Request
from localmodels.flows.connections.remotes import Remotes
from localmodels.flows.routing.plans import Further, Hop, Tried
from localmodels.flows.routing.refusals import refusal, soonest
from localmodels.flows.visit import Visit

# Policies that go by where a prompt was read before; under the others nobody looks at it.
_BY_PROMPT = frozenset({"auto", "prefix"})
# Kinds of servers that only hold conversations, and the calls that are one.
_CONVERSATION: frozenset[Call] = frozenset({"chat", "count"})
_TALKERS = frozenset(kind for kind, row in KINDS.items() if row.passes <= _CONVERSATION)


class Meant(Struct, frozen=True):
    """What a bare name means.

    Attributes:
        name: under which it is listed; the name itself where the choice of the model is ours.
        model: the same as routing compares it.
        hosts: all that might answer.
    """

    name: str
    model: str
    hosts: tuple[Host, ...]


class Decision(Struct, frozen=True):
    """Where a request goes.

    Attributes:
        model: the name under which it is listed.
        hops: the hosts, the best first.
        answers: to be called with the one from which the first of the answer came.
        further: decides anew for when these have failed; where the choice of the model is ours, for any.
    """

    model: str
    hops: tuple[Hop, ...]
    answers: Callable[[Hop], None]
    further: Further


class Routes:
    """Where requests go.

    Args:
        remotes: connections; its fleet knows how the hosts are.
        policy: a name in ``fleet.routing.POLICIES``, from now on.
    """

    def __init__(self, remotes: Remotes, *, policy: str = "auto") -> None:
        self.remotes = remotes
        self.policy = policy
        self._fleet = remotes.fleet
        self._affinity = Affinity()
        self._sessions = Sessions()
        self._turn = 0
        self._fleet.listen(self._heard)

    def meant(self, name: str) -> Meant | None:
        """The hosts that this bare name means, by looks into dicts; None where it is no name of the fleet.

        Servers of the owner's file go before all others: their tables say by name what they are there for. Who has it
        only through the gateways that the request has passed is left out: it would come back.
        """
        model = same_name(name)
        holders = self._fleet.holders(model)
        if not holders:
            return None
        passed = via.way()
        able = [host for host in holders if host.spec.is_active and _leads(host, model, passed)]
        hosts = tuple(host for host in able if name in host.spec.models)
        if not hosts and self.remotes.registered:
            hosts = tuple(host for host in able if host.is_shared)
        return Meant(spelled(model, hosts), model, hosts) if hosts else None

    def automatic(self, name: str) -> Meant | None:
        """The hosts among which the choice of the model is ours; None where the name does not leave it to us."""
        if not is_automatic(name):
            return None
        passed = via.way()
        shared = (host for host in self._fleet.hosts() if host.spec.is_active and host.is_shared)
        hosts = tuple(host for host in shared if host.gateway not in passed)
        return Meant(name, name, hosts) if hosts else None

    def asked(self, meant: Meant, request: Request, visit: Visit) -> Ask:
        """The question to routing that a request is."""
        reads = isinstance(request, (ChatRequest, GenerateRequest)) and self._reads(meant)
        return self._ask(meant, call_of(request), marks_of(request, meant.model) if reads else (), visit)  # type: ignore[arg-type]

    def asked_as_it_is(self, meant: Meant, call: Call, fields: Mapping[str, Raw], visit: Visit) -> Ask:
        """The same of a request whose fields nobody reads."""
        reads = call in {"chat", "generate"} and self._reads(meant)
        return self._ask(meant, call, marks_of_fields(fields, meant.model) if reads else (), visit)

    def decided(self, meant: Meant, ask: Ask, visit: Visit) -> Decision:
        """Where the request goes.

        Raises:
            Unavailable: none of the hosts answers.
            ModelNotFound: no model can do what was asked, where the choice is ours.
            Forbidden: one can, and the caller's key is for others.
        """
        hops = self._hops(meant, ask, visit.tried)
        if not hops:
            raise self._nobody(meant, ask)
        return Decision(
            hops[0].name or meant.name,
            hops,
            lambda hop: self._begun(hop, meant, ask.prefix, visit),
            lambda tried: self._hops(meant, replace(ask, rests=self._rests(meant)), tried),
        )

    def taken(self) -> None:
        """A decision counts: the next one is another's turn."""
        self._turn += 1

    def explainable(self, name: str) -> Meant | None:
        """The hosts of which it can be said why they answer to a name, or do not; None where none is known by it."""
        if found := self.remotes.find(name):
            server, model = found
            return Meant(f"{server.name}/{model}", same_name(model), (server.host,))
        model, hosts = same_name(name), tuple(host for host in self._fleet.hosts() if host.is_shared)
        known = self.meant(name) or self.automatic(name)
        if known is None and not any(host.holds(model) for host in hosts):
            return None
        if known is not None and not any(host.is_shared for host in known.hosts):
            return known
        automatic = is_automatic(name)
        return Meant(name if automatic else spelled(model, hosts), name if automatic else model, hosts)

    def explained(self, meant: Meant, capability: str, session: str, caller: Caller) -> Explanation:
        """What would be decided now for such a request to one of these hosts, and why."""
        visit = Visit(caller=caller)
        visit.session = session
        ask = replace(self._ask(meant, "chat", (), visit), capability=capability)
        off = {host.id: frozenset(map(same_name, self._fleet.off(host))) for host in meant.hosts}
        return explain(ask, meant.hosts, self.policy, self._affinity, self._turn, off)

    def _reads(self, meant: Meant) -> bool:
        """Is there a choice that goes by prompts?"""
        return len(meant.hosts) > 1 and self.policy in _BY_PROMPT

    def _ask(self, meant: Meant, call: Call, prefix: Prefix, visit: Visit) -> Ask:
        return Ask(
            model=meant.model,
            call=call,
            prefix=prefix,
            sticky=self._sessions.home(visit.caller.id, _topic(visit, meant)) if visit.session else "",
            rests=self._rests(meant),
            once=visit.once,
            may=visit.caller.may_ask if is_automatic(meant.model) and visit.caller.models != EVERY_MODEL else None,
        )

    def _targets(self, meant: Meant, ask: Ask) -> tuple[Target, ...]:
        return decide(ask, _answering(meant, ask.call), self.policy, self._affinity, self._turn)

    def _rests(self, meant: Meant) -> frozenset[tuple[str, str]]:
        """The copies that rest, of all that a request might be sent to."""
        return self.remotes.traffic.rests("" if is_automatic(meant.model) else meant.model)

    def _hops(self, meant: Meant, ask: Ask, tried: Tried) -> tuple[Hop, ...]:
        """Where a request goes for which these have been tried, all for one model; nothing where nobody is left."""
        targets: tuple[Target, ...] = ()
        for wider in self._ever_wider(meant, ask, tried):
            targets = self._targets(meant, wider)
            if any(target.state != "trying" or target.free for target in targets):
                break  # else it would wait for one that has yet to prove itself
        name = "" if not targets or targets[0].course.model == meant.model else targets[0].course.model
        listed = spelled(name, meant.hosts) if name else ""
        return tuple(hop for target in targets if (hop := self._hop(target, listed)) is not None)

    def _ever_wider(self, meant: Meant, ask: Ask, tried: Tried) -> Iterator[Ask]:
        """The question, of ever more hosts: of those that nothing speaks against, and then of the others.

        Who has failed a moment ago is better than nobody, and who was given up is asked when he may be tried. A host
        that has failed this request is asked for another model, where the choice is ours, as long as there is none
        that has not.
        """
        model = "" if is_automatic(meant.model) else meant.model  # all of them, where the choice is ours
        failed = frozenset(at for at, _ in tried)
        spent = failed if model else _spent(tried)
        for rests in (ask.rests, self._fleet.given_up(model)) if ask.rests else (ask.rests,):
            yield replace(ask, excluded=failed, rests=rests)
            if spent != failed:
                yield replace(ask, excluded=spent, rests=rests.union(tried))
        dared = frozenset(host.id for host in meant.hosts if self._fleet.may_be_dared(host))
        yield replace(ask, excluded=spent, rests=self._fleet.given_up(model, last=True).union(tried), dared=dared)

    def _hop(self, target: Target, listed: str) -> Hop | None:
        """The way to a target; None where it has left meanwhile."""
        server = self.remotes.at(target.host)
        if server is None and not target.host.is_own:
            return None
        return Hop(target.host, target.model, server, lambda: target.reason, self.policy == "auto", target, listed)

    def _nobody(self, meant: Meant, ask: Ask) -> LocalModelsError:
        """Why a request can go nowhere, and when it could."""
        if not is_automatic(meant.model) or not any(host.may_be_asked for host in meant.hosts):
            hosts = _answering(meant, ask.call)
            return refusal(hosts, meant.name, soonest([(host, ask.model) for host in hosts], self._fleet))
        ask = replace(ask, excluded=frozenset(), rests=frozenset())
        if targets := self._targets(meant, ask):
            hosts, model = tuple(target.host for target in targets), targets[0].course.model
            return refusal(hosts, spelled(model, hosts), soonest([(host, model) for host in hosts], self._fleet))
        if self._targets(meant, replace(ask, may=None)):
            return Forbidden(f"this key may use none of the models that '{meant.name}' stands for", param="model")
        return ModelNotFound(meant.name)

    def _begun(self, hop: Hop, meant: Meant, prefix: Prefix, visit: Visit) -> None:
        host_id = hop.host.id
        if prefix:
            self._affinity.remember(prefix, host_id)
        if visit.session:
            self._sessions.settle(visit.caller.id, _topic(visit, meant), host_id)

    def _heard(self, host: Host) -> None:
        """Something of this host is not as it was; what has been down has most likely been started anew."""
        if host.state == "down" or self._fleet.host(host.id) is not host:
            self._affinity.forget(host.id)


def _spent(tried: Tried) -> frozenset[str]:
    """Ids of the hosts that failed themselves, or with so many models that no other of theirs is tried."""
    counts = Counter(at for at, _ in tried)
    return frozenset(at for at, model in tried if not model or counts[at] >= BLAMED)


def call_of(request: Request) -> Call:
    """What a request asks for. A text that a template makes a message of is a conversation."""
    if isinstance(request, EmbedRequest):
        return "embed"
    if isinstance(request, RerankRequest):
        return "rerank"
    if isinstance(request, ChatRequest):
        return "chat"
    raw = request.raw or bool(request.suffix) or not isinstance(request.prompt, str)
    return "generate" if raw else "chat"


def spelled(model: str, hosts: Iterable[Host]) -> str:
    """The name of a model, as most of its hosts would list it: with ``:latest`` only where one has it so."""
    names = {holding.model for host in hosts if (holding := host.holds(model)) is not None}
    return model if model in names or not names else min(names)


def _answering(meant: Meant, call: Call) -> tuple[Host, ...]:
    """Those of the kinds that answer such a call; where a name leads to no others, they say themselves what they do."""
    if call in _CONVERSATION:
        return meant.hosts
    able = tuple(host for host in meant.hosts if host.spec.kind not in _TALKERS)
    return able if able or is_automatic(meant.model) else meant.hosts


def _leads(host: Host, model: str, passed: tuple[str, ...]) -> bool:
    """Has it this model otherwise than through the gateways that ask for it?"""
    holding = host.holds(model)
    return holding is not None and via.leads(holding.gateways, passed)


def _topic(visit: Visit, meant: Meant) -> str:
    """A conversation with one model; the same words with another are another conversation."""
    return f"{visit.session}\n{meant.model}"
