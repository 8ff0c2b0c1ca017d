"""What holds for every fleet and every request."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.unit.fleet.standing import GB, host, names

from localmodels.fleet.affinity import Affinity
from localmodels.fleet.hosts import Holding, Host
from localmodels.fleet.routing import POLICIES, Ask, Target, decide, explain

EXAMPLES = settings(max_examples=150, deadline=None)
PROMPT = tuple((number, number * 100) for number in range(1, 20))
RESTS = [(f"h{number}", model) for number in range(6) for model in ("m:latest", "n:latest", "x:1", "auto:latest")]
seeds = st.integers(0, 2**32)
policies = st.sampled_from(sorted(POLICIES))
CHANGING = ("spec", "sight", "state", "proving", "in_flight", "asked", "elsewhere", "kept", "waiting", "failure")


def fleet(chance: Random) -> list[Host]:
    """Any."""
    hosts = []
    for number in range(chance.randrange(12)):
        models = [
            Holding(
                name, digest=chance.choice(("", "01", "02")), size=chance.choice((0, GB, 9 * GB)), priority=priority
            )
            for name in chance.sample(["m", "n", "auto", "x:1"], chance.randrange(1, 4))
            for priority in [chance.choice((0, 0, 0, 1, -1))]
        ]
        one = host(
            f"h{number}",
            *models,
            state=chance.choice(("up", "up", "up", "unknown", "trying", "down")),
            busy=chance.randrange(5),
            elsewhere=chance.choice((0, 0, 1)),
            waiting=chance.choice((0, 3, 5000)),
            service=chance.choice((0.0, 1.0, 600.0)),
            most=chance.choice((0, 1, 4)),
            priority=chance.choice((0, 0, 1, -5, 10**6)),
            weight=chance.choice((0.01, 1.0, 1.0, 50.0)),
            default=number == 3,
            active=chance.random() < 0.9,
            loaded=chance.choice((None, (), ("m",), ("n",))),
            memory=chance.choice((None, 0, 5 * GB)),
        )
        if chance.random() < 0.2:
            one.asked = {chance.choice(["m:latest", "n:latest"]): 1}
        if chance.random() < 0.2:
            one.kept = chance.randrange(5)
        if chance.random() < 0.1:
            one.sight = None
        hosts.append(one)
    return hosts


def question(chance: Random) -> Ask:
    """Any."""
    return Ask(
        chance.choice(["m", "m", "m:latest", "x:1", "auto", "auto:code", "gone"]),
        prefix=chance.choice([(), PROMPT]),
        tokens=chance.choice([0, 5, 100_000]),
        sticky=chance.choice(["", "h1", "h2", "gone"]),
        excluded=frozenset(chance.sample(["h1", "h4", "h6"], chance.randrange(2))),
        rests=frozenset(chance.sample(RESTS, chance.choice((0, 0, 3)))),
        once=chance.random() < 0.2,
    )


def known(chance: Random) -> Affinity:
    """Any."""
    affinity = Affinity()
    for number in range(chance.randrange(6)):
        affinity.remember(PROMPT[: chance.randrange(1, 20)], f"h{number}")
    return affinity


def shown(targets: Sequence[Target]) -> list[tuple[str, str, bool]]:
    """What can be seen of them."""
    return [(target.id, target.reason, target.free) for target in targets]


def may_be_asked(one: Host, ask: Ask) -> bool:
    """For any model that does not rest there."""
    open_ = one.spec.is_active and (one.state != "down" or one.id in ask.dared)
    return open_ and one.id not in ask.excluded


def decided(seed: int, policy: str, turn: int = 0) -> tuple[Ask, list[Host], tuple[Target, ...]]:
    """A case and its targets."""
    chance = Random(seed)
    hosts, ask, affinity = fleet(chance), question(chance), known(chance)
    down = [one.id for one in hosts if one.state == "down" and one.spec.is_active]
    ask = replace(ask, dared=frozenset(chance.sample(down, chance.randrange(len(down) + 1))))
    return ask, hosts, decide(ask, hosts, policy, affinity, turn)


@EXAMPLES
@given(seeds, policies, st.integers(0, 1000))
def test_targets_are_the_hosts_that_can_be_asked_each_once(seed: int, policy: str, turn: int) -> None:
    ask, hosts, targets = decided(seed, policy, turn)
    if not targets:
        return
    model = targets[0].course.model
    fit = [
        one.spec.name
        for one in hosts
        if may_be_asked(one, ask) and one.holds(model) and (one.id, model) not in ask.rests
    ]
    assert sorted(names(targets)) == sorted(fit)
    assert all(target.holding is target.host.holds(model) for target in targets)


@EXAMPLES
@given(seeds, policies)
def test_a_target_says_of_its_host_what_the_host_says_of_itself(seed: int, policy: str) -> None:
    _, _, targets = decided(seed, policy)
    for target in targets:
        one = target.host
        assert (target.id, target.warm) == (one.id, one.warmth(target.course.model))
        assert (target.busy, target.free) == (one.taken, one.free)
        assert target.cached == (0 if target.warm is False else target.course.cached.get(one.id, 0))


@EXAMPLES
@given(seeds, policies)
def test_where_somebody_can_be_asked_somebody_is(seed: int, policy: str) -> None:
    ask, hosts, targets = decided(seed, policy)
    fit = {(one.id, model) for one in hosts if may_be_asked(one, ask) and one.sight for model in one.sight.holdings}
    models = {model for _, model in fit - ask.rests}
    if ask.model in {"m", "m:latest"}:
        assert bool(targets) == ("m:latest" in models)
    elif ask.model == "auto":
        is_a_name = any(one.holds("auto:latest") for one in hosts)
        assert bool(targets) == ("auto:latest" in models if is_a_name else bool(models))


@EXAMPLES
@given(seeds, policies, st.integers(0, 1000))
def test_the_same_question_has_the_same_answer_and_changes_nothing(seed: int, policy: str, turn: int) -> None:
    _, hosts, targets = decided(seed, policy, turn)
    assert names(decided(seed, policy, turn)[2]) == names(targets)
    untouched = fleet(Random(seed))
    assert [[getattr(one, name) for name in CHANGING] for one in hosts] == [
        [getattr(one, name) for name in CHANGING] for one in untouched
    ]


@EXAMPLES
@given(seeds, seeds, policies, st.booleans())
def test_what_a_host_was_has_no_part_in_a_decision(seed: int, later: int, policy: str, once: bool) -> None:
    chance = Random(seed)
    hosts, ask, affinity = fleet(chance), replace(question(chance), once=once), known(chance)
    others = fleet(Random(later))
    decide(ask, hosts, policy, affinity)
    for one, other in zip(hosts, others, strict=False):
        for name in chance.sample(CHANGING, 3):
            setattr(one, name, getattr(other, name))
    anew = [Host(one.spec, one.sight, one.state) for one in hosts]
    for one, other in zip(hosts, anew, strict=True):
        for name in CHANGING:
            setattr(other, name, getattr(one, name))
    assert shown(decide(ask, hosts, policy, affinity)) == shown(decide(ask, anew, policy, affinity))


@EXAMPLES
@given(seeds, policies, st.integers(0, 1000))
def test_an_explanation_is_the_decision_and_tells_of_every_host(seed: int, policy: str, turn: int) -> None:
    chance = Random(seed)
    hosts, ask, affinity = fleet(chance), question(chance), known(chance)
    told = explain(ask, hosts, policy, affinity, turn)
    assert names(told.targets) == names(decide(ask, hosts, policy, affinity, turn))
    left_out = [one.host for one in told.left_out]
    assert sorted(map(id, [*left_out, *(target.host for target in told.targets)])) == sorted(map(id, hosts))
    for reason in [*(one.reason for one in told.left_out), *(target.reason for target in told.targets)]:
        assert reason.isascii()
        assert len(reason.splitlines()) == 1


def tier(target: Target) -> tuple[int, int]:
    return target.host.spec.priority, target.holding.priority


@EXAMPLES
@given(seeds, st.integers(0, 1000))
def test_under_auto_no_full_host_goes_before_a_free_one(seed: int, turn: int) -> None:
    ask, _, targets = decided(seed, "auto", turn)
    rest = targets[1:] if targets and targets[0].id == ask.sticky else targets
    assert [target.free for target in rest] == sorted((target.free for target in rest), reverse=True)


@EXAMPLES
@given(seeds, st.integers(0, 1000))
def test_under_auto_and_priority_higher_tiers_go_first(seed: int, turn: int) -> None:
    for policy in ("auto", "priority"):
        ask, _, targets = decided(seed, policy, turn)
        rest = [target for target in targets if target.id != ask.sticky]
        groups = [[one for one in rest if one.free], [one for one in rest if not one.free]]
        for group in groups if policy == "auto" else [rest]:
            assert [tier(target) for target in group] == sorted(map(tier, group), reverse=True)


@EXAMPLES
@given(seeds, policies, st.integers(0, 1000))
def test_home_goes_first_if_it_is_up_and_has_a_place(seed: int, policy: str, turn: int) -> None:
    ask, _, targets = decided(seed, policy, turn)
    home = next((target for target in targets if target.id == ask.sticky), None)
    if home and home.free and home.state != "trying":
        assert targets[0] is home
    if home and not home.free and any(target.free for target in targets) and policy not in {"round_robin", "priority"}:
        assert targets[0] is not home


@EXAMPLES
@given(seeds, policies, st.integers(0, 1000))
def test_no_host_proves_itself_by_two_requests(seed: int, policy: str, turn: int) -> None:
    _, _, targets = decided(seed, policy, turn)
    for target in targets:
        if target.state == "trying" and target.host.proving:
            assert not target.free


@EXAMPLES
@given(seeds, st.sampled_from(["auto", "least_busy"]), st.integers(0, 1000))
def test_more_to_do_never_puts_a_host_before_others(seed: int, policy: str, turn: int) -> None:
    chance = Random(seed)
    hosts, ask, affinity = fleet(chance), Ask("m", prefix=PROMPT), known(chance)
    before = names(decide(ask, hosts, policy, affinity, turn))
    for one in hosts:
        if one.spec.name in before and one.state != "trying":
            had, one.in_flight = one.in_flight, one.in_flight + chance.randrange(1, 4)
            after = names(decide(ask, hosts, policy, affinity, turn))
            assert after.index(one.spec.name) >= before.index(one.spec.name)
            one.in_flight = had


@EXAMPLES
@given(seeds, st.integers(0, 1000))
def test_more_of_the_prompt_never_puts_a_host_behind_others(seed: int, turn: int) -> None:
    for policy in ("auto", "prefix"):
        chance = Random(seed)
        hosts, ask, affinity = fleet(chance), Ask("m", prefix=PROMPT), known(chance)
        before = names(decide(ask, hosts, policy, affinity, turn))
        if before:
            name = chance.choice(before)
            affinity.remember(PROMPT, name)
            after = names(decide(ask, hosts, policy, affinity, turn))
            assert after.index(name) <= before.index(name)
