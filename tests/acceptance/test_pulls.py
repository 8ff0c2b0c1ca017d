"""A hundred clients pull one model through the server at once: each blob is fetched once, and each is told (F5)."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path

import aiohttp
from msgspec.structs import replace
from tests.acceptance.serving import PATIENCE, Served, serve
from tests.awaited import awaited
from tests.registry.models import model, stock
from tests.registry.server import Registry, Rule
from tests.registry.threads import in_a_thread
from tests.registry.wire import Asked, Reply

from localmodels.store.model_store import ModelStore

CLIENTS, LEAVERS = 100, 10


class Gate:
    """Holds what a registry in another thread answers about blobs, until it is opened."""

    def __init__(self) -> None:
        self._opened = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def hold(self, _asked: Asked, reply: Reply) -> Reply:
        self._loop = asyncio.get_running_loop()
        return replace(reply, hold=self._opened)

    def open(self) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._opened.set)


class Crowd:
    """Clients that pull the same, and when all of them have heard of the first blob."""

    def __init__(self, served: Served, name: str) -> None:
        self.joined = asyncio.Event()
        self._served = served
        self._asked = {"model": name, "insecure": True}
        self._hearing = 0

    async def pull(self, client: aiohttp.ClientSession) -> list[str]:
        """The statuses that one client hears."""
        said: list[str] = []
        async with client.post(f"{self._served.url}/api/pull", json=self._asked) as answer:
            async for line in answer.content:
                step = json.loads(line)
                if "digest" in step and not any(status.startswith("pulling ") for status in said[1:]):
                    self._hearing += 1
                    if self._hearing == CLIENTS:
                        self.joined.set()
                said.append(step.get("status") or step["error"])
        return said


def session() -> aiohttp.ClientSession:
    timeout = aiohttp.ClientTimeout(total=PATIENCE)
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout)


def fetched(registry: Registry) -> Counter[str]:
    """How often each range of each blob was asked for."""
    asked = (visit.asked for visit in registry.visits if visit.kind == "blob")
    return Counter(f"{one.path} {one.headers.get('range')}" for one in asked)


@awaited
async def test_a_hundred_clients_pull_one_model_at_once(tmp_path: Path) -> None:
    big, gate = model(3_000_000, 70_000, 9), Gate()
    with in_a_thread(Registry(Rule("blob", gate.hold))) as registry, serve(home=tmp_path) as served:
        stock(registry, big)
        name = f"127.0.0.1:{registry.port}/library/tiny"
        crowd = Crowd(served, name)
        async with session() as client:
            everyone = [asyncio.create_task(crowd.pull(client)) for _ in range(CLIENTS)]
            await crowd.joined.wait()
            for one in everyone[:LEAVERS]:
                one.cancel()
            await asyncio.wait(everyone[:LEAVERS])
            gate.open()
            heard = await asyncio.gather(*everyone[LEAVERS:])
        assert all(one.cancelled() for one in everyone[:LEAVERS])
        assert [said[-1] for said in heard] == ["success"] * (CLIENTS - LEAVERS)
        assert all(said.count("success") == 1 for said in heard)
        assert set(fetched(registry).values()) == {1}
        assert len(fetched(registry)) == len(big.blobs)
    store = ModelStore(tmp_path / "models")
    assert store.check(read_data=True) == ()
    assert {path.name[7:] for path in (tmp_path / "models/blobs").iterdir()} == {one.digest.hex for one in big.blobs}
