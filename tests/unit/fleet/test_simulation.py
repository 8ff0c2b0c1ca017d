"""The simulated fleet: what routing and places promise holds there, and the model itself adds up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from benchmarks.fleet.clock import Clock
from benchmarks.fleet.machine import LOADING, READING, STARTING, WRITING, Machine, Request
from benchmarks.fleet.measure import Outcome, busiest, fair_shares, fairness, figures, outcome_of, promises, rate
from benchmarks.fleet.simulation import GIB, PATIENCE, Machines, Run, Workload, at_random, by_name
from benchmarks.fleet.traffic import Traffic
from benchmarks.fleet.workloads import CHATS, FLOOD, HOT, MANY, UNEQUAL
from tests.awaited import awaited

from localmodels.core.servers import ServerSpec
from localmodels.fleet.affinity import Affinity, Prefix
from localmodels.fleet.hosts import Host
from localmodels.fleet.targets import Ask

MODELS = {f"m:{number}": 4 * GIB for number in range(8)}
# Unequal machines, more models than have room, callers of whom one floods, and failures: whatever can go wrong.
TROUBLE = Workload(
    name="trouble",
    machines=(
        Machines(count=6, models=MODELS, most=4, queue=16, speed=0.6),
        Machines(count=2, models=MODELS, memory=40 * GIB, most=16, speed=3, weight=3),
    ),
    traffic=Traffic(
        rate=6,
        turns=(1, 6),
        systems=3,
        system=600,
        models=tuple(MODELS),
        callers={"flood": 0.6, "a": 0.2, "b": 0.2},
        weights={"b": 3},
    ),
    requests=8_000,
    failing=20.0,
)


class Told:
    """Requests that a machine has answered."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def __call__(self, machine: Machine, request: Request) -> None:
        self.requests.append(request)


def machine(clock: Clock, told: Told, *, memory: int = 6 * GIB, cache: int = 10_000) -> Machine:
    spec = ServerSpec(name="h", url="http://h:1", kind="ollama", max_concurrent=8)
    models = {"a": 5 * GIB, "b": 5 * GIB}
    return Machine(Host(spec), models, memory=memory, cache=cache, speed=1.0, clock=clock, done=told)


def asked(model: str, *marks: int, answer: int = 60) -> Request:
    """A prompt of a thousand tokens for each mark."""
    prefix: Prefix = tuple((mark, 1000 * number) for number, mark in enumerate(marks, 1))
    end = (hash(marks), len(marks) * 1000 + answer)
    return Request(caller="", model=model, prefix=prefix, tokens=len(marks) * 1000, answer=answer, end=end)


def never() -> bool:
    return False


def test_a_prompt_takes_its_tokens_and_what_is_known_takes_nothing() -> None:
    clock, told = Clock(), Told()
    one = machine(clock, told)
    one.begin(asked("a", 1, 2))
    clock.run(never)
    first = told.requests[0]
    assert first.first == pytest.approx(2000 / READING)
    assert first.ended - first.first == pytest.approx(60 / WRITING)
    begun = clock.now
    one.begin(asked("a", 1, 3))
    clock.run(never)
    assert told.requests[1].cached == 1000
    assert told.requests[1].first - begun == pytest.approx(1000 / READING)


def test_prompts_are_read_one_after_the_other_and_answers_written_together() -> None:
    clock, told = Clock(), Told()
    one = machine(clock, told)
    for mark in (1, 2):
        one.begin(asked("a", mark, answer=6000))
    clock.run(never)
    first, second = told.requests
    assert [first.first, second.first] == pytest.approx([1000 / READING, 2000 / READING])
    assert second.ended > second.first + 6000 / WRITING, "each is slower beside the other"


def test_a_model_that_is_not_loaded_waits_for_room_and_takes_its_time() -> None:
    clock, told = Clock(), Told()
    one = machine(clock, told)
    one.begin(asked("a", 1))
    one.begin(asked("b", 2))
    clock.run(never)
    a, b = told.requests
    assert b.first == pytest.approx(a.ended + STARTING + 5 * GIB / LOADING + 1000 / READING)
    one.look()
    assert one.host.sight is not None
    assert set(one.host.sight.loaded or ()) == {"b"}
    assert one.loads == 1


def test_the_cache_forgets_the_ends_of_what_was_not_used_for_longest() -> None:
    clock, told = Clock(), Told()
    one = machine(clock, told, cache=3200)
    for marks in ((1, 2), (3, 4), (1, 5), (3, 6)):
        one.begin(asked("a", *marks))
        clock.run(never)
    assert [request.cached for request in told.requests] == [0, 0, 1000, 1000]


def test_fair_is_what_was_asked_for_or_an_equal_part() -> None:
    assert fair_shares({"a": 1, "b": 10, "c": 10}, 9) == {"a": 1, "b": 4, "c": 4}
    assert fair_shares({"a": 1, "b": 2}, 3) == {"a": 1, "b": 2}


def test_who_has_all_is_as_unfair_as_can_be() -> None:
    requests = [replace(asked("a", 1), caller=caller, refused=refused) for caller, refused in ("x ", "yz", "zz", "ww")]
    for one in requests[:1]:
        one.refused = ""
    assert fairness(requests) == pytest.approx(1 / 4)


@pytest.mark.parametrize("policy", ["auto", "round_robin", "prefix"])
def test_whatever_goes_wrong_limits_hold_and_every_request_ends(policy: str) -> None:
    run = Run(TROUBLE, by_name(policy), seed=3).go()
    assert run.over <= 0, "no host has had more than it may"
    assert run.longest <= PATIENCE
    assert all(one.ended for one in run.asked)
    assert {one.refused for one in run.asked} <= {"", "queue_full", "patience", "cut", "unavailable"}
    assert run.turns.waiting == 0
    waits = [one.placed - one.arrived for one in run.asked if not one.refused and one.tries == 1]
    assert max(waits) <= PATIENCE


# More than one place can answer in their patience.
CROWDED = Workload(
    name="crowded",
    machines=(Machines(count=1, most=2, queue=1_000),),
    traffic=Traffic(rate=4, systems=1, system=600),
    requests=300,
)


def test_nobody_waits_longer_than_his_patience() -> None:
    run = Run(CROWDED, by_name("least_busy"), patience=5.0).go()
    left = [one for one in run.asked if one.refused]
    assert {one.refused for one in left} == {"patience"}
    assert [one.ended - one.queued for one in left] == pytest.approx([5.0] * len(left))
    assert run.longest == 5.0


def test_who_has_more_than_his_places_is_seen_whatever_is_counted_of_him() -> None:
    def blind(ask: Ask, hosts: Sequence[Host], affinity: Affinity, turn: int) -> Sequence[Host]:
        for host in hosts:
            host.in_flight = 0
        return hosts

    assert Run(CROWDED, by_name("least_busy")).go().over == 0
    assert Run(CROWDED, blind).go().over > 0


def test_every_arrival_start_and_end_is_an_event() -> None:
    run = Run(CROWDED, by_name("least_busy"), patience=5.0).go()
    refused = sum(1 for one in run.asked if one.refused)
    assert 0 < refused < 300
    assert run.events == 3 * 300 - refused, "who was refused has begun nowhere"


def test_the_busiest_second() -> None:
    assert busiest([]) == 0
    assert busiest([0.0, 1.0, 2.0]) == 1
    assert busiest([0.0, 0.9, 1.8, 1.85, 1.89, 3.0]) == 4


def test_what_is_promised_is_met_or_missed() -> None:
    good = outcome_of(Run(replace(CROWDED, requests=100), by_name("least_busy")).go())
    enough = replace(good, events=400_000, longest=60.0, busiest=10_000)

    def met(*outcomes: Outcome) -> list[bool | None]:
        return [one.met for one in (*promises(outcomes), rate(CROWDED, outcomes[0]))]

    assert met(enough, enough, enough) == [True, True, True, True]
    assert met(enough, enough) == [False, True, True, True], "too little was looked at"
    assert met(enough, replace(enough, over=1), enough) == [True, False, True, True]
    assert met(enough, enough, replace(enough, longest=60.1)) == [True, True, False, True]
    assert met(replace(enough, busiest=9_999), enough, enough) == [True, True, True, False]


@awaited
async def test_the_figures_tell_what_was_promised_of_all_runs_together(capsys: pytest.CaptureFixture[str]) -> None:
    small = replace(CHATS, requests=200)
    found = {one.name: one for one in await figures((CROWDED, small))}
    assert found["all runs: places exceeded"].value == 0
    assert found["all runs: longest wait for a place"].value == PATIENCE, "in one of them nobody gets enough"
    events = found["all runs: events"].value
    assert events is not None
    assert 4 * 2 * 500 <= events * 1e6 <= 4 * 3 * 500
    assert found["chats: requests a second"].note.startswith("12 hosts"), "the larger of them"
    assert "**crowded**: 1 hosts, 300 requests" in capsys.readouterr().out


def test_the_same_seed_gives_the_same_run() -> None:
    runs = [Run(replace(CHATS, requests=1_000), by_name("auto"), seed=seed).go() for seed in (1, 1, 2)]
    first, again, other = ([(one.arrived, one.first, one.ended) for one in run.asked] for run in runs)
    assert first == again
    assert first != other


@pytest.mark.parametrize("workload", [CHATS, HOT, MANY, UNEQUAL], ids=lambda one: one.name)
def test_auto_is_soonest_and_knows_most(workload: Workload) -> None:
    short = replace(workload, requests=3_000)
    ours = outcome_of(Run(short, by_name("auto")).go())
    for policy in (by_name("round_robin"), by_name("least_busy"), at_random()):
        theirs = outcome_of(Run(short, policy).go())
        assert ours.p50 < theirs.p50
        assert ours.p99 < theirs.p99
        assert ours.hits > theirs.hits


def test_a_flood_takes_no_guests_places() -> None:
    run = Run(replace(FLOOD, requests=6_000), by_name("auto")).go()
    guests = [one for one in run.asked if one.caller != "flood"]
    assert sum(1 for one in run.asked if one.refused) > 200, "there is more than can be served"
    assert not any(one.refused for one in guests)
    assert max(one.placed - one.arrived for one in guests) < PATIENCE / 4
    assert fairness(run.asked) > 0.99
