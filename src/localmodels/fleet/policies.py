"""In which order hosts are asked: policies are functions from targets to one number each, of which the least is first.

The rule: a policy weighs and leaves nobody out. Who may be asked at all has been decided before, and what holds
whatever the policy (which copy, who proves himself, where a conversation is at home) is said in :mod:`.routing`.

``auto`` goes by the seconds until the first token, as far as they can be foreseen: loading the model, reading what of
the prompt is not cached, sharing the card with others; and no place at all is worse than any of it. The figures are of
the right size for what no host tells; they need no more, since hosts are only compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

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
# Requests at which a host without a limit counts as crowded.
CROWDED = 8
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
    add = keys.append
    tiered = False
    size, load = -1, 0.0
    for target in targets:
        host = target.host
        spec = host.spec
        busy = target.busy
        most = spec.max_concurrent
        sight = target.sight
        holding = target.holding
        seconds = whole
        loaded = sight.loaded
        if loaded is None or model in loaded or model in target.asked:  # `Target.warm` is not False
            if cached:
                seconds -= cached(host.id, 0) / READING
        else:
            if holding.size != size:
                size = holding.size
                load = LOAD_START + (size or UNTOLD_SIZE) / LOADING
            room = sight.memory_free
            seconds += load if room is None or room >= size else load * EVICTING
        if spec.weight != 1.0:
            seconds /= spec.weight
        if busy:
            share = busy / (most or CROWDED)
            seconds += CROWD * share * share
        if spec.is_default:
            seconds -= DEFAULT
        if busy >= most > 0 or host.proving:
            seconds += FULL
        if spec.priority or holding.priority:
            tiered = True
        add(seconds)
    return _in_tiers(targets, keys) if tiered else keys


def by_priority(targets: Sequence[Target], _course: Course) -> list[float]:
    """The highest tier, busy or not; in it who is free, then the default, then who has least to do."""
    keys = [
        min(LONGEST / 4, _crowd(target))
        + (0 if target.host.spec.is_default else LONGEST / 4)
        + (0 if target.free else LONGEST / 2)
        for target in targets
    ]
    return _in_tiers(targets, keys)


def least_busy(targets: Sequence[Target], _course: Course) -> list[float]:
    """Who has least to do, for what it can do at once."""
    return [_crowd(target) + (0 if target.free else FULL) for target in targets]


def in_turn(targets: Sequence[Target], course: Course) -> list[float]:
    """One after the other, each as often as it weighs."""
    weights = [target.host.spec.weight for target in targets]
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


def by_prefix(targets: Sequence[Target], _course: Course) -> list[float]:
    """Who holds most of the prompt; then who has least to do. Who is full comes last."""
    return [
        min(LONGEST / 2, _crowd(target)) - min(LONGEST / 2, target.cached) + (0 if target.free else FULL)
        for target in targets
    ]


POLICIES: Mapping[str, Policy] = {
    "auto": soonest,
    "priority": by_priority,
    "least_busy": least_busy,
    "round_robin": in_turn,
    "prefix": by_prefix,
}


def _crowd(target: Target) -> float:
    """What it has to do, as a share of what it can do at once."""
    spec = target.host.spec
    return (target.busy + target.host.waiting) / (spec.max_concurrent or CROWDED) / spec.weight


def _in_tiers(targets: Sequence[Target], keys: list[float]) -> list[float]:
    """The same, higher tiers first."""
    tiers = {(target.host.spec.priority, target.holding.priority) for target in targets}
    if len(tiers) == 1:
        return keys
    ranks = {tier: rank * TIER for rank, tier in enumerate(sorted(tiers, reverse=True))}
    return [
        key + ranks[target.host.spec.priority, target.holding.priority]
        for key, target in zip(keys, targets, strict=True)
    ]
