"""Figures of the fleet: by host and not by name, of those that are there, and in words that are few."""

from __future__ import annotations

from math import inf
from typing import Any, cast

import pytest
from msgspec.structs import replace

from localmodels.core.catalog import Model
from localmodels.core.errors import BackendTimeout, LocalModelsError, QueueFull, Unreachable
from localmodels.core.servers import ServerSpec
from localmodels.dialects.told import Told
from localmodels.fleet.affinity import Affinity
from localmodels.fleet.fleet import Fleet
from localmodels.fleet.hosts import Host, State
from localmodels.fleet.routing import Ask, decide
from localmodels.flows.connections.request_counts import LEFT, Tally, outcome_of, reason_of
from localmodels.flows.connections.server_status import INACTIVE
from localmodels.flows.health.fleet_metrics import STATES, readings

Series = dict[tuple[str, ...], float]


def spec(name: str = "a", **fields: Any) -> ServerSpec:
    usual = {"id": f"id-{name}", "url": f"http://{name}", "kind": "ollama", "registered": True, "max_concurrent": 4}
    return ServerSpec(name=name, **{**usual, **fields})


class World:
    """A fleet and its figures."""

    def __init__(self, *specs: ServerSpec) -> None:
        self.seconds = 10.0
        self.fleet = Fleet(clock=lambda: self.seconds)
        self.tally = Tally(self.fleet)
        self.fleet.adopt(specs)

    def host(self, name: str = "a") -> Host:
        host = self.fleet.named(name)
        assert host is not None
        return host

    def series(self, *names: str) -> Series:
        """By name and labels' texts, without the common beginning."""
        every = list(readings(self.fleet, self.tally))
        shapes = {(one.name, one.doc, one.counts, tuple(label for label, _ in one.labels)) for one in every}
        assert len(shapes) == len({name for name, *_ in shapes}), "one name has one meaning, and the same labels"
        return {
            (one.name.removeprefix("localmodels_"), *(text for _, text in one.labels)): one.value
            for one in every
            if not names or one.name.removeprefix("localmodels_") in names
        }


def test_a_new_host_has_figures_at_once() -> None:
    world = World(spec())
    assert world.series("server_in_flight", "server_waiting", "server_max_concurrent") == {
        ("server_in_flight", "a"): 0,
        ("server_waiting", "a"): 0,
        ("server_max_concurrent", "a"): 4,
    }
    assert world.series("retries_refused", "duplicates") == {("retries_refused", "a"): 0, ("duplicates", "a"): 0}
    assert world.series("server_seen_seconds") == {}, "it has told nothing yet"


@pytest.mark.parametrize("kind", ["ollama", "local"])
def test_whether_it_answers_is_told_of_every_server_and_of_this_one(kind: str) -> None:
    world = World(spec(kind=kind))
    assert world.series("server_up") == {("server_up", "a"): 1.0}
    world.host().state = "down"
    assert world.series("server_up") == {("server_up", "a"): 0.0}


def test_without_limit_is_no_number() -> None:
    assert World(spec(max_concurrent=0)).series("server_max_concurrent") == {("server_max_concurrent", "a"): inf}


@pytest.mark.parametrize("state", STATES)
def test_one_state_is_true_and_all_others_are_not(state: str) -> None:
    world = World(spec(is_active=state != INACTIVE))
    world.host().state = "up" if state == INACTIVE else cast("State", state)
    told = {labels[2]: value for labels, value in world.series("server_state").items()}
    assert told == {word: float(word == state) for word in STATES}


def test_how_long_ago_it_has_told_anything() -> None:
    world = World(spec())
    world.fleet.saw(world.host(), Told())
    world.seconds += 42
    world.fleet.failed(world.host(), Unreachable("gone"), inf)
    assert world.series("server_seen_seconds") == {("server_seen_seconds", "a"): 42}


def test_figures_go_with_a_host_that_is_renamed() -> None:
    world = World(spec(), spec("b"))
    world.tally.at(world.host()).ended["answered"] += 3
    world.fleet.adopt([replace(spec(), name="new"), spec("b")])
    series = world.series()
    assert series["server_requests", "new", "answered"] == 3
    assert {labels[1] for labels in series} == {"new", "b"}, "nothing is left under the old name"


def test_figures_of_a_host_that_leaves_are_forgotten_for_good() -> None:
    world = World(spec(), spec("b"))
    gone = world.host()
    world.tally.at(gone).failovers["unreachable"] += 1
    world.fleet.adopt([spec("b")])
    world.tally.at(gone).ended["answered"] += 1  # the last of its answers
    assert {labels[1] for labels in world.series()} == {"b"}
    world.fleet.adopt([spec(), spec("b")])
    assert not world.series("failovers", "server_requests"), "it is another"


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "answered"),
        (GeneratorExit(), LEFT),
        (QueueFull("full"), "queue_full"),
        (BackendTimeout("silent"), "backend_timeout"),
    ],
)
def test_how_a_request_ended(error: BaseException | None, outcome: str) -> None:
    if isinstance(error, LocalModelsError):
        assert error.code == outcome
    assert outcome_of(error) == outcome


def test_what_spoke_most_for_a_host() -> None:
    world = World(spec(), spec("b"))
    affinity, prefix = Affinity(), ((1, 100), (2, 200))
    for host in world.fleet.hosts():
        world.fleet.saw(host, Told((Model("m", 1, "", ""),)))
    affinity.remember(prefix[:1], "id-a")

    def met(sticky: str = "") -> dict[str, str]:
        ask = Ask("m:latest", prefix=prefix, tokens=200, sticky=sticky)
        targets = decide(ask, world.fleet.hosts(), "auto", affinity, 0)
        for target in targets:
            world.tally.at(target.host).chose(target)
        return {target.host.spec.name: reason_of(target) for target in targets}

    assert met() == {"a": "prefix", "b": "unknown"}
    assert met("id-b") == {"a": "prefix", "b": "session"}
    assert world.series("routed") == {
        ("routed", "a", "prefix"): 2,
        ("routed", "b", "unknown"): 1,
        ("routed", "b", "session"): 1,
    }
    tokens = world.series("routed_prompt_tokens", "routed_cached_tokens")
    assert tokens["routed_prompt_tokens", "a"] == tokens["routed_prompt_tokens", "b"] == 400
    assert (tokens["routed_cached_tokens", "a"], tokens["routed_cached_tokens", "b"]) == (200, 0)


def test_warm_and_cold_where_a_host_tells() -> None:
    world = World(spec())
    world.fleet.saw(world.host(), Told((Model("m", 1, "", ""),), running=()))
    (target,) = decide(Ask("m:latest"), world.fleet.hosts(), "auto", Affinity(), 0)
    assert reason_of(target) == "cold"
