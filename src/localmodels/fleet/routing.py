"""Where a request goes: the hosts that could answer it, the best first, each with its reason.

The rule: everything here is computed from what is passed in: no clock, no chance, no memory. Whoever asks passes a
number that he raises with every decision; by it round robin goes, and equals take turns.

Order is decided in three steps. :func:`_found` leaves out who cannot be asked; why, :func:`_unfit` says to whoever
wants it explained. A policy gives each of the others one number (:mod:`.policies`). What holds under every policy
comes on top: a host that was down and answers again gets the next request that can bear it, by which it proves
itself; the copy of a model that lists show goes before others; and a conversation stays at its home, unless that
is full and others are not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from operator import itemgetter
from typing import NamedTuple

from msgspec.structs import replace

from localmodels.fleet.affinity import Affinity
from localmodels.fleet.automatic import chosen, grants, is_automatic, wished
from localmodels.fleet.hosts import Host, same_name
from localmodels.fleet.policies import OTHER_COPY, POLICIES, PROVING
from localmodels.fleet.targets import Ask, Course, Explanation, LeftOut, Target

__all__ = ["POLICIES", "Ask", "Explanation", "LeftOut", "Target", "decide", "explain"]

NOTHING_OFF: Mapping[str, Collection[str]] = {}


def decide(
    ask: Ask, hosts: Sequence[Host], policy: str = "auto", affinity: Affinity | None = None, turn: int = 0
) -> tuple[Target, ...]:
    """The hosts that the request may go to, the best first; none where nobody can answer it.

    Args:
        ask: the request.
        hosts: all that it might go to; those without the model do no harm, and cost time.
        policy: a name in :data:`POLICIES`.
        affinity: who holds which prompts; None where nobody knows.
        turn: the number of this decision.
    """
    return _ordered(_course(ask, hosts, policy, affinity, turn), hosts)


def explain(
    ask: Ask,
    hosts: Sequence[Host],
    policy: str = "auto",
    affinity: Affinity | None = None,
    turn: int = 0,
    off: Mapping[str, Collection[str]] = NOTHING_OFF,
) -> Explanation:
    """The same decision, told with the reasons of those who were left out.

    Args:
        ask: the request.
        hosts: all that it might go to.
        policy: a name in :data:`POLICIES`.
        affinity: who holds which prompts; None where nobody knows.
        turn: the number of this decision.
        off: models that are switched off, by the ids of their hosts, which tell none of them.
    """
    course = _course(ask, hosts, policy, affinity, turn)
    left_out = tuple(LeftOut(host, why) for host in hosts if (why := _unfit(host, course, off)))
    return Explanation(course.model, policy, _ordered(course, hosts), left_out)


def _course(ask: Ask, hosts: Sequence[Host], policy: str, affinity: Affinity | None, turn: int) -> Course:
    cached: Mapping[str, int] = affinity.owners(ask.prefix) if affinity is not None and ask.prefix else {}
    tokens = ask.tokens or (ask.prefix[-1][1] if ask.prefix else 0)
    model = same_name(ask.model)
    wishes = frozenset({ask.capability}) if ask.capability else frozenset[str]()
    views = [host.view or host.look() for host in hosts] if is_automatic(ask.model) else []
    if views and not [1 for view in views if model in view.holdings]:
        wishes = wished(ask)
        able = [view for view in views if not view.closed or view.id in ask.dared]
        if ask.excluded:
            able = [view for view in able if view.id not in ask.excluded]
        model = chosen(ask, able)
        if ask.rests and not model:
            model = chosen(replace(ask, rests=frozenset()), able)  # all rest, and this one would be it
    passed_over = ask.excluded
    if ask.rests:
        passed_over = passed_over.union(at for at, resting in ask.rests if resting == model)
    return Course(policy, ask, model, wishes, tokens, cached, turn, passed_over)


class _Found(NamedTuple):
    """Who has the model.

    Attributes:
        held: all of them, also those that cannot be asked.
        targets: those that can, in the order in which the hosts were given.
        proving: may one of them have to prove itself?
        differing: may they have different copies?
    """

    held: list[Target]
    targets: list[Target]
    proving: bool
    differing: bool


def _ordered(course: Course, hosts: Sequence[Host]) -> tuple[Target, ...]:
    found = _found(course, hosts)
    targets = found.targets
    if len(targets) < 2:
        return tuple(targets)
    first = course.turn % len(targets)
    targets = targets[first:] + targets[:first]  # so that equals take turns: sorting leaves them as they are
    keys = POLICIES[course.policy](targets, course)
    if found.proving:
        _let_prove(keys, targets, once=course.ask.once)
    if found.differing:
        _prefer_copies(keys, targets, found.held)
    ranked: tuple[Target, ...] = itemgetter(*sorted(range(len(keys)), key=keys.__getitem__))(targets)
    return _at_home(ranked, course.ask) if course.ask.sticky else ranked


def _found(course: Course, hosts: Sequence[Host]) -> _Found:
    # One loop, and little in it: a decision looks at all hosts. What nearly none of them is, is looked for afterwards.
    held: list[Target] = []
    add = held.append
    model = course.model
    plain = alike = True
    digest = None
    for host in hosts:
        view = host.view or host.look()
        if holding := view.holdings.get(model):
            if alike and holding.digest != digest:
                alike = digest is None
                digest = holding.digest
            if not view.is_plain:
                plain = False
            add(Target(host, view, holding, course))
    passed_over, dared, wishes = course.passed_over, course.ask.dared, course.wishes
    targets = held
    if not plain or passed_over:
        targets = [
            one for one in targets if one.view.id not in passed_over and (not one.view.closed or one.view.id in dared)
        ]
    if wishes:  # automatic.grants, written out
        targets = [one for one in targets if wishes - one.view.there_for <= one.holding.capabilities]
    return _Found(held, targets, not plain, not alike)


def _unfit(host: Host, course: Course, off: Mapping[str, Collection[str]]) -> str:
    """Why the request may not go there; empty if it may."""
    view = host.look()
    if view.closed and view.id not in course.ask.dared:
        return view.closed
    if view.id in course.passed_over:
        return "rests: requests for this model have failed there"
    if not course.model:
        return "has no model that can do this"
    holding = view.holdings.get(course.model)
    if holding is None:
        if course.model in off.get(view.id, ()):
            name = f"{host.spec.name}/{course.model}"
            return f"{course.model} is switched off there: localmodels models set {name} --active"
        return f"does not have {course.model}"
    if not grants(host, holding, course.wishes):
        return f"is not said to be for {' and '.join(sorted(course.wishes))}"
    return ""


def _let_prove(keys: list[float], targets: Sequence[Target], *, once: bool) -> None:
    """A host that was down goes first in its tier until it has its one request, and last for one that cannot fail."""
    for index, target in enumerate(targets):
        view = target.view
        if view.state == "trying" and view.free:
            keys[index] += PROVING if once else -PROVING


def _prefer_copies(keys: list[float], targets: Sequence[Target], held: Sequence[Target]) -> None:
    """Where hosts have different models under one name, those behind that have another than the one that lists show.

    That is this machine's, if it has one; else the one that most have, and of as many the first. All hosts count, so
    that what goes down or fails does not change which copy is meant.
    """
    counts = Counter([one.holding.digest for one in held])
    counts.pop("", None)  # who does not tell may have any of them
    own = [one.holding.digest for one in held if one.view.is_own]
    meant = {"", (own and own[0]) or max(counts, key=counts.__getitem__)}
    for index, target in enumerate(targets):
        if target.holding.digest not in meant:
            keys[index] += OTHER_COPY


def _at_home(ranked: tuple[Target, ...], ask: Ask) -> tuple[Target, ...]:
    """The conversation's host first, if it is up and has a place, or if nobody has one.

    A conversation that leaves a full host is read anew elsewhere, which takes seconds; a place takes as long as an
    answer. So it moves, and is at home there from then on. It does not go to a host that has yet to prove itself, whose
    memory was most likely lost.
    """
    ids = [target.view.id for target in ranked]
    if ask.sticky not in ids:
        return ranked
    place = ids.index(ask.sticky)
    home = ranked[place]
    if home.state == "trying" or (not home.free and any(target.view.free for target in ranked)):
        return ranked
    return (home, *ranked[:place], *ranked[place + 1 :])
