"""What a list waits for before it is shown: the first word of servers of the file, and whoever has just failed."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace
from tests.unit.fleet.test_monitor import Server, Watched, spec, watched
from tests.virtual import clock, virtually

from localmodels.core import via
from localmodels.core.errors import Unreachable
from localmodels.flows.servers.refresh import MEMORY, PATIENCE, Freshness


def of_file(world: Watched, *names: str) -> None:
    world.fleet.adopt([replace(spec(name), registered=name not in names) for name in world.servers])


@virtually
async def test_a_list_waits_for_the_first_word_of_a_server_of_the_file() -> None:
    async with watched({"far": Server(), "box": Server("hangs")}) as world:
        of_file(world, "far")
        await Freshness(world.monitor).models()
        assert world.host("far").sight is not None
        assert world.host("box").checked_at == 0, "a registered one has its rows"
        assert clock() < PATIENCE


@virtually
async def test_nobody_waits_twice_for_a_server_that_is_silent() -> None:
    async with watched({"far": Server("hangs")}) as world:
        of_file(world, "far")
        fresh, began = Freshness(world.monitor), clock()
        await asyncio.gather(fresh.models(), fresh.models())
        assert clock() == pytest.approx(began + PATIENCE)
        await fresh.models()
        assert clock() == pytest.approx(began + PATIENCE)
        await asyncio.sleep(10)
        began = clock()
        await fresh.models()
        assert (clock(), world.host("far").state) == (began, "down")


@virtually
async def test_who_has_failed_a_request_is_looked_at_before_a_list_is_shown() -> None:
    async with watched({"far": Server(), "box": Server()}) as world:
        await asyncio.sleep(5)
        world.servers["box"].how = "refuses"
        world.request(Unreachable("gone"), "box")
        looks = len(world.servers["far"].looks)
        await Freshness(world.monitor).models()
        assert (world.host("box").state, world.host("far").state) == ("down", "up")
        assert len(world.servers["far"].looks) == looks


@virtually
async def test_what_another_gateway_asks_waits_for_nobody() -> None:
    async with watched({"far": Server("hangs")}) as world:
        of_file(world, "far")
        via.arrive("them", "us", looks=True)
        began = clock()
        await Freshness(world.monitor).models()
        assert clock() == began


@virtually
async def test_what_is_in_memory_is_asked_of_servers_of_the_file_that_tell_it() -> None:
    async with watched({"far": Server(), "mute": Server()}) as world:
        of_file(world, "far", "mute")
        await asyncio.sleep(60)
        for name, loaded in (("far", {}), ("mute", None)):
            sight = world.host(name).sight
            assert sight is not None
            world.host(name).sight = replace(sight, loaded=loaded)
        looks = {name: len(server.looks) for name, server in world.servers.items()}
        await asyncio.sleep(MEMORY)
        before = {name: len(server.looks) for name, server in world.servers.items()}
        assert before == looks, "nobody asks by himself meanwhile"
        await Freshness(world.monitor).memory()
        news = {name: len(server.looks) - looks[name] for name, server in world.servers.items()}
        assert news == {"far": 1, "mute": 0}
