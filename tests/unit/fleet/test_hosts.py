"""What a host is, in the words that everybody uses of it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from localmodels.core.servers import ServerSpec
from localmodels.fleet.hosts import Host, State


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
