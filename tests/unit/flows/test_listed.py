"""Lists of other servers' models: remembered, bounded, and believed as far as they are sound."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from hashlib import sha256
from types import MappingProxyType
from typing import Any

import pytest
from tests.awaited import awaited

from localmodels.backends.far import Far
from localmodels.backends.http import Reply
from localmodels.core import via
from localmodels.core.errors import Unreachable
from localmodels.core.servers import ServerKind, ServerSpec
from localmodels.flows.listed import FRESH, MOST_MODELS, Listed


class Said:
    """An answer that is there."""

    content_type = "application/json"
    headers: Mapping[str, str] = MappingProxyType({})

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self._body = body

    @property
    def ended(self) -> bool:
        return not self._body

    @property
    def pouring(self) -> None:
        return

    async def piece(self) -> bytes:
        body, self._body = self._body, b""
        return body

    def close(self) -> None: ...


class Carrier:
    """Answers as it is told; None stands for nobody there."""

    def __init__(self, body: bytes | None = b"{}") -> None:
        self.body = body
        self.paths: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.opened: Callable[[], object] = lambda: None

    async def open(self, method: str, path: str, body: bytes | None) -> Reply:
        self.paths.append(path)
        self.opened()
        await self.gate.wait()
        if self.body is None:
            raise Unreachable("the server cannot be reached")
        return Said(200, self.body)

    async def close(self) -> None: ...


class Watch:
    """A list, its server and its clock."""

    def __init__(self, kind: ServerKind = "openai", body: bytes | None = b"{}", **spec: Any) -> None:
        self.now = 1000.0
        self.carrier = Carrier(body)
        described = ServerSpec(name="far", url="http://far", kind=kind, **spec)
        far = Far(described, self.carrier)
        self.listed = Listed(described, far.models, clock=lambda: self.now)

    async def names(self, patience: float = 60.0) -> list[str]:
        return [model.name for model in await self.listed.models(patience=patience)]

    async def settled(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)


@awaited
async def test_a_list_is_asked_for_once_and_again_when_it_is_old() -> None:
    watch = Watch(body=b'{"data": [{"id": "a", "created": 86400}, {"id": "b/c:7"}]}')
    assert await watch.names() == await watch.names() == ["far/a", "far/b/c:7"]
    assert watch.carrier.paths == ["/v1/models"]
    watch.now += FRESH
    watch.carrier.body = b'{"data": [{"id": "new"}]}'
    assert await watch.names() == ["far/a", "far/b/c:7"], "nobody waits for the second list"
    await watch.settled()
    assert await watch.names() == ["far/new"]
    assert watch.listed.known


@awaited
async def test_a_slow_server_holds_nobody_up_for_long() -> None:
    watch = Watch(body=b'{"data": [{"id": "a"}]}')
    watch.carrier.gate.clear()
    assert await watch.names(patience=0.01) == []
    watch.carrier.gate.set()
    await watch.settled()
    assert await watch.names() == ["far/a"]
    assert len(watch.carrier.paths) == 1


@awaited
async def test_what_was_known_stays_when_the_server_goes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    watch = Watch(body=b'{"data": [{"id": "a"}]}')
    await watch.names()
    watch.now += FRESH
    watch.carrier.body = None
    await watch.names()
    await watch.settled()
    assert await watch.names() == ["far/a"]
    assert "the server 'far' does not list its models: the server cannot be reached" in caplog.text


@awaited
async def test_a_table_that_lists_models_is_believed() -> None:
    watch = Watch(models=("a", "b"))
    assert await watch.names() == ["far/a", "far/b"]
    assert watch.carrier.paths == []


@awaited
async def test_an_ollama_tells_more() -> None:
    body = (
        b'{"models": [{"name": "m:7b", "model": "m:7b", "size": 5, "digest": "%b", "capabilities": ["tools", "x"],'
        b' "modified_at": "2026-01-02T03:04:05.123456789+02:00", "details": {"family": "llama"}}]}' % (b"a" * 64)
    )
    (model,) = await Watch("ollama", body).listed.models(patience=60.0)
    assert (model.name, model.size, model.digest, model.server) == ("far/m:7b", 5, "a" * 64, "far")
    assert model.details.family == "llama"
    assert datetime.fromisoformat(model.modified_at).year == 2026


@pytest.mark.parametrize("told", ["soon", "2026-99-99", "", "9" * 999])
@awaited
async def test_moments_that_are_none_do_no_harm(told: str) -> None:
    ollama = f'{{"models": [{{"name": "m", "modified_at": "{told}"}}]}}'.encode()
    (model,) = await Watch("ollama", ollama).listed.models(patience=60.0)
    assert datetime.fromisoformat(model.modified_at).tzinfo
    (model,) = await Watch("anthropic", b'{"data": [{"id": "m", "created": 1e300}]}').listed.models(patience=60.0) or (
        model,
    )
    assert datetime.fromisoformat(model.modified_at).tzinfo


@awaited
async def test_a_model_without_a_digest_gets_one_of_its_name() -> None:
    (model,) = await Watch(body=b'{"data": [{"id": "a"}]}').listed.models(patience=60.0)
    assert model.digest == sha256(b"far/a").hexdigest()


@pytest.mark.parametrize("body", [b"<html>", b'{"data": 7}', b'{"data": [{}]}', b"", b'{"data": [{"id": "\xff"}]}'])
@awaited
async def test_what_is_no_list_is_a_failure_and_shows_nothing(body: bytes) -> None:
    watch = Watch(body=body)
    assert await watch.names() == []
    assert not watch.listed.known


@awaited
async def test_names_are_bounded_and_sayable() -> None:
    many = ",".join(f'{{"id": "m{number}"}}' for number in range(MOST_MODELS + 5))
    watch = Watch(body=f'{{"data": [{{"id": "a b"}}, {{"id": "x\\ny"}}, {{"id": "{"z" * 999}"}}, {many}]}}'.encode())
    names = await watch.names()
    assert len(names) <= MOST_MODELS
    assert all(name.startswith("far/m") for name in names)


@awaited
async def test_a_list_is_asked_for_by_us_whoever_wants_it() -> None:
    watch = Watch(body=b'{"data": [{"id": "a", "gateways": ["b"]}]}')
    ways: list[tuple[str, ...]] = []
    watch.carrier.opened = lambda: ways.append(via.way())
    via.arrive("them", "us", looks=True)
    (model,) = await watch.listed.models(patience=60.0)
    assert (ways, model.gateways) == ([("us",)], ("b",))
    assert via.way() == ("them", "us"), "and the request goes on as it was"
