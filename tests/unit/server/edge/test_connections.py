"""How many may come, and from where."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from tests.awaited import awaited
from tests.unit.server.edge.scripted import BOUNDS, GET, World, hello

from localmodels.server.edge.connections import AT_ONCE, origin_of

AWAY = "192.0.2.1"


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        (AWAY, AWAY),
        ("::ffff:192.0.2.1", AWAY),
        ("2001:db8:1:2::1", "20010db800010002"),
        ("2001:db8:1:2:ffff::9", "20010db800010002"),
        ("fe80::1%eth0", "fe80000000000000"),
        ("127.0.0.1", ""),
        ("127.9.9.9", ""),
        ("::1", ""),
        ("::ffff:127.0.0.1", ""),
        ("", ""),
    ],
)
def test_whom_a_connection_is_counted_for(host: str, origin: str) -> None:
    assert origin_of(host) == origin


@awaited
async def test_one_address_has_so_many_connections_and_no_more() -> None:
    world = World(hello, replace(BOUNDS, per_address=3))
    kept = [world.client(AWAY) for _ in range(3)]
    refused = world.client(AWAY)
    assert refused.heard.startswith(b"HTTP/1.1 503 ")
    assert refused.state() == "ended"
    refused.go()
    for client in (*kept, world.client("192.0.2.2")):
        await client.send(GET)
        assert client.heard.startswith(b"HTTP/1.1 200 ")
    kept[0].go()
    assert not world.client(AWAY).heard


@awaited
async def test_this_machine_has_as_many_as_there_are() -> None:
    world = World(hello, replace(BOUNDS, per_address=3, connections=20))
    clients = [world.client() for _ in range(20)]
    assert not any(client.heard for client in clients)
    refused = world.client()
    assert refused.heard.startswith(b"HTTP/1.1 503 ")
    await refused.send(GET)
    assert refused.heard.count(b"HTTP/1.1") == 1
    clients.pop().go()
    refused.go()
    assert not world.client().heard
    assert world.among.refusals == {"unavailable": 1}


@awaited
async def test_a_crowd_is_turned_away_without_a_word() -> None:
    world = World(hello, replace(BOUNDS, connections=2))
    clients = [world.client() for _ in range(6)]
    assert [client.transport.aborted for client in clients] == [False] * 4 + [True] * 2


@awaited
async def test_when_many_are_late_others_are_answered_between_them() -> None:
    world = World(hello)
    late = [world.client() for _ in range(3 * AT_ONCE)]
    world.now += BOUNDS.head_time
    steps = world.among.sweep()
    for many in (1, 2):
        next(steps)
        assert sum(client.state() == "closed" for client in late) == many * AT_ONCE
    other = world.client()
    await other.send(GET)
    assert other.heard.startswith(b"HTTP/1.1 200 ")
    assert list(steps) == [None]
    assert {client.state() for client in late} == {"closed"}


@awaited
async def test_who_is_in_time_after_all_is_not_sent_away() -> None:
    world = World(hello)
    clients = [world.client() for _ in range(2 * AT_ONCE)]
    world.now += BOUNDS.head_time
    steps = world.among.sweep()
    next(steps)
    for client in clients:
        if client.state() == "open":
            await client.send(GET)
    list(steps)
    assert sum(client.state() == "open" for client in clients) == AT_ONCE
