"""What is shown of a fleet is as it is now: what a request has just brought into memory, and who was just killed.

And a gateway that is alone is none: nothing is written for a fleet, nothing is loaded for it, and nobody is asked.
"""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.acceptance.serving import Served, eventually, serve
from tests.acceptance.test_fleet_api import QUIET, Fleet
from tests.awaited import awaited

from localmodels.backends.fake import FakeServer, Page
from localmodels.fleet.pace import Pace

SOON = 2.0  # seconds in which everything shall be shown; a look takes hundredths of one


@pytest.fixture(scope="module")
def front(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with serve("--model", f"near={models['brief']}", *QUIET, home=tmp_path_factory.mktemp("front")) as served:
        yield Fleet(served)


@pytest.fixture
def far(models: dict[str, Path], tmp_path: Path) -> Iterator[Served]:
    with serve("--model", f"tiny={models['tiny']}", *QUIET, home=tmp_path) as served:
        yield served


@pytest.fixture
def fleet(front: Fleet, far: Served) -> Iterator[Fleet]:
    """The front, with the other server."""
    front.add("far", far.url)
    yield front
    front.clear()


def warm(fleet: Fleet, model: str) -> dict[str, bool]:
    """Who is said to have it in memory."""
    return {one["server"]: one["warm"] for one in fleet.good("GET", f"/api/route?model={model}")["targets"]}


def rows(database: Path, table: str) -> int:
    with closing(sqlite3.connect(database)) as connection:
        counted: int = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608
        return counted


@pytest.mark.parametrize(("model", "server"), [("tiny", "far"), ("near", "local")])
def test_what_a_request_brought_into_memory_is_shown_after_it(fleet: Fleet, model: str, server: str) -> None:
    assert warm(fleet, model) == {server: False}
    assert fleet.chat(model).status_code == 200
    running = {row["name"]: row["server"] for row in fleet.good("GET", "/api/ps")["models"]}
    assert running[f"{model}:latest"] == server
    assert warm(fleet, model) == {server: True}
    fleet.served.post("/api/generate", model=model, keep_alive=0).raise_for_status()
    eventually(lambda: warm(fleet, model) == {server: False}, "it is cold again", within=Pace().longest_idle + SOON)


def test_what_is_left_of_a_memory_is_known_of_a_server_behind(fleet: Fleet, far: Served) -> None:
    """By that the gateway knows whether a model finds room there, or drives another one out."""

    def left() -> int:
        (target,) = fleet.good("GET", "/api/route?model=tiny")["targets"]
        assert target["server"] == "far"
        free: int = target["memory_free"]
        return free

    before = left()
    assert before == far.get("/api/ps").json()["memory_free"] > 0
    assert fleet.chat("tiny").status_code == 200
    taken = far.running()["tiny"]["size"]
    eventually(
        lambda: left() == before - taken, "what the model takes is no more free", within=Pace().longest_idle + SOON
    )
    assert left() == far.get("/api/ps").json()["memory_free"]


def test_a_killed_server_that_nobody_asks_is_soon_known_to_be_down(fleet: Fleet, far: Served) -> None:
    eventually(lambda: fleet.row("far")["state"] == "up", "it is up")
    far.signal(signal.SIGKILL)
    eventually(lambda: fleet.row("far")["state"] == "down", "it is down", within=Pace().longest_idle + SOON)


@awaited
async def test_a_server_that_hangs_delays_no_list_of_what_is_in_memory(front: Fleet) -> None:
    async with FakeServer(names=("slow:1",)) as hanging:
        await asyncio.to_thread(front.add, "hangs", hanging.url)
        hanging.pages["/api/tags"] = Page(first=3600.0)  # longer than any client here waits

        def asked_in_vain() -> bool:
            front.good("GET", "/api/ps")
            return any(one.path == "/api/tags" for one in hanging.asked[before:])

        before = len(hanging.asked)
        await asyncio.to_thread(eventually, asked_in_vain, "it was asked, and the list came without it")
        await asyncio.to_thread(front.clear)


def test_who_is_alone_writes_nothing_and_loads_nothing_for_a_fleet(models: dict[str, Path], tmp_path: Path) -> None:
    with serve("--model", f"near={models['brief']}", *QUIET, home=tmp_path) as served:
        fleet = Fleet(served)
        assert fleet.chat("auto").status_code == 200
        assert fleet.chat("local/near").status_code == 200
        assert warm(fleet, "near") == {"local": True}
        local = fleet.row("local")
        assert (local["state"], local["available"], [one["name"] for one in local["models"]][:1]) == (
            "up",
            True,
            ["near:latest"],
        )
        model = fleet.models(local)["near:latest"]
        assert fleet.good("GET", f"/api/models/{model['id']}")["model"] == "near:latest"
        database = tmp_path / "state.db"
        assert (rows(database, "server"), rows(database, "server_model")) == (0, 0)
        if sys.platform == "linux":
            assert "sqlalchemy" not in Path(f"/proc/{served.pid}/maps").read_text()
        fleet.good("PUT", f"/api/models/{model['id']}", {"priority": 7})
        assert fleet.models(local)["near:latest"]["priority"] == 7
        assert rows(database, "server") == 1
