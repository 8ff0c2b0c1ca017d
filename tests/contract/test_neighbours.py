"""What stands at a default port of ours when we start: we go on without the port, and an Ollama there joins the fleet.

The port is one that the system chose; which of the ports is Ollama's is said by the test, since another program of this
machine may well have 11434 itself. Only the whole program is started beside that one, on an island.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from tests.acceptance.serving import Served, eventually, serve
from tests.awaited import awaited
from tests.contract.island import Island, NoIsland, head, island
from tests.contract.stores import opened

from localmodels.backends.fake import FakeServer, Page
from localmodels.backends.fake.script import Sleep
from localmodels.config import load
from localmodels.core.address import OLLAMA_PORT, Address
from localmodels.engine.hardware import Hardware
from localmodels.server import listeners
from localmodels.server.fleeted import Fleeted, fleeted, followed
from localmodels.server.housed import housed

HARDWARE = Hardware(cpus=2, cores=2, memory_total=2**33, memory_available=2**33)
ANY = Address("127.0.0.1", 0)
OURS, OLLAMA = ("127.0.0.1", 8000), ("127.0.0.1", OLLAMA_PORT)  # the default ports, on an island alone
OLLAMA_URL = "http://{}:{}".format(*OLLAMA)


@contextmanager
def held() -> Iterator[Address]:
    """A port that somebody else has."""
    with socket.create_server((ANY.host, 0)) as somebody:
        yield Address(*somebody.getsockname())


@contextmanager
def bound(*addresses: Address, asked: bool) -> Iterator[Sequence[socket.socket]]:
    """What we get of these."""
    sockets = listeners.bind(addresses, asked=asked)
    try:
        yield sockets
    finally:
        for one in sockets:
            one.close()


def address_of(one: socket.socket) -> Address:
    return Address(*one.getsockname())


def test_a_default_port_that_is_taken_is_gone_on_without(caplog: pytest.LogCaptureFixture) -> None:
    with held() as theirs, bound(theirs, ANY, asked=False) as sockets:
        (ours,) = map(address_of, sockets)
        assert ours not in {theirs, ANY}
        assert [record.getMessage() for record in caplog.records if str(theirs) in record.getMessage()] == [
            f"{theirs} is taken (Address already in use); going on without it"
        ]
        with socket.create_connection((ours.host, ours.port)):
            assert listeners.urls(sockets) == [f"http://{ours}"]


def test_the_taken_ones_are_those_of_ollama_that_we_did_not_get() -> None:
    with held() as theirs, bound(theirs, ANY, asked=False) as sockets:
        (ours,) = map(address_of, sockets)
        wanted = [ours, theirs]
        assert listeners.taken(wanted, sockets, port=theirs.port) == [theirs]
        assert listeners.taken(wanted, sockets, port=ours.port) == [], "we have it ourselves"
        assert listeners.taken(wanted, sockets) == [], "neither is where Ollama is looked for"
        ollamas = Address(ANY.host, OLLAMA_PORT)
        assert listeners.taken([*wanted, ollamas], sockets) == [ollamas]


def test_ports_that_were_asked_for_must_all_be_had() -> None:
    with held() as free:
        pass
    with held() as theirs:
        with pytest.raises(listeners.PortTaken, match=f"^cannot listen on {theirs}: "):
            listeners.bind([free, theirs], asked=True)
        with bound(free, asked=True) as sockets:
            assert [*map(address_of, sockets)] == [free], "what was opened before it was given back"


def test_a_server_without_any_port_is_none() -> None:
    with held() as one, held() as other, pytest.raises(listeners.PortTaken, match="none of the default ports is free"):
        listeners.bind([one, other], asked=False)


ANSWERS = {
    "/": b"Ollama is running",
    "/api/version": b'{"version": "0.12.6"}',
    "/api/ps": b'{"models": []}',
    "/api/tags": b'{"models": [{"name": "theirs:1", "model": "theirs:1", "size": 5, "digest": "%064d"}]}' % 1,
}


def ollama(sleep: Sleep = asyncio.sleep) -> FakeServer:
    """A server that greets as Ollama does."""
    server = FakeServer(sleep=sleep)
    server.pages.update({path: Page(body) for path, body in ANSWERS.items()})
    return server


def at(server: FakeServer) -> Address:
    return Address.parse(server.url.removeprefix("http://"))


@asynccontextmanager
async def started(home: Path, neighbours: Sequence[Address], ours: Sequence[socket.socket]) -> AsyncIterator[Fleeted]:
    """The fleet of a server that has started."""
    config = load({"home": str(home)}, {}).config
    async with AsyncExitStack() as stack:
        state = await stack.enter_async_context(opened(home))
        here = housed(config, HARDWARE)
        stack.callback(here.store.close)
        stack.push_async_callback(here.pool.close)
        parts = fleeted(config, here, state, "one", lambda: listeners.urls(ours))
        stack.push_async_callback(parts.remotes.close)
        await stack.enter_async_context(followed(parts, neighbours))
        yield parts


async def until(parts: Fleeted, true: Callable[[], bool]) -> None:
    """Returns when this is so, looked at whenever anything of a host is not as it was."""
    news = asyncio.Event()
    deaf = parts.remotes.fleet.listen(lambda _: news.set())
    while not true():
        await news.wait()
        news.clear()
    deaf()


def known(parts: Fleeted) -> dict[str, str]:
    """The addresses of the servers that are there, by name."""
    return {spec.name: spec.url for spec in parts.specs() if spec.kind != "local"}


def has(parts: Fleeted, name: str, model: str) -> bool:
    host = parts.remotes.fleet.named(name)
    return host is not None and host.sight is not None and model in host.sight.holdings


@awaited
async def test_the_ollama_that_has_our_port_registers_itself_and_stays(tmp_path: Path) -> None:
    async with ollama() as server:
        theirs = at(server)
        with bound(theirs, ANY, asked=False) as sockets:
            neighbours = listeners.taken([theirs, *map(address_of, sockets)], sockets, port=theirs.port)
            async with started(tmp_path, neighbours, sockets) as parts:
                await until(parts, lambda: has(parts, "ollama", "theirs:1"))
                assert known(parts) == {"ollama": server.url}
                assert [spec.kind for spec in parts.specs() if spec.name == "ollama"] == ["ollama"]
            async with started(tmp_path, (), sockets) as parts:
                assert known(parts) == {"ollama": server.url}, "it was registered for good"


@awaited
async def test_who_leaves_waits_for_no_greeting(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    asked = asyncio.Event()

    async def silent(seconds: float) -> None:
        asked.set()
        await asyncio.Event().wait()

    async with ollama(silent) as server:
        server.pages["/"] = Page(first=1.0)
        with bound(ANY, asked=False) as sockets, caplog.at_level(logging.INFO):
            async with started(tmp_path, [at(server)], sockets) as parts:
                await asked.wait()
                assert known(parts) == {}
            assert f"what listens on {at(server)} is no Ollama" not in caplog.text, "it was not waited for"


@pytest.fixture
def beside_ollama() -> Iterator[Island]:
    """A network in which nobody is there but an Ollama, at its port."""

    def answer(request: bytes) -> bytes:
        path = request.split(b" ")[1].decode()
        return head("200 OK" if path in ANSWERS else "404 Not Found", body=ANSWERS.get(path, b"{}"))

    try:
        with island(ports=(OLLAMA_PORT,)) as land:
            land.homes[OLLAMA] = answer
            yield land
    except NoIsland as why:
        pytest.skip(f"there can be no network for this test: {why}")


@contextmanager
def running(land: Island, *flags: str, home: Path) -> Iterator[Served]:
    """The whole program in this network, at the ports that nobody has named."""
    with ExitStack() as left:
        opened = ExitStack()
        left.callback(land.call, opened.close)
        began = serve(*flags, home=home, listen=None, log=home / "log")
        yield land.call(lambda: opened.enter_context(began))


@pytest.mark.parametrize(("flags", "found"), [((), {OLLAMA_URL: ["theirs:1"]}), (("--no-register-ollama",), {})])
def test_the_whole_program_goes_on_beside_an_ollama(
    beside_ollama: Island, flags: Sequence[str], found: Mapping[str, Sequence[str]], tmp_path: Path
) -> None:
    allowed = [OURS, *([OLLAMA] if found else [])]
    with beside_ollama.watched(*allowed), running(beside_ollama, *flags, home=tmp_path) as served:

        def registered() -> dict[str, list[str]]:
            told = served.get("/api/servers/").json()["servers"]
            return {row["url"]: [model["name"] for model in row["models"]] for row in told if row["source"] == "api"}

        assert served.url == "http://{}:{}".format(*OURS)
        said = "{}:{} is taken (Address already in use); going on without it".format(*OLLAMA)
        assert said in (tmp_path / "log").read_text()
        beside_ollama.call(lambda: eventually(lambda: registered() == found, "it is registered, or nothing is"))
