"""Several gateways: on one PostgreSQL they hear of each other, and one of them reconciles; in a home there is one."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic, time_ns

import pytest
from msgspec.structs import replace
from tests.awaited import DEADLINE, awaited
from tests.contract.stores import STORES, Place, opened
from tests.postgres import Postgres

from localmodels.core.access import Wish
from localmodels.core.errors import LocalModelsError, Unauthenticated
from localmodels.core.fleet import Loads, Replicas, ServerChange, ServerRow
from localmodels.core.responses import StoredResponse
from localmodels.core.secrets import Secret
from localmodels.core.tasks import Task
from localmodels.flows.access.keys import Issuer, Keyring, make_key
from localmodels.state.files import StateError, gateway_of
from localmodels.state.kept import Kept
from localmodels.state.postgres.database import Database, Deadlines
from localmodels.state.postgres.replicas import Together

ROW = ServerRow(id="id-1", name="one", url="http://10.0.0.1:11434", kind="ollama")
SECOND = 10**9


@pytest.fixture
def url(postgres: Postgres) -> Secret:
    """Of an empty database."""
    return postgres.database()


@pytest.fixture(params=STORES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A home, or a database."""
    return STORES[request.param](request, tmp_path)


@asynccontextmanager
async def two(place: Place) -> AsyncIterator[tuple[Kept, Kept]]:
    """Two gateways on one database, or two programs in one home."""
    async with opened(place, gateway="one") as one, opened(place, gateway="other") as other:
        yield one, other


@awaited
async def test_a_change_is_seen_by_the_other(place: Place) -> None:
    async with two(place) as (one, other):
        changes = other.replicas.changes()
        await anext(changes)  # at once: there may have been changes before
        longest = 0.0
        for number in range(5):
            before = monotonic()
            if number == 0:
                await one.fleet.add(ROW)
            else:
                await one.fleet.change("id-1", ServerChange(priority=number), number)
            await anext(changes)
            longest = max(longest, monotonic() - before)
            (row,) = await other.fleet.servers()
            assert row.priority == number
        print(f"{longest * 1000:.0f} ms")
        # Several changes may be one item, and its own are told, too.
        for number in range(5):
            await other.fleet.change("id-1", ServerChange(priority=9), number)
        await anext(changes)


@awaited
async def test_two_listeners_each_hear(place: Place) -> None:
    async with two(place) as (one, other):
        many = [other.replicas.changes() for _ in range(3)]
        await asyncio.gather(*(anext(changes) for changes in many))
        await one.fleet.add(ROW)
        await asyncio.gather(*(anext(changes) for changes in many))


@awaited
async def test_a_revoked_key_opens_nothing_at_the_other(place: Place) -> None:
    """By its next look, which a server takes twice a second."""
    async with two(place) as (one, other):
        bob, text = make_key(Wish("bob"), time_ns())
        ring = Keyring()
        issuer = Issuer(other.keys, ring)
        await one.keys.add(bob)
        assert await issuer.refresh()
        assert ring.caller(text.reveal()) is not None
        await one.keys.revoke(bob.id, time_ns())
        assert await issuer.refresh()
        with pytest.raises(Unauthenticated, match="revoked"):
            ring.caller(text.reveal())
        assert not await issuer.refresh()


async def fails_in_its_turn(replicas: Replicas) -> None:
    async with replicas.reconciling() as is_ours:
        assert is_ours
        raise ZeroDivisionError


async def until_its_turn(replicas: Replicas) -> None:
    """Returns when it has reconciled once."""
    while True:
        async with replicas.reconciling() as is_ours:
            if is_ours:
                return
        await asyncio.sleep(0)


@awaited
async def test_one_reconciles(url: Secret) -> None:
    async with two(url) as (one, other):
        await until_its_turn(one.replicas)  # it may not be connected yet
        await until_its_turn(other.replicas)
        async with one.replicas.reconciling() as first:
            assert first
            async with other.replicas.reconciling() as second, one.replicas.reconciling() as third:
                assert (second, third) == (False, False)
        async with other.replicas.reconciling() as second:
            assert second
        with pytest.raises(ZeroDivisionError):
            await fails_in_its_turn(one.replicas)
        async with other.replicas.reconciling() as second:
            assert second


@awaited
async def test_who_is_cancelled_in_the_middle_keeps_nothing(url: Secret) -> None:
    async with two(url) as (one, other):
        await until_its_turn(one.replicas)
        for steps in range(12):

            async def reconciles() -> None:
                async with one.replicas.reconciling():
                    await asyncio.sleep(0)

            task = asyncio.ensure_future(reconciles())
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            await until_its_turn(other.replicas)
        await until_its_turn(one.replicas)


@awaited
async def test_alone_it_is_always_its_turn(tmp_path: Path) -> None:
    async with opened(tmp_path) as state:
        async with state.replicas.reconciling() as first, state.replicas.reconciling() as second:
            assert (first, second) == (True, False)
        async with state.replicas.reconciling() as first:
            assert first
        await state.replicas.publish(Loads("one", time_ns(), {"id-1": 1}))
        assert await state.replicas.loads(0) == ()


HOLDER = """
import asyncio, sys
from localmodels.core.secrets import Secret
from localmodels.state.postgres.state import PostgresState

async def main():
    async with PostgresState(Secret(sys.argv[1]), gateway="holder") as state:
        while True:
            async with state.replicas.reconciling() as is_ours:
                if is_ours:
                    print("mine", flush=True)
                    await asyncio.sleep(3600)
            await asyncio.sleep(0.01)

asyncio.run(main())
"""


@awaited
async def test_the_lock_of_a_dead_gateway_is_free(url: Secret) -> None:
    async with opened(url, gateway="survivor") as state:
        await until_its_turn(state.replicas)
        holder = await asyncio.create_subprocess_exec(
            sys.executable, "-c", HOLDER, url.reveal(), stdout=subprocess.PIPE
        )
        try:
            assert holder.stdout is not None
            assert await holder.stdout.readline() == b"mine\n"
            async with state.replicas.reconciling() as is_ours:
                assert not is_ours
        finally:
            holder.kill()
            await holder.wait()
        await until_its_turn(state.replicas)


@awaited
async def test_a_lost_connection_is_made_anew_and_everybody_looks_again(postgres: Postgres, url: Secret) -> None:
    async with two(url) as (one, other):
        changes = other.replicas.changes()
        await anext(changes)
        await until_its_turn(other.replicas)
        await asyncio.to_thread(
            postgres.execute,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid != pg_backend_pid() AND datname = current_database()",
            url,
        )
        await one.fleet.add(ROW)  # its own connections were lost, too
        await anext(changes)
        while not await other.fleet.servers():
            await anext(changes)
        await until_its_turn(other.replicas)


def wrong(seconds: float) -> Callable[[], int]:
    """A clock that is before the others by so much."""
    return lambda: time_ns() + round(seconds * SECOND)


def told(gateway: str, counts: dict[str, int]) -> Loads:
    return Loads(gateway, 0, counts)


@awaited
async def test_loads_are_as_old_as_the_database_says(url: Secret) -> None:
    """A gateway whose clock is wrong by an hour is neither ignored nor believed for ever."""
    async with Database(url) as database:
        clocks = {"early": wrong(-3600), "right": wrong(0), "late": wrong(3600)}
        gateways = {name: Together(url, database, name, clock=clock) for name, clock in clocks.items()}
        for name, gateway in gateways.items():
            await gateway.publish(told(name, {"id-1": 1}))
            await gateway.publish(told(name, {"id-1": 2, "id-\u2603": 3}))
        for name, gateway in gateways.items():
            now = clocks[name]()
            found = await gateway.loads(now - 30 * SECOND)
            assert {one.gateway for one in found} == set(gateways) - {name}
            assert all(dict(one.in_flight) == {"id-1": 2, "id-\u2603": 3} for one in found)
            assert all(now - 30 * SECOND <= one.at <= clocks[name]() for one in found)
            assert await gateway.loads(clocks[name]() + SECOND) == ()


@awaited
async def test_who_leaves_has_nothing_under_way(url: Secret) -> None:
    async with opened(url, gateway="one") as one:
        async with opened(url, gateway="other") as other:
            await other.replicas.publish(Loads("other", 0, {"id-1": 4}, {"id-2": 3}))
            (load,) = await one.replicas.loads(0)
            assert (load.gateway, load.in_flight, load.waiting) == ("other", {"id-1": 4}, {"id-2": 3})
        assert await one.replicas.loads(0) == ()


@awaited
async def test_what_a_gateway_left_is_its_own(url: Secret) -> None:
    """Another one that starts must not end what it still does, nor forget what only it can clear away."""
    task = Task(id="t-1", kind="deploy", subject="m", state="running", origin="t-1", created_at=1)
    ended = replace(task, id="t-2", state="failed", origin="t-2", ended_at=5)
    async with two(url) as (one, other):
        await one.tasks.put(task)
        await one.tasks.put(ended)
        assert await other.tasks.unfinished() == ()
        assert await one.tasks.unfinished() == (task,)
        assert await other.tasks.get("t-1") == task  # but everybody sees it
        assert await other.tasks.sweep(most=0) == ()
        await other.tasks.put(replace(task, action="x"))  # a change does not make it another's
        assert await other.tasks.unfinished() == ()
        assert await one.tasks.sweep(most=0) == ("t-2",)
        now = time_ns()
        response = StoredResponse("r-1", "bob", "m", "queued", now, now + 3600 * SECOND, b"[]", b"{}", "")
        await one.responses.put(response)
        assert await other.responses.unfinished() == ()
        assert await other.responses.get("r-1", "bob") == response
        await other.responses.put(replace(response, status="in_progress"))
        assert await other.responses.unfinished() == ()
        assert [one.id for one in await one.responses.unfinished()] == ["r-1"]


@awaited
async def test_gateways_that_start_at_once_make_the_tables_once(url: Secret) -> None:
    async def starts(number: int) -> None:
        async with opened(url, gateway=str(number)) as state:
            await state.fleet.add(replace(ROW, id=str(number), name=f"s{number}", url=f"http://h{number}"))

    await asyncio.gather(*(starts(number) for number in range(8)))
    async with opened(url) as state:
        assert len(await state.fleet.servers()) == await state.fleet.generation() == 8


def test_a_restart_of_the_database_is_survived(postgres: Postgres) -> None:
    url = postgres.database()

    async def story() -> None:
        async with asyncio.timeout(2 * DEADLINE), two(url) as (one, other):
            await one.fleet.add(ROW)
            changes = other.replicas.changes()
            await anext(changes)
            await until_its_turn(other.replicas)
            await asyncio.to_thread(postgres.stop)
            try:
                for asked in (one.fleet.servers(), one.keys.known(), one.fleet.remove("id-1"), other.tasks.all()):
                    with pytest.raises(LocalModelsError, match="the database cannot be used"):
                        await asked
                async with other.replicas.reconciling() as is_ours:
                    assert not is_ours
            finally:
                await asyncio.to_thread(postgres.start)
            assert await one.fleet.servers() == (ROW,)
            await anext(changes)
            await one.fleet.remove("id-1")
            while await other.fleet.servers():
                await anext(changes)
            await until_its_turn(other.replicas)

    asyncio.run(story())


def test_a_start_waits_for_a_database_that_starts(postgres: Postgres) -> None:
    url = postgres.database()
    asked = asyncio.Event()

    async def pause(seconds: float) -> None:
        asked.set()
        await asyncio.sleep(0.01)

    async def story() -> None:
        async def starts() -> None:
            async with Database(url, Deadlines(start=DEADLINE), sleep=pause):
                pass

        await asyncio.to_thread(postgres.stop)
        try:
            starting = asyncio.create_task(starts())
            await asked.wait()
        finally:
            await asyncio.to_thread(postgres.start)
        await starting

    asyncio.run(story())


def test_a_home_keeps_its_id(tmp_path: Path) -> None:
    made = gateway_of(tmp_path)
    assert gateway_of(tmp_path) == made
    assert [path.name for path in tmp_path.iterdir()] == ["gateway.id"]
    (tmp_path / "gateway.id").write_text("x")
    with pytest.raises(StateError, match="holds no UUID"):
        gateway_of(tmp_path)
