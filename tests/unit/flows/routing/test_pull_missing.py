"""Models that nobody has: who may have them fetched, to which host, and how many pulls that makes."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

import pytest
from tests.awaited import awaited

from localmodels.core.access import LOCAL, USUAL, Caller
from localmodels.core.catalog import Model
from localmodels.core.chat import ChatRequest
from localmodels.core.errors import (
    DiskFull,
    LocalModelsError,
    ModelNotFound,
    QueueFull,
    ShuttingDown,
    Unavailable,
    Unreachable,
)
from localmodels.core.library import Progress
from localmodels.core.servers import AnyKind, ServerSpec
from localmodels.dialects.told import Told
from localmodels.fleet.fleet import Fleet
from localmodels.fleet.hosts import Host
from localmodels.flows.connections.server_names import Astray
from localmodels.flows.routing.pull_missing import Missing, Pulls, best
from localmodels.flows.visit import Visit


def spec(name: str, kind: AnyKind = "ollama", **more: Any) -> ServerSpec:
    return ServerSpec(name=name, id=f"id-{name}", url=f"http://{name}", kind=kind, **{"registered": True, **more})


def fleet(*specs: ServerSpec, memory: dict[str, int] | None = None, down: tuple[str, ...] = ()) -> Fleet:
    made = Fleet()
    made.adopt(specs)
    for host in made.hosts():
        made.saw(host, Told(memory_free=(memory or {}).get(host.spec.name)))
        if host.spec.name in down:
            made.failed(host, Unreachable("gone"), 0.0)
    return made


def chosen(made: Fleet) -> str:
    host = best(made.hosts())
    return host.spec.name if host else ""


def test_the_best_host_for_a_model() -> None:
    assert chosen(fleet(spec("a"), spec("b"), memory={"a": 1, "b": 2})) == "b"
    assert chosen(fleet(spec("a", priority=1), spec("b"), memory={"a": 1, "b": 2})) == "a"
    assert chosen(fleet(spec("a"), spec("b"), memory={"b": 0})) == "b", "who does not tell comes last"
    assert chosen(fleet(spec("a"), spec("b", priority=9), down=("b",))) == "a"
    assert chosen(fleet(spec("a"), spec("b", priority=9, is_active=False))) == "a"
    assert chosen(fleet(spec("a", "openai"), spec("b", "llamacpp"), spec("c", "anthropic"))) == ""
    assert chosen(fleet(spec("a", registered=False))) == "", "those of the file are their owner's"
    assert chosen(fleet(spec("local", "local", registered=False))) == "local"
    assert chosen(fleet()) == ""


class Pulling:
    """Pulls that a test lets go on."""

    def __init__(self, made: Fleet, error: LocalModelsError | None = None, *, told: bool = True) -> None:
        self.told = told
        self.gate = asyncio.Event()
        self.begun: list[tuple[str, str]] = []
        self.looked: list[str] = []
        self.ended: list[tuple[str, str]] = []
        self.pulls = Pulls(made, self._pull, self._look, lambda host, how: self.ended.append((host.spec.name, how)))
        self._fleet = made
        self._error = error

    async def _pull(self, model: str, host: str) -> AsyncGenerator[Progress, None]:
        self.begun.append((model, host))
        yield Progress("pulling")
        await self.gate.wait()
        if self._error:
            raise self._error
        yield Progress("success")

    async def _look(self, host_id: str) -> Host:
        self.looked.append(host_id)
        host = self._fleet.host(host_id)
        assert host is not None
        if self.told:
            self._fleet.saw(host, Told((Model("m", 0, "", ""),)))
        else:
            self._fleet.failed(host, QueueFull("full"), 0.0)
        return host


@awaited
async def test_all_who_ask_at_once_share_one_pull() -> None:
    at = Pulling(fleet(spec("a")))
    tasks = [asyncio.ensure_future(at.pulls.pulled(name)) for name in ("m", "m:latest", "m", "m:latest", "m")]
    other = asyncio.ensure_future(at.pulls.pulled("n"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    tasks[0].cancel()
    at.gate.set()
    await asyncio.gather(*tasks[1:], other)
    assert at.begun == [("m", "id-a"), ("n", "id-a")]
    assert at.looked == ["id-a", "id-a"]
    assert tasks[0].cancelled()


@awaited
async def test_a_pull_goes_on_when_nobody_waits_and_ends_with_the_server() -> None:
    at = Pulling(fleet(spec("a")))
    alone = asyncio.ensure_future(at.pulls.pulled("m"))
    await asyncio.sleep(0)
    alone.cancel()
    await asyncio.wait((alone,))
    assert at.begun == [("m", "id-a")]
    again = asyncio.ensure_future(at.pulls.pulled("m"))
    await asyncio.sleep(0)
    assert len(at.begun) == 1
    await at.pulls.close()
    with pytest.raises(ShuttingDown):
        await again


@awaited
async def test_who_ends_begins_no_pull_and_lets_nobody_wait() -> None:
    at = Pulling(fleet(spec("a")))
    waiting = asyncio.ensure_future(at.pulls.pulled("m"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    at.pulls.interrupt()
    for asked in (waiting, at.pulls.pulled("m"), at.pulls.pulled("n")):
        with pytest.raises(ShuttingDown):
            await asked
    await at.pulls.close()
    assert at.begun == [("m", "id-a")]


@awaited
async def test_a_pull_that_fails_is_told_and_may_be_tried_again() -> None:
    at = Pulling(fleet(spec("a")), ModelNotFound("m"))
    at.gate.set()
    for _ in range(2):
        with pytest.raises(ModelNotFound):
            await at.pulls.pulled("m")
    assert len(at.begun) == 2
    with pytest.raises(Unavailable, match="no server"):
        await Pulling(fleet()).pulls.pulled("m")


@awaited
async def test_only_who_may_manage_models_has_them_fetched() -> None:
    at = Pulling(fleet(spec("a")))
    at.gate.set()
    missing = Missing("m", at.pulls, lambda name: None, Astray("m", "m", "m"))
    assert not missing.listed
    with pytest.raises(ModelNotFound):
        async with missing.ready(ChatRequest("m", ()), Visit("req", Caller("k", "k", USUAL))):
            pass
    assert at.begun == []
    with pytest.raises(ModelNotFound):  # it has come, and nobody finds it
        async with missing.ready(ChatRequest("m", ()), Visit("req", LOCAL)):
            pass
    assert at.begun == [("m", "id-a")]
    with pytest.raises(ModelNotFound):
        await missing.unload()


@pytest.mark.parametrize(("error", "how"), [(None, "fetched"), (ModelNotFound("m"), "model_not_found")])
@awaited
async def test_how_a_pull_ended_is_told(error: LocalModelsError | None, how: str) -> None:
    at = Pulling(fleet(spec("a")), error)
    at.gate.set()
    with suppress(ModelNotFound):
        await at.pulls.pulled("m")
    assert at.ended == [("a", how)]


@awaited
async def test_a_pull_that_was_given_up_is_told_too() -> None:
    at = Pulling(fleet(spec("a")))
    waiting = asyncio.ensure_future(at.pulls.pulled("m"))
    for _ in range(3):
        await asyncio.sleep(0)
    assert at.begun
    await at.pulls.close()
    with pytest.raises(ShuttingDown):
        await waiting
    assert at.ended == [("a", "left")]


@awaited
async def test_a_failure_that_nobody_waits_for_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    at = Pulling(fleet(spec("a")), DiskFull("the disk is full"))
    alone = asyncio.ensure_future(at.pulls.pulled("m"))
    for _ in range(3):
        await asyncio.sleep(0)
    alone.cancel()
    await asyncio.wait((alone,))
    at.gate.set()
    while not at.ended:  # noqa: ASYNC110  # nobody tells
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    gc.collect()  # with the task goes whoever would say that nobody has looked at its error
    assert [record.getMessage() for record in caplog.records if record.name != "asyncio"] == [
        "fetching the model 'm' to 'a'",
        "fetching the model 'm' to 'a' has ended: disk_full",
        "the model 'm' was not fetched: DiskFull: the disk is full",
    ]
    assert not [record for record in caplog.records if record.name == "asyncio" and record.levelno >= logging.ERROR]


@awaited
async def test_a_host_that_has_not_told_yet_of_what_it_fetched_is_asked_again_later() -> None:
    at = Pulling(fleet(spec("a")), told=False)
    at.gate.set()
    missing = Missing("m", at.pulls, lambda name: None, Astray("m", "m", "m"))
    with pytest.raises(Unavailable, match="the model was fetched to 'a', which has not told of it yet") as caught:
        async with missing.ready(ChatRequest("m", ()), Visit("req", LOCAL)):
            pass
    assert caught.value.retry_after == 1
