"""Gateways that stand behind each other: what nobody has any more leaves every list, and no request goes round."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from tests.acceptance.serving import Served, eventually, serve

AT_ONCE = 5.0  # seconds; a request that went round would wait for as long as anybody has patience
SOME_SECONDS = 20.0
HELLO = [{"role": "user", "content": "Hi"}]


# What a gateway lists of others, by the API in which it asks them; OpenAI's does not say what is in memory.
LISTS = {"ollama": ("/api/tags", "/api/ps"), "openai": ("/api/tags",)}


def register(front: Served, name: str, url: str, kind: str = "ollama") -> dict[str, Any]:
    answer = front.post("/api/servers/", name=name, url=url, kind=kind)
    assert answer.status_code == 201, answer.text
    row: dict[str, Any] = answer.json()
    return row


@pytest.fixture(scope="module", params=[(2, "ollama"), (3, "ollama"), (3, "openai")], ids=str)
def circle(request: pytest.FixtureRequest) -> tuple[int, str]:
    """How many gateways stand in a circle, and in which API they ask each other."""
    said: tuple[int, str] = request.param
    return said


@pytest.fixture(scope="module")
def ring(circle: tuple[int, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sequence[Served]]:
    """Gateways, each of which has the one before it registered: the last leads back to the first."""
    number, api = circle
    with ExitStack() as stack:
        every = [stack.enter_context(serve(home=tmp_path_factory.mktemp(f"g{n}"))) for n in range(number)]
        for place, gateway in enumerate(every):
            register(gateway, "before", every[place - 1].url, api)
        yield every


def listed(gateway: Served, path: str = "/api/tags") -> dict[str, Any]:
    """What it lists, after it has asked its server anew."""
    gateway.get("/api/models/servers").raise_for_status()
    return {row["name"].removesuffix(":latest"): row for row in gateway.get(path).json()["models"]}


def lists(gateway: Served, model: str, path: str = "/api/tags") -> bool:
    return model in listed(gateway, path)


def misses(gateway: Served, model: str, path: str = "/api/tags") -> bool:
    return model not in listed(gateway, path)


def test_a_model_that_is_deleted_leaves_all_lists(ring: Sequence[Served], circle: tuple[int, str]) -> None:
    owner, paths = ring[0], LISTS[circle[1]]
    owner.post("/api/copy", source="localmodels", destination="passing").raise_for_status()
    for gateway in ring:
        eventually(partial(lists, gateway, "passing"), "it is listed")
    for gateway in ring:  # who would tell it back has every chance to
        row = listed(gateway)["passing"]
        assert row["servers"] == (["local"] if gateway is owner else ["before"])
        assert "gateways" not in row, "which is for gateways alone"
    for gateway in ring:
        answer = gateway.post("/api/chat", model="passing", messages=HELLO, stream=False, keep_alive=60)
        assert answer.status_code == 200, answer.text
        eventually(partial(lists, gateway, "passing", paths[-1]), "it is told of")
    assert [row["server"] for row in owner.get("/api/ps").json()["models"]] == ["local"]

    assert httpx2.request("DELETE", f"{owner.url}/api/delete", json={"model": "passing"}).status_code == 200
    for path in paths:
        for gateway in ring:
            eventually(partial(misses, gateway, "passing", path), f"it has left {path}", within=SOME_SECONDS)
    assert all(misses(gateway, "passing") for gateway in ring), "and does not come back"


@pytest.mark.parametrize("model", ["nobody-has-it", "before/nobody-has-it", "before/before/before/localmodels"])
def test_a_model_that_nobody_has_is_told_at_once(ring: Sequence[Served], model: str) -> None:
    for gateway in ring:
        for path, stream in (("/api/chat", False), ("/v1/chat/completions", True)):
            begun = monotonic()
            answer = gateway.post(path, model=model, messages=HELLO, stream=stream)
            assert answer.status_code in {404, 508}, answer.text
            assert "error" in answer.json(), "in words"
            assert monotonic() - begun < AT_ONCE


async def copied(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(2**16):
        sink.write(data)


@contextmanager
def mirror(url: str) -> Iterator[str]:
    """Another address at which the same server answers."""
    at = urlsplit(url)
    told: Future[tuple[str, Callable[[], None]]] = Future()

    async def passed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(at.hostname, at.port)
        with closing(writer), closing(back):
            ways = [asyncio.create_task(copied(reader, back)), asyncio.create_task(copied(there, writer))]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()

    async def stand() -> None:
        ended, loop = asyncio.Event(), asyncio.get_running_loop()

        def end() -> None:
            loop.call_soon_threadsafe(ended.set)

        async with await asyncio.start_server(passed, "127.0.0.1", 0) as server:
            told.set_result((f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", end))
            await ended.wait()

    thread = threading.Thread(target=asyncio.run, args=(stand(),))
    thread.start()
    address, end = told.result(AT_ONCE)
    try:
        yield address
    finally:
        end()
        thread.join()


def test_a_gateway_that_is_its_own_server_holds_nothing(tmp_path: Path) -> None:
    with serve("--allowed-host", "127.0.0.1", home=tmp_path) as one, mirror(one.url) as url:
        row = register(one, "myself", url)
        assert (row["available"], row["models"]) == (False, [])
        told = {server["name"]: server for server in one.get("/api/models/servers").json()["servers"]}["myself"]
        assert (told["available"], told["models"], told["state"]) == (False, [], "down")
        assert told["failure"] == "it is this very program under another address; its models are those of 'local'"
        assert listed(one)["localmodels"]["servers"][0] == "local"
        assert "myself" not in listed(one)["localmodels"]["servers"]
        answer = one.post("/api/chat", model="myself/localmodels", messages=HELLO, stream=False)
        assert answer.status_code in {503, 508}, answer.text
        assert httpx2.delete(f"{one.url}/api/servers/{row['id']}").status_code in {200, 204}
