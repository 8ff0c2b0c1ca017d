"""Looks at real servers of every kind over real connections: what they tell, and what becomes of the damaged ones."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any, get_args

import pytest
from tests.acceptance.serving import serve
from tests.awaited import awaited
from tests.contract.test_runner import engine, model

from localmodels.backends.carriers import carrier_to
from localmodels.backends.fake import FakeServer, Page, Wire
from localmodels.backends.far import Far
from localmodels.backends.internet import Internet
from localmodels.backends.kinds import credentials
from localmodels.backends.probes import MOST_LIST, Remembered, look_at_llamacpp
from localmodels.core.secrets import Secret
from localmodels.core.servers import ServerKind, ServerSpec
from localmodels.fleet.fleet import Fleet
from localmodels.fleet.hosts import Host
from localmodels.fleet.monitor import Monitor, Probe
from localmodels.fleet.pace import Pace

__all__ = ["model"]  # the fixture

KINDS: tuple[ServerKind, ...] = get_args(ServerKind)
LISTS: Mapping[ServerKind, str] = {
    "ollama": "/api/tags",
    "openai": "/v1/models",
    "llamacpp": "/v1/models",
    "anthropic": "/v1/models",
}
KEY = "sk-sesame-0123456789"
# Quick, where a test waits for a look that comes by itself, or for a deadline.
QUICK = Pace(busy=0.05, idle=0.05, longest_idle=0.05, down=0.05, longest_down=0.05, deadline=0.3)

ENDLESS = Wire(framing="close", at=1, then="garbage", garbage=b" " * (MOST_LIST + 2**20))
# What each does wrong, and what is said of it.
DAMAGED: Mapping[str, tuple[Page, str]] = {
    "garbage": (Page(b"\xff\xfe{]\x00<html>"), "not what it should be"),
    "no list": (Page(b'{"object": "list"}'), "not what it should be"),
    "a deep one": (Page(b'{"models": ' + b"[" * 100_000), "not what it should be"),
    "cut off": (Page(wire=Wire(at=1)), "broke in the middle"),
    "reset": (Page(wire=Wire(at=1, then="rst")), "broke in the middle"),
    "shorter than it says": (Page(wire=Wire(framing="length", length_error=7)), "broke in the middle"),
    "stops in the middle": (Page(wire=Wire(at=1, then="stall")), "did not say within"),
    "never begins": (Page(first=3600.0), "did not say within"),
    "a head without an end": (Page(wire=Wire(head="endless")), "did not say within"),
    "a head that is none": (Page(wire=Wire(head="garbage")), "is not HTTP"),
    "nothing at all": (Page(wire=Wire(head="none")), "without an answer"),
    "endless": (Page(wire=ENDLESS), "is larger than"),
    "compressed": (Page(wire=Wire(fields="Content-Encoding: gzip\r\n")), "compressed"),
    "a failure of its own": (Page(status=500), "the server answered 500"),
    "out of order": (Page(status=503), "the server answered 503"),
    "no key of ours": (Page(b'{"error": "%s is wrong"}' % KEY.encode(), status=401), "refuses our key"),
    "elsewhere": (Page(status=302, wire=Wire(fields="Location: http://127.0.0.1:1/\r\n")), "302"),
}


def tags(*models: tuple[str, str], **fields: Any) -> Page:
    """Ollama's list."""
    return Page(
        json.dumps({"models": [{"name": name, "digest": digest, **fields} for name, digest in models]}).encode()
    )


class Watched:
    """Servers, the fleet in front of them, and who looks at them."""

    def __init__(self, pace: Pace, connect: Callable[[ServerSpec], Far]) -> None:
        self.fleet = Fleet()
        self.fars: dict[str, Far] = {}
        self.monitor = Monitor(self.fleet, self._probe, pace=pace)
        self._connect = connect

    def adopt(self, *specs: ServerSpec) -> None:
        self.fars.update({spec.name: self._connect(spec) for spec in specs if spec.name not in self.fars})
        self.fleet.adopt(specs)

    def host(self, name: str = "far") -> Host:
        host = self.fleet.named(name)
        assert host is not None
        return host

    async def until(self, true: Callable[[Host], bool], name: str = "far") -> Host:
        """Waits until this is true of a host."""
        news = asyncio.Event()
        deaf = self.fleet.listen(lambda _: news.set())
        while not true(self.host(name)):
            news.clear()
            await news.wait()
        deaf()
        return self.host(name)

    def _probe(self, host: Host) -> Probe:
        return self.fars[host.spec.name]


def near(spec: ServerSpec) -> Far:
    return Far(spec, carrier_to(spec))


def by_internet(spec: ServerSpec) -> Far:
    """Over the carrier that https takes."""
    return Far(spec, Internet(spec.url, headers=credentials(spec)))


@asynccontextmanager
async def watched(
    *specs: ServerSpec, pace: Pace | None = None, connect: Callable[[ServerSpec], Far] = near
) -> AsyncIterator[Watched]:
    world = Watched(pace or Pace(), connect)
    world.adopt(*specs)
    async with world.monitor:
        yield world
    for far in world.fars.values():
        await far.close()


def spec_of(server: FakeServer, kind: ServerKind, name: str = "far") -> ServerSpec:
    return ServerSpec(name=name, id=name, url=server.url, kind=kind, key=Secret(KEY), registered=True)


@pytest.mark.parametrize("connect", [near, by_internet])
@pytest.mark.parametrize("kind", KINDS)
@awaited
async def test_what_a_server_has_is_known(kind: ServerKind, connect: Callable[[ServerSpec], Far]) -> None:
    async with FakeServer(names=("m:1", "org/other")) as server:
        async with watched(spec_of(server, kind), connect=connect) as world:
            host = await world.monitor.look("far")
            assert (host.state, host.failure) == ("up", "")
            assert [one.spec.name for one in world.fleet.holders("m:1")] == ["far"]
            assert [one.spec.name for one in world.fleet.holders("org/other:latest")] == ["far"]
            assert host.checked_at > 0
        assert server.book.visits == [], "nothing is generated"
        assert all(KEY in "".join(asked.headers.values()) for asked in server.asked)


@pytest.mark.parametrize("connect", [near, by_internet])
@pytest.mark.parametrize("how", DAMAGED)
@pytest.mark.parametrize("kind", ["ollama", "openai"])
@awaited
async def test_what_a_damaged_server_does_is_a_failure_with_a_name(
    kind: ServerKind, how: str, connect: Callable[[ServerSpec], Far]
) -> None:
    page, why = DAMAGED[how]
    async with FakeServer() as server:
        server.pages[LISTS[kind]] = page
        async with watched(spec_of(server, kind), pace=QUICK, connect=connect) as world:
            host = await world.monitor.look("far")
            assert host.state == "down"
            assert why in host.failure or connect is by_internet
            assert KEY not in host.failure
            del server.pages[LISTS[kind]]
            await world.until(lambda host: host.state == "up")
            assert host.failure == ""


@awaited
async def test_damaged_servers_delay_no_list() -> None:
    async with AsyncExitStack() as stack:
        specs = []
        for number, (page, _) in enumerate(DAMAGED.values()):
            server = await stack.enter_async_context(FakeServer())
            server.pages["/api/tags"] = page
            specs.append(spec_of(server, "ollama", f"bad-{number}"))
        for number in range(5):
            well = await stack.enter_async_context(FakeServer())
            specs.append(spec_of(well, "ollama", f"well-{number}"))
        specs.append(replaced(specs[0], "nobody", "http://127.0.0.1:9"))
        async with watched(*specs) as world:
            began = monotonic()
            answering = await world.monitor.looked(patience=1.5)
            assert monotonic() - began < 2.0
            assert {host.spec.name for host in answering} == {f"well-{number}" for number in range(5)}


def replaced(spec: ServerSpec, name: str, url: str) -> ServerSpec:
    return ServerSpec(name=name, id=name, url=url, kind=spec.kind, registered=True)


@awaited
async def test_a_look_is_not_held_up_by_requests() -> None:
    async with FakeServer() as server:
        server.pages["/api/chat"] = Page(first=3600.0)
        async with watched(spec_of(server, "ollama")) as world:
            far = world.fars["far"]
            asking = [asyncio.ensure_future(far.http.post("/api/chat", b"{}")) for _ in range(50)]
            async with asyncio.timeout(5):
                await world.monitor.look("far")
                assert [asked.path for asked in server.asked].count("/api/chat") == 50
                assert (await world.monitor.look("far")).state == "up"
            for one in asking:
                one.cancel()


@awaited
async def test_a_changed_digest_is_noticed_and_two_of_the_same_name_are_not_believed() -> None:
    async with FakeServer() as server:
        server.pages["/api/tags"] = tags(("m:1", "a" * 64))
        async with watched(spec_of(server, "ollama")) as world:
            host = await world.monitor.look("far")
            assert digest(host) == "a" * 64
            server.pages["/api/tags"] = tags(("m:1", "b" * 64))
            assert digest(await world.monitor.look("far")) == "b" * 64
            server.pages["/api/tags"] = tags(("m:1", "b" * 64), ("m:1", "c" * 64))
            host = await world.monitor.look("far")
            assert (host.state, host.failure) == ("down", "the server lists 'm:1' twice, with different digests")
            assert digest(host) == "b" * 64, "what was known stays"


def digest(host: Host) -> str:
    holding = host.holds("m:1")
    assert holding is not None
    return holding.digest


@awaited
async def test_one_that_comes_and_goes_is_known_as_it_is() -> None:
    async with AsyncExitStack() as at_first:
        first = await at_first.enter_async_context(FakeServer())
        spec, port = spec_of(first, "ollama"), int(first.url.rpartition(":")[2])
        async with watched(spec, pace=QUICK) as world:
            await world.until(lambda host: host.state == "up")
            await at_first.aclose()
            for _ in range(10):
                await world.until(lambda host: host.state == "down")
                assert world.host().failure
                async with FakeServer(port=port):
                    await world.until(lambda host: host.state == "trying")
                    await world.until(lambda host: host.state == "up")


@awaited
async def test_a_page_that_is_slow_is_waited_for_within_the_deadline() -> None:
    async with FakeServer() as server:
        server.pages["/api/tags"] = Page(tags(("m:1", "a" * 64)).body, first=0.1)
        async with watched(spec_of(server, "ollama")) as world:
            assert (await world.monitor.look("far")).state == "up"


@awaited
async def test_llama_cpp_s_own_server(model: Path) -> None:
    async with engine(model) as own, own.leased() as near_:
        told = await look_at_llamacpp(near_._runner.http, Remembered())
        (found,) = told.models
        assert found.context_length > 0
        assert found.size > 0
        assert "completion" in found.capabilities
        assert told.running is not None
        assert [one.model.name for one in told.running] == [found.name]
        assert told.version


def test_another_localmodels(model: Path, tmp_path: Path) -> None:
    with serve("--model", f"tiny={model}", home=tmp_path) as served:
        awaited(looked_over)(served.url)


async def looked_over(url: str) -> None:
    spec = ServerSpec(name="far", id="far", url=url, kind="ollama", registered=True)
    async with watched(spec) as world:
        host = await world.monitor.look("far")
        assert host.state == "up"
        assert host.sight is not None
        assert host.sight.version
        holding = host.holds("tiny:latest")
        assert holding is not None
        assert len(holding.digest) == 64
        assert holding.size > 0
        assert holding.context_length > 0
        assert "completion" in holding.capabilities
        assert host.is_warm("tiny:latest") is False
        await world.fars["far"].http.post("/api/generate", b'{"model": "tiny", "prompt": "", "stream": false}')
        await world.monitor.look("far")
        assert host.is_warm("tiny:latest") is True
