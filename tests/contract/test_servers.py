"""The registry of the fleet over real tables, shared by two gateways; and over real servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from time import monotonic, time_ns

import pytest
from tests.acceptance.serving import Served, eventually, serve
from tests.awaited import awaited
from tests.contract.stores import STORES, Place, opened
from tests.fleet_world import Ollama, World

from localmodels.backends.carriers import carrier_to
from localmodels.core.address import Address
from localmodels.core.errors import NotFound, Unreachable
from localmodels.core.fleet import ServerChange
from localmodels.core.roster import ServerNow, Wish
from localmodels.core.servers import ServerSpec
from localmodels.fleet.fleet import Fleet
from localmodels.flows.servers.gateway_sharing import Sharing
from localmodels.flows.servers.local_ollama import greet_ollama

A = "http://10.39.0.101:11434"
SEEN = 1.0  # seconds within which the others know of a change (issue 6)
SLACK = 1.0  # for machines that do much else


@pytest.fixture(params=[*STORES])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Where two gateways keep their fleet."""
    return STORES[request.param](request, tmp_path)


@asynccontextmanager
async def gateways(place: Place) -> AsyncIterator[tuple[World, World]]:
    """Two, and the same servers behind both."""
    async with AsyncExitStack() as stack:
        made = []
        for name in ("one", "two"):
            kept = await stack.enter_async_context(opened(place, gateway=name))
            made.append(await stack.enter_async_context(World(kept=kept, gateway=name)))
        one, two = made
        two.net = one.net
        yield one, two


async def until(world: World, true: Callable[[], bool]) -> float:
    """Seconds until this is so, looked at whenever anything of a host is not as it was."""
    begun, news = monotonic(), asyncio.Event()
    deaf = world.remotes.fleet.listen(lambda _: news.set())
    try:
        while not true():
            await news.wait()
            news.clear()
    finally:
        deaf()
    return monotonic() - begun


def knows(world: World, server_id: str) -> ServerNow | None:
    try:
        return world.servers.one(server_id)
    except NotFound:
        return None


@awaited
async def test_what_one_gateway_changes_all_know_within_a_second(place: Place) -> None:
    async with gateways(place) as (one, two):
        one.net[A] = Ollama(m=1)
        server = await one.add("a", A, key="sk-sesame", max_concurrent=3)
        took = [await until(two, lambda: knows(two, server) is not None)]
        host = two.remotes.fleet.host(server)
        assert host is not None
        assert (host.spec.max_concurrent, host.spec.key.reveal()) == (3, "sk-sesame")
        await two.servers.change(server, Wish(said=ServerChange(description="changed", is_active=False)))
        took.append(await until(one, lambda: one.servers.one(server).row.description == "changed"))
        assert not one.servers.one(server).row.is_active
        await two.servers.remove(server)
        took.append(await until(one, lambda: knows(one, server) is None))
        assert max(took) < SEEN + SLACK


@awaited
async def test_both_find_the_same_models_and_each_has_an_engine_of_its_own(place: Place) -> None:
    async with gateways(place) as (one, two):
        ollama = one.net[A] = Ollama(m=1)
        server = await one.add("a", A)
        await until(two, lambda: knows(two, server) is not None)
        ollama.models["n"] = 2
        await asyncio.gather(one.servers.discover(server), two.servers.discover(server))
        await until(one, lambda: len(one.servers.models(server)) == 2)
        await until(two, lambda: len(two.servers.models(server)) == 2)
        assert [row.row.id for row in one.servers.models(server)] == [row.row.id for row in two.servers.models(server)]
        engines = [world.servers.all()[0] for world in (one, two)]
        assert [engine.row.kind for engine in engines] == ["local", "local"]
        assert engines[0].row.id != engines[1].row.id
        assert all(sum(row.row.kind == "local" for row in world.servers.all()) == 1 for world in (one, two))


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """What gateways on several machines share."""
    return STORES["postgres"](request, tmp_path)


@awaited
async def test_places_are_shared_with_other_gateways(database: Place) -> None:
    async with opened(database, gateway="one") as first, opened(database, gateway="two") as second:
        made = []
        for name, kept in (("one", first), ("two", second)):
            fleet = Fleet()
            fleet.adopt([ServerSpec(name="a", url=A, kind="ollama", id="a", max_concurrent=2)])
            made.append((fleet.hosts()[0], Sharing(kept.replicas, fleet, name, time_ns, asyncio.sleep)))
        (mine, tells), (theirs, hears) = made
        await hears.once()
        for in_flight in (2, 0):
            mine.in_flight = in_flight
            await tells.once()
            await hears.once()
            assert (theirs.elsewhere, theirs.kept, theirs.free) == (in_flight, max(1, in_flight), not in_flight)
            assert mine.elsewhere == 0


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Another LocalModels."""
    with serve(home=tmp_path_factory.mktemp("behind")) as server:
        yield server


@awaited
async def test_a_real_server_is_discovered_checked_and_unloaded(behind: Served, tmp_path: Path) -> None:
    async with opened(tmp_path) as kept, World(kept=kept, connect=carrier_to) as world:
        server = await world.servers.add(Wish(said=ServerChange(name="behind", url=f"{behind.url}/api", kind="ollama")))
        assert (server.available, server.row.url, server.row.reach) == (True, behind.url, "loopback")
        assert server.version
        rows = {one.row.model: one.row for one in world.servers.models(server.row.id)}
        row = rows["localmodels:latest"]
        assert (len(row.digest), row.size > 0, row.context_length > 0, "completion" in row.told) == (
            64,
            True,
            True,
            True,
        )
        assert (await world.unloading.unload(row.id)).status == "not_loaded"
        await asyncio.to_thread(behind.post, "/api/generate", model="localmodels", stream=False)
        seen = await world.unloading.check(row.id)
        assert (seen.is_available, seen.is_loaded, seen.error) == (True, True, "")
        assert (await world.unloading.unload(row.id)).status == "unloaded"
        eventually(lambda: behind.running() == {}, "its runner has ended")
        assert (await world.unloading.check(row.id)).is_loaded is False


@asynccontextmanager
async def listening(root: bytes, version: bytes) -> AsyncIterator[Address]:
    """A server that answers two questions."""
    said = {b"/": root, b"/api/version": version, b"/api/tags": b'{"models": []}', b"/api/ps": b'{"models": []}'}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := (await reader.readuntil(b"\r\n\r\n") if not reader.at_eof() else b""):
            body = said.get(head.split(b" ")[1])
            status = b"200 OK" if body is not None else b"404 Not Found"
            told = body or b"{}"
            writer.write(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(told), told))
            await writer.drain()

    async def forgiving(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(forgiving, "127.0.0.1", 0)
    async with server:
        yield Address(*server.sockets[0].getsockname()[:2])


@awaited
async def test_whatever_hangs_the_list_is_there_in_two_seconds(behind: Served, tmp_path: Path) -> None:
    hanging: list[asyncio.StreamWriter] = []
    mute = await asyncio.start_server(lambda _, writer: hanging.append(writer), "127.0.0.1", 0)
    async with mute, opened(tmp_path) as kept, World(kept=kept, connect=carrier_to) as world:
        url = f"http://127.0.0.1:{mute.sockets[0].getsockname()[1]}"
        for name, said in (("good", behind.url), ("mute", url), ("dead", "http://127.0.0.1:9")):
            await world.servers.add(Wish(said=ServerChange(name=name, url=said)))
        begun = monotonic()
        rows = {one.row.name: one for one in await world.servers.live()}
        assert monotonic() - begun < 2.0
        assert hanging
        assert [(name, rows[name].available) for name in ("good", "mute", "dead")] == [
            ("good", True),
            ("mute", False),
            ("dead", False),
        ]
        assert (rows["mute"].models, rows["mute"].version) == ((), None)
        for writer in hanging:
            writer.close()


GREETING, VERSION = b"Ollama is running", b'{"version": "0.12.6"}'


@awaited
async def test_a_real_ollama_joins_the_fleet_once(tmp_path: Path) -> None:
    async with listening(GREETING, VERSION) as address, opened(tmp_path) as kept:
        async with World(kept=kept, connect=carrier_to) as world:
            found = await greet_ollama(world.servers, address)
            assert found is not None
            assert (found.row.name, found.row.url, found.available) == ("ollama", f"http://{address}", True)
            assert await greet_ollama(world.servers, address) is None
            await world.servers.change(found.row.id, Wish(said=ServerChange(name="mine", is_active=False)))
        async with World(kept=kept, connect=carrier_to) as world:
            assert await greet_ollama(world.servers, address) is None
            assert [one.row.name for one in world.servers.all()] == ["local", "mine"]


@pytest.mark.parametrize(
    ("root", "version"),
    [
        (b'{"message": "LocalModels is running"}', VERSION),
        (GREETING, b"{}"),
        (GREETING, b"<html>"),
        (b"hello", VERSION),
    ],
)
@awaited
async def test_what_is_no_ollama_is_left_alone(root: bytes, version: bytes, tmp_path: Path) -> None:
    async with (
        listening(root, version) as address,
        opened(tmp_path) as kept,
        World(kept=kept, connect=carrier_to) as world,
    ):
        assert await greet_ollama(world.servers, address) is None
        assert len(world.servers.all()) == 1


@awaited
async def test_another_of_ours_is_no_ollama_and_nobody_is_none(behind: Served, tmp_path: Path) -> None:
    async with opened(tmp_path) as kept, World(kept=kept, connect=carrier_to) as world:
        assert await greet_ollama(world.servers, Address.parse(behind.url.removeprefix("http://"))) is None
        assert await greet_ollama(world.servers, Address("127.0.0.1", 9)) is None
        dead = await world.servers.add(Wish(said=ServerChange(name="dead", url="http://127.0.0.1:9")))
        with pytest.raises(Unreachable, match=r"^the server 'dead' cannot be reached$"):
            await world.servers.discover(dead.row.id)
