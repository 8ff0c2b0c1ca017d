"""Models that are missing because their server does not answer, and servers that nobody misses."""

from __future__ import annotations

from typing import Any

from localmodels.core.catalog import Model
from localmodels.core.errors import Unreachable
from localmodels.core.servers import ServerSpec
from localmodels.dialects.told import Told
from localmodels.fleet.fleet import Fleet
from localmodels.flows.health import unavailable_models


def fleet(down: tuple[str, ...] = (), inactive: tuple[str, ...] = (), **models: tuple[str, ...]) -> Fleet:
    """Registered servers by name, and what each has told."""
    world = Fleet()
    world.adopt(
        ServerSpec(
            name=name, id=name, url=f"http://{name}", kind="ollama", registered=True, is_active=name not in inactive
        )
        for name in models
    )
    for host in world.hosts():
        world.saw(host, Told(tuple(Model(name, 0, "", "") for name in models[host.spec.name])))
        if host.spec.name in down:
            world.failed(host, Unreachable("gone"), float("inf"))
    return world


def missing(world: Fleet) -> dict[str, tuple[str, ...]]:
    return {host.spec.name: found for host in world.hosts() if (found := unavailable_models.missing(world, host))}


def test_who_answers_misses_nothing() -> None:
    assert missing(fleet(a=("m",), b=("n",))) == {}


def test_what_another_has_is_not_missing() -> None:
    world = fleet(("a",), a=("m", "only"), b=("m:latest",))
    assert missing(world) == {"a": ("only",)}
    assert list(unavailable_models.notes(world)) == [
        "the server 'a' does not answer, and had a model that nobody else has"
    ]
    assert list(unavailable_models.notes(fleet(("a",), a=("m",), b=("m",)))) == []


def test_what_all_had_that_are_down_is_missing_with_each() -> None:
    world = fleet(("a", "b"), a=("m", "n"), b=("m", "n"))
    assert missing(world) == {"a": ("m", "n"), "b": ("m", "n")}
    assert (
        next(unavailable_models.notes(world)) == "the server 'a' does not answer, and had 2 models that nobody else has"
    )


def test_who_may_not_be_asked_stands_in_for_nobody_and_misses_nothing() -> None:
    assert missing(fleet(("a",), ("b",), a=("m",), b=("m",))) == {"a": ("m",)}
    assert missing(fleet(("a",), ("a",), a=("m",))) == {}


def one(down: bool, **about: Any) -> Fleet:
    world = Fleet()
    world.adopt([ServerSpec(name="far", id="far", url="http://far", kind="openai", **about)])
    (host,) = world.hosts()
    if "models" not in about:
        world.saw(host, Told((Model("m", 0, "", ""),)))
    if down:
        world.failed(host, Unreachable("gone"), float("inf"))
    return world


def test_a_server_of_the_file_is_missed_for_what_its_table_lists() -> None:
    assert missing(one(True, models=("t",))) == {"far": ("t",)}
    assert missing(one(True)) == {}, "its models have no name of their own"


def test_one_that_never_told_anything_is_not_known_to_be_missed() -> None:
    world = Fleet()
    world.adopt([ServerSpec(name="far", id="far", url="http://far", kind="openai", registered=True)])
    world.failed(world.hosts()[0], Unreachable("gone"), float("inf"))
    assert missing(world) == {}


def test_others_offer_something_while_one_answers() -> None:
    assert unavailable_models.offers(fleet(("a",), a=("m",), b=("n",)))
    assert not unavailable_models.offers(fleet(("a",), ("b",), a=("m",), b=("n",)))
    assert not unavailable_models.offers(fleet(a=()))
    assert not unavailable_models.offers(one(False)), "what a request for any model would be answered by is registered"
