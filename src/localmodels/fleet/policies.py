"""In which order hosts are asked: policies are functions from targets to one number each, of which the least is first.

The rule: a policy weighs and leaves nobody out. Who may be asked at all has been decided before, and what holds
whatever the policy (which copy, who proves himself, where a conversation is at home) is said in :mod:`.routing`.

``auto`` goes by the seconds until the first token, as far as they can be foreseen: loading the model, reading what of
the prompt is not cached, sharing the card with others; and no place at all is worse than any of it. The figures are of
the right size for what no host tells; they need no more, since hosts are only compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import add
from typing import Any

from localmodels.fleet.targets import Course, Target

# Seconds before the first token where nothing has to be done for it.
START = 0.05
# Tokens a second that a host of weight 1 reads: a graphics card of the middle range, a model of 8 billion weights.
READING = 1000.0
# Of a model that is not in memory: seconds until its process is there, and bytes a second from a common NVMe disk.
LOAD_START, LOADING = 1.0, 1.5e9
UNTOLD_SIZE = 5_000_000_000  # bytes: 8 billion weights of 4 bits and a little, as most have
# How often a load counts that drives another model out: that one will have to be loaded again.
EVICTING = 2.0
# Seconds that company costs where nearly all places are taken: others share the card, and what comes next finds no
# place where its prompt is known. It costs little before that, since prompts are known at few hosts: a quarter with
# half of them. A fast host has more places, so its weight has no say in this.
CROWD = 0.5
# Seconds by which the default host is ahead: enough among equals, and nowhere else.
DEFAULT = 0.001

# One number has to say all, since numbers are sorted three times as fast as tuples. What weighs more than everything
# before it: seconds, tokens or positions end at LONGEST; a host that has to prove itself goes before those of its tier,
# another copy of the model behind them; then comes the next tier; and hosts without a place come last.
LONGEST = 1e7
PROVING = 2 * LONGEST
OTHER_COPY = 4 * LONGEST
TIER = 10 * LONGEST
FULL = 1e5 * TIER

# (sqrt 5 - 1) / 2: its multiples, without their whole parts, fill the unit evenly from the first on.
_GOLDEN = 0.6180339887498949

Policy = Callable[[Sequence[Target], Course], list[float]]


def soonest(targets: Sequence[Target], course: Course) -> list[float]:
    """Who is free before who is full; of these the highest tier; in it by the seconds until the first token.

    How long the line of a full host is does not count: a request that waits does so for all of its hosts at once.
    """
    # Written out in one loop, since every request comes through here for every host: calls would cost as much again.
    model, cached = course.model, course.cached.get if course.cached else None
    whole = START + course.tokens / READING
    keys: list[float] = []
    note = keys.append
    tiered = ranked = False
    size, load = -1, 0.0
    for target in targets:
        view = target.view
        seconds = whole
        loaded = view.loaded
        if loaded is None or model in loaded or model in view.asked:  # `View.warmth` is not False
            if cached:
                seconds -= cached(view.id, 0) / READING
        else:
            holding = target.holding
            if holding.size != size:
                size = holding.size
                load = LOAD_START + (size or UNTOLD_SIZE) / LOADING
            room = view.memory_free
            seconds += load if room is None or room >= size else load * EVICTING
        share = view.share
        if view.is_even:
            seconds += CROWD * share * share
        else:
            spec = view.spec
            seconds = seconds / spec.weight + CROWD * share * share - (DEFAULT if spec.is_default else 0.0)
        if not view.free:
            seconds += FULL
        if view.priority:
            tiered = True
        if view.ranked:
            ranked = True
        note(seconds)
    return _in_tiers(targets, keys, ranked=ranked) if tiered or ranked else keys


def by_priority(targets: Sequence[Target], _course: Course) -> list[float]:
    """The highest tier, busy or not; in it who is free, then the default, then who has least to do."""
    other, full = LONGEST / 4, LONGEST / 2
    keys = [
        view.load + (0 if view.spec.is_default else other) + (0 if view.free else full)
        for view in [target.view for target in targets]
    ]
    return _in_tiers(targets, keys, ranked=bool([1 for target in targets if target.view.ranked]))


def least_busy(targets: Sequence[Target], _course: Course) -> list[float]:
    """Who has least to do, for what it can do at once."""
    return [view.load + (0 if view.free else FULL) for view in [target.view for target in targets]]


def in_turn(targets: Sequence[Target], course: Course) -> list[float]:
    """One after the other, each as often as it weighs."""
    weights = [target.view.spec.weight for target in targets]
    count = len(weights)
    if min(weights) == max(weights):
        return [float(index) for index in range(count)]  # the first is another one every time
    point = course.turn * _GOLDEN % 1.0 * sum(weights)
    start = -course.turn % count  # where the first one of all is now
    first = start
    while (weight := weights[first]) <= point and (first + 1 - start) % count:
        point -= weight
        first = (first + 1) % count
    return [float((index - first) % count) for index in range(count)]


def by_prefix(targets: Sequence[Target], course: Course) -> list[float]:
    """Who holds most of the prompt; then who has least to do. Who is full comes last."""
    model, cached, most = course.model, course.cached.get if course.cached else None, LONGEST / 2
    keys: list[float] = []
    for target in targets:
        view = target.view
        key = view.load
        if cached and (view.loaded is None or model in view.loaded or model in view.asked):  # `Target.cached`
            held = cached(view.id, 0)
            key -= held if held < most else most  # noqa: FURB136 - a call would cost as much as all the rest
        keys.append(key if view.free else key + FULL)
    return keys


POLICIES: Mapping[str, Policy] = {
    "auto": soonest,
    "priority": by_priority,
    "least_busy": least_busy,
    "round_robin": in_turn,
    "prefix": by_prefix,
}


def _in_tiers(targets: Sequence[Target], keys: list[float], *, ranked: bool) -> list[float]:
    """The same, higher tiers first; ``ranked`` if copies of models may have priorities besides their hosts'."""
    tiers: list[Any] = [target.view.priority for target in targets]
    if ranked:
        tiers = [(tier, target.holding.priority) for tier, target in zip(tiers, targets, strict=True)]
    if len(order := sorted(set(tiers), reverse=True)) == 1:
        return keys
    ranks = {tier: rank * TIER for rank, tier in enumerate(order)}
    return list(map(add, keys, map(ranks.__getitem__, tiers)))
