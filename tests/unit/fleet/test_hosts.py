"""What a host is, in the words that everybody uses of it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from localmodels.core.servers import ServerSpec
from localmodels.fleet.hosts import MOST_LOAD, Holding, Host, Loaded, Sight, State


def described(**said: object) -> Host:
    """A host of which its owner says this."""
    return Host(replace(ServerSpec(name="far", url="http://far:11434", kind="ollama"), **said))


def test_it_is_known_by_its_id_or_by_its_name_where_it_has_none() -> None:
    assert (described(id="7").id, described().id) == ("7", "far")


@pytest.mark.parametrize(
    ("said", "own", "shared"),
    [
        ({"kind": "local"}, True, True),
        ({"registered": True}, False, True),
        ({}, False, False),
    ],
)
def test_whose_it_is(said: dict[str, object], own: bool, shared: bool) -> None:
    host = described(**said)
    assert (host.is_own, host.is_shared) == (own, shared)


@pytest.mark.parametrize(
    ("state", "active", "may"),
    [
        ("up", True, True),
        ("unknown", True, True),
        ("trying", True, True),
        ("down", True, False),
        ("up", False, False),
    ],
)
def test_whether_it_may_be_asked(state: State, active: bool, may: bool) -> None:
    host = described(is_active=active)
    host.state = state
    assert host.may_be_asked is may


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("spec", ServerSpec(name="far", url="http://far:11434", kind="ollama", max_concurrent=2)),
        ("sight", Sight(1.0, holdings={"n:latest": Holding("n")}, loaded={"n:latest": Loaded("n")}, memory_free=7)),
        ("sight", None),
        ("state", "down"),
        ("state", "trying"),
        ("proving", True),
        ("in_flight", 3),
        ("asked", {"m:latest": 1}),
        ("elsewhere", 2),
        ("kept", 4),
        ("waiting", 5),
    ],
)
def test_no_view_of_it_is_old(name: str, value: object) -> None:
    host, same = described(max_concurrent=4), described(max_concurrent=4)
    host.sight = same.sight = Sight(0.0, holdings={"m:latest": Holding("m")})
    before = host.look()
    assert host.look() is before
    for one in (host, same):
        setattr(one, name, value)
    assert host.look() == same.look() != before


def test_why_it_is_down_is_in_its_view() -> None:
    host = described()
    host.state = "down"
    assert host.look().closed == "is down"
    host.failure = "connection refused"
    assert host.look().closed == "is down: connection refused"


def test_what_it_has_to_do_has_a_bound() -> None:
    host = described(weight=1e-9)
    host.waiting = 5000
    assert host.look().load == MOST_LOAD
