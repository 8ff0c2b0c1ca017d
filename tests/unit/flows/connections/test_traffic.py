"""Who rests after a failure, and for how long; and who is asked anew for what he has."""

from __future__ import annotations

import asyncio

import pytest
from tests.awaited import awaited

from localmodels.backends.http import Reply
from localmodels.core.errors import (
    BackendError,
    InvalidRequest,
    LocalModelsError,
    RateLimited,
    Unavailable,
    Unreachable,
)
from localmodels.core.servers import ServerSpec
from localmodels.fleet.fleet import Fleet
from localmodels.fleet.places import Places
from localmodels.flows.connections.remotes import Remotes
from localmodels.flows.connections.traffic import LONGEST_REST, MANY, USUAL_REST, Traffic


class Clock:
    """Seconds, as a test says them."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class World:
    """Two hosts that nobody asks."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.fleet = Fleet()
        self.fleet.adopt([ServerSpec(name=name, id=f"id-{name}", url="http://x", kind="ollama") for name in "ab"])
        self.traffic = Traffic(self.fleet, Places(), clock=self.clock)

    def fails(self, name: str, error: LocalModelsError, model: str = "m") -> None:
        host = self.fleet.named(name)
        assert host is not None
        self.traffic.met(host, model, error)


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (Unavailable("busy"), USUAL_REST),
        (Unavailable("busy", retry_after=7), 7),
        (RateLimited("slow", retry_after=3), 3),
        (Unavailable("busy", retry_after=3600), LONGEST_REST),
        (Unreachable("gone"), USUAL_REST),
        (BackendError("no"), USUAL_REST),
    ],
)
def test_a_host_that_failed_rests_for_a_while(error: LocalModelsError, seconds: float) -> None:
    world = World()
    world.fails("a", error)
    assert world.traffic.rests("m:latest") == {("id-a", "m:latest")}
    assert world.traffic.rests("m") == {("id-a", "m:latest")}
    assert world.traffic.rests("other") == frozenset(), "of other models it says nothing"
    world.clock.now = seconds - 0.01
    assert world.traffic.rests("m") == {("id-a", "m:latest")}
    world.clock.now = seconds
    assert world.traffic.rests("m") == frozenset()


def test_who_refuses_what_was_asked_has_not_failed() -> None:
    world = World()
    world.fails("a", InvalidRequest("no"))
    assert world.traffic.rests("m") == frozenset()


@awaited
async def test_who_lacks_a_model_is_asked_anew_once_at_a_time() -> None:
    world, asked, gate = World(), list[str](), asyncio.Event()

    async def look(host_id: str) -> None:
        asked.append(host_id)
        await gate.wait()
        raise Unreachable("gone meanwhile")

    world.traffic.look = look
    host = world.fleet.named("a")
    assert host is not None
    for _ in range(3):
        world.traffic.missing(host)
        await asyncio.sleep(0)
    assert asked == ["id-a"]
    gate.set()
    while len(asked) < 2:
        world.traffic.missing(host)
        await asyncio.sleep(0)
    assert asked == ["id-a", "id-a"]


class Line:
    """A way that nobody goes; notes when it is closed."""

    def __init__(self, events: list[str]) -> None:
        self._events = events

    async def open(self, method: str, path: str, body: bytes | None) -> Reply:
        raise Unreachable("the server cannot be reached")

    async def close(self) -> None:
        self._events.append("closed")


@awaited
async def test_looks_end_before_the_connections_that_they_need() -> None:
    events = list[str]()
    remotes = Remotes(lambda spec: Line(events))
    await remotes.adopt([ServerSpec(name="a", url="http://x", kind="ollama")])

    async def look(host_id: str) -> None:
        events.append("looks")
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            events.append("ended")

    remotes.traffic.look = look
    (server,) = remotes.servers()
    remotes.traffic.missing(server.host)
    await asyncio.sleep(0)
    await remotes.close()
    remotes.traffic.missing(server.host)
    await asyncio.sleep(0)
    assert events == ["looks", "ended", "closed"]


@awaited
async def test_what_requests_met_says_nothing_of_a_server_but_through_the_fleet() -> None:
    remotes = Remotes(lambda spec: Line([]))
    await remotes.adopt([ServerSpec(name="a", url="http://x", kind="ollama")])
    (server,) = remotes.servers()
    assert server.said(Unreachable("the server is gone")).message == "the server 'a' is gone"
    assert (server.answers, server.state().get("failure")) == (True, None)
    remotes.fleet.failed(server.host, Unreachable("gone"), 0.0)
    assert (server.answers, server.state()["status"], server.state()["failure"]) == (False, "down", "gone")
    await remotes.close()


@awaited
async def test_names_that_callers_make_up_are_not_remembered_for_ever() -> None:
    world = World()
    for number in range(3 * MANY):
        world.clock.now = float(number)
        world.fails("a", Unavailable("busy"), f"made-up-{number}")
    assert len(world.traffic._rests) <= MANY
    assert world.traffic.rests(f"made-up-{3 * MANY - 1}") == {("id-a", f"made-up-{3 * MANY - 1}:latest")}
