"""Tasks of several gateways on one database: everybody sees them, and only their own gateway changes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest
from tests.awaited import awaited
from tests.contract.stores import opened
from tests.postgres import Postgres
from tests.tasks_at_work import Clock, Worker, ended, heard, unhurried

from localmodels.core.errors import Conflict
from localmodels.core.fleet import Loads
from localmodels.core.secrets import Secret
from localmodels.core.tasks import Step
from localmodels.flows.tasks.abandoned import GENEROUS, Abandoned
from localmodels.flows.tasks.tasks import Tasks
from localmodels.state.kept import Kept


@pytest.fixture
def url(postgres: Postgres) -> Secret:
    """Of an empty database."""
    return postgres.database()


class Gateway:
    """One of them."""

    def __init__(self, state: Kept) -> None:
        self.state = state
        self.worker = Worker(Step("Begin.", 0.1, {"model": "m"}, whole="begun"))
        self.left: list[str] = []
        self.tasks = Tasks(state.tasks, {"create": self.worker}, clock=Clock(), pause=unhurried, discard=self._discard)

    async def _discard(self, origin: str) -> None:
        self.left.append(origin)


@asynccontextmanager
async def two(url: Secret) -> AsyncIterator[tuple[Gateway, Gateway]]:
    """Two on one database."""
    async with opened(url, gateway="id-one") as one, opened(url, gateway="id-two") as two:
        yield Gateway(one), Gateway(two)


@awaited
async def test_each_sees_what_the_other_does_and_changes_nothing_of_it(url: Secret) -> None:
    async with two(url) as (one, other):
        task = await one.tasks.start("create", "m", b'{"x": 1}', "bob")
        assert (await heard(one.tasks, task.id, most=1))[0].action == "Begin."
        assert [found.id for found in await other.tasks.all(owner="bob")] == [task.id]
        assert (await other.tasks.get(task.id)).state == "running"
        with pytest.raises(Conflict, match=r"another gateway's.* cancel it there .*id-one in gateway.id"):
            await other.tasks.cancel(task.id)
        with pytest.raises(Conflict, match="running; cancel it first"):
            await other.tasks.remove(task.id)
        with pytest.raises(Conflict, match="running; only one that failed"):
            await other.tasks.retry(task.id)
        watching = asyncio.ensure_future(heard(other.tasks, task.id))
        one.worker.order(Step("Go on.", 0.5, whole="on"), RuntimeError("a defect"))
        assert (await ended(one.tasks, task.id)).state == "failed"
        assert [event.action for event in await watching] == ["Begin.", "Go on.", "Failed."]
        with pytest.raises(Conflict, match=r"another gateway's.* repeat it there .*id-one"):
            await other.tasks.retry(task.id)
        assert (await other.tasks.cancel(task.id)).state == "failed", "what has ended stays as it is"
        one.worker.order(None)
        again = await one.tasks.retry(task.id)
        assert (await ended(one.tasks, again.id)).state == "succeeded"
        await other.tasks.remove(again.id)
        assert other.left == []
        assert [found.id for found in await one.tasks.all()] == [task.id]
        await one.tasks.close()


@awaited
async def test_who_never_comes_back_leaves_nothing_running(url: Secret) -> None:
    async with two(url) as (one, other):
        task = await one.tasks.start("create", "m")
        await heard(one.tasks, task.id, most=1)
        seconds = [1_000.0]
        watch = Abandoned(other.state.tasks, other.state.replicas, other.tasks.left, clock=lambda: seconds[0])
        await until_connected(other)
        for _ in range(3):  # it says something again and again
            await one.state.replicas.publish(Loads("id-one", 0, {}))
            await watch.look()
            seconds[0] += GENEROUS
        assert (await other.tasks.get(task.id)).state == "running"
        await silence(url)
        await watch.look()
        seconds[0] += GENEROUS - 1
        await watch.look()
        assert (await other.tasks.get(task.id)).state == "running"
        watching = asyncio.ensure_future(heard(other.tasks, task.id))
        seconds[0] += 1
        await watch.look()
        over = await other.tasks.get(task.id)
        assert (over.state, over.reached) == ("interrupted", "begun")
        assert [event.action for event in await watching] == ["Begin.", "Interrupted."]
        assert await other.state.tasks.silent() == {}
        # It was only away: what it does all the same is what is told in the end.
        one.worker.order(None)
        assert (await ended(one.tasks, task.id)).state == "succeeded"
        assert (await other.tasks.get(task.id)).state == "succeeded"
        await one.tasks.close()


@awaited
async def test_who_is_heard_of_again_begins_anew(url: Secret) -> None:
    async with two(url) as (one, other):
        task = await one.tasks.start("create", "m")
        await heard(one.tasks, task.id, most=1)
        seconds = [1_000.0]
        watch = Abandoned(other.state.tasks, other.state.replicas, other.tasks.left, clock=lambda: seconds[0])
        await until_connected(other)
        await watch.look()
        seconds[0] += GENEROUS / 2
        await one.state.replicas.publish(Loads("id-one", 0, {}))
        await watch.look()
        await silence(url)
        seconds[0] += GENEROUS / 2
        await watch.look()
        assert (await other.tasks.get(task.id)).state == "running"
        await one.tasks.close()


async def until_connected(gateway: Gateway) -> None:
    """Returns when it can have the turn to reconcile."""
    while True:
        async with gateway.state.replicas.reconciling() as ours:
            if ours:
                return
        await asyncio.sleep(0)


async def silence(url: Secret) -> None:
    """Nothing was heard of anybody for an hour."""
    statement = "UPDATE localmodels.gateway SET seen = seen - interval '1 hour'"
    connection = await asyncpg.connect(url.reveal())
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
