"""Tasks over a fake, files and PostgreSQL: what is kept, what watchers hear, and what a restart leaves of it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.awaited import DEADLINE
from tests.contract.stores import STORES, opened
from tests.tasks_at_work import Clock, Worker, ended, error, heard, unhurried, work_of

from localmodels.core.access import Key, Wish
from localmodels.core.errors import Conflict, InvalidRequest, NotFound, ShuttingDown, Unsupported
from localmodels.core.tasks import Event, Failure, Step, Task, TaskStore
from localmodels.flows.access.keys import make_key
from localmodels.flows.tasks.run import Ticket
from localmodels.flows.tasks.tasks import Tasks
from localmodels.state import starting
from localmodels.state.files import HEADS, STATE
from localmodels.state.memory import MemoryTasks
from localmodels.state.state import State

Opens = Callable[[], AbstractAsyncContextManager[TaskStore]]
Story = Callable[[Opens], Awaitable[None]]


@pytest.fixture(params=["memory", *STORES])
def tell(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Story], None]:
    """Tells a story that opens one of them, as often as it likes: each time is a start of the program."""
    memory = MemoryTasks()
    place = None if request.param == "memory" else STORES[request.param](request, tmp_path)

    @asynccontextmanager
    async def kept() -> AsyncIterator[TaskStore]:
        if place is None:
            yield memory
        else:
            async with opened(place) as state:
                yield state.tasks

    async def bounded(story: Story) -> None:
        async with asyncio.timeout(DEADLINE):
            await story(kept)

    return lambda story: asyncio.run(bounded(story))


def one(worker: Worker, ticket: Ticket) -> AsyncGenerator[Step, None]:
    return worker(ticket)


def server(store: TaskStore, *workers: Worker, clock: Clock | None = None, at_once: int = 2) -> Tasks:
    """The tasks of a server whose works of the kind ``deploy`` are these, one after the other."""
    rest = iter(workers)
    return Tasks(
        store,
        {"deploy": lambda ticket: one(next(rest), ticket)},
        clock=clock or Clock(),
        pause=unhurried,
        at_once=at_once,
    )


FULL = Task(
    id="full",
    kind="create",
    subject="m\u00f6del",
    owner="key_1",
    request=b'{"model": "m"}',
    state="failed",
    reached="saved",
    action="Convert.",
    ratio=0.1,
    failure=Failure("no", "conflict", 409, "model"),
    retry_of="first",
    origin="first",
    created_at=2**60,
    started_at=2**60 + 1,
    ended_at=2**60 + 2,
)


def test_a_task_and_its_events_come_back_as_they_were(tell: Callable[[Story], None]) -> None:
    events = [Event(number, "Step.", number / 10, {"model": "m", "deep": [1, {"a": None}]}) for number in range(3)]
    last = Event(2**40, "Failed.", 0.3, {"type": "conflict", "loc": ["model"], "msg": "n\u00f6"}, 409)

    async def story(opened: Opens) -> None:
        async with opened() as store:
            assert await store.get("full") is None
            await store.put(replace(FULL, state="running", failure=None), events[:2])
            assert await store.unfinished() == (replace(FULL, state="running", failure=None),)
            await store.put(FULL, [events[1], events[2], last])  # one of them once more
        async with opened() as store:
            assert await store.get("full") == FULL
            assert await store.events("full") == (*events, last)
            assert await store.events("full", 1) == (events[2], last)
            assert await store.events("none") == ()
            assert await store.unfinished() == ()
            assert await store.remove("full")
            assert not await store.remove("full")
            assert (await store.get("full"), await store.events("full")) == (None, ())

    tell(story)


def test_the_newest_come_first_and_the_oldest_go(tell: Callable[[Story], None]) -> None:
    many = [
        replace(
            FULL,
            id=f"{number}",
            owner="ab"[number % 2],
            created_at=number,
            ended_at=100 - number,
            origin=f"{number % 3}",
        )
        for number in range(6)
    ]
    going = replace(FULL, id="going", state="running", created_at=3, origin="going", ended_at=0)

    async def story(opened: Opens) -> None:
        async with opened() as store:
            for task in (*many[::-1], going):
                await store.put(task)
            assert [task.id for task in await store.all(most=3)] == ["5", "4", "3"]
            assert [task.id for task in await store.all(owner="a")] == ["4", "2", "0"]
            assert [task.id for task in await store.all(state="running")] == ["going"]
            assert [task.id for task in await store.line("1")] == ["4", "1"]
            # A list of a thousand must not read a thousand megabytes of what was asked.
            assert {task.request for task in (*await store.all(), *await store.line("1"))} == {b""}
            assert (await store.all(owner="a", most=1))[0] == replace(many[4], request=b"")
            assert {*await store.sweep(most=4)} == {"2", "1"}  # those that ended first, which began last
            assert [task.id for task in await store.all()] == ["3", "going", "2", "1", "0"]
            assert await store.sweep(most=4) == ()

    tell(story)


def test_a_work_that_comes_to_its_end(tell: Callable[[Story], None]) -> None:
    async def story(opened: Opens) -> None:
        async with opened() as store:
            tasks = server(store, worker := Worker())
            task = await tasks.start("deploy", "m", b'{"a": 1}', "key_1")
            assert await store.get(task.id) is not None
            first, second = asyncio.create_task(heard(tasks, task.id)), asyncio.create_task(heard(tasks, task.id))
            worker.order(Step("Save.", 0.2, {"model": "m"}, "saved"), Step("Save.", 0.1), *work_of("m"))
            events = await first
            assert [(event.number, event.action, event.ratio) for event in events] == [
                (0, "Save.", 0.2), (1, "Save.", 0.2), (2, "Begin.", 0.2), (3, "Success.", 1.0)
            ]  # fmt: skip
            assert await second == events == await heard(tasks, task.id)
            assert await heard(tasks, task.id, 1) == events[2:]
            over = await tasks.get(task.id)
            assert (over.state, over.reached, over.ratio, over.action) == ("succeeded", "done", 1.0, "Success.")
            assert over.created_at < over.started_at < over.ended_at
            assert (over.failure, over.request, over.owner, over.origin) == (None, b'{"a": 1}', "key_1", task.id)
            assert worker.left == 1
            await tasks.close()
        async with opened() as store:
            again = server(store)
            assert await again.recover() == 0
            assert await again.get(task.id) == over
            assert await heard(again, task.id) == events

    tell(story)


def test_a_failure_is_the_last_that_is_heard(tell: Callable[[Story], None]) -> None:
    async def story(opened: Opens) -> None:
        async with opened() as store:
            tasks = server(store, worker := Worker(Step("Read.", 0.3), error(InvalidRequest, "no weights", "model")))
            task = await tasks.start("deploy", "m")
            *_, last = await heard(tasks, task.id)
            assert (last.status, last.ratio) == (400, 0.3)
            assert last.details == {
                "type": "invalid_request", "loc": ["model"], "msg": "no weights", "model": "m", "during": "Read."
            }  # fmt: skip
            over = await tasks.get(task.id)
            assert over.failure == Failure("no weights", "invalid_request", 400, "model")
            assert (over.state, worker.left) == ("failed", 1)
            await tasks.close()

    tell(story)


def test_what_said_that_it_succeeded_and_then_failed_never_said_so(tell: Callable[[Story], None]) -> None:
    async def story(opened: Opens) -> None:
        async with opened() as store:
            tasks = server(store, Worker(Step("Begin.", 0.1), Step("Success.", 1.0), RuntimeError("secret")))
            task = await tasks.start("deploy", "m")
            events = await heard(tasks, task.id)
            assert [(event.action, event.status) for event in events] == [("Begin.", 200), ("Failed.", 500)]
            assert "secret" not in str(events)
            await tasks.close()

    tell(story)


def test_cancelling_waits_until_all_is_cleaned_up(tell: Callable[[Story], None]) -> None:
    async def story(opened: Opens) -> None:
        async with opened() as store:
            tasks = server(store, worker := Worker(Step("Begin.", 0.5, whole="saved")))
            task = await tasks.start("deploy", "m", owner="bob")
            await heard(tasks, task.id, most=1)
            worker.may_leave.clear()
            watcher = asyncio.create_task(heard(tasks, task.id))
            cancelling = [asyncio.create_task(tasks.cancel(task.id, "bob")) for _ in range(2)]
            await worker.leaving.wait()
            assert not any(one.done() for one in cancelling)
            worker.may_leave.set()
            over = await cancelling[0]
            assert await cancelling[1] == over == await tasks.get(task.id)
            assert (over.state, over.reached, worker.left) == ("cancelled", "saved", 1)
            assert worker.ticket is not None
            assert not worker.ticket.interrupted
            last = (await watcher)[-1]
            assert (last.status, last.details["type"], last.ratio) == (499, "cancelled", 0.5)
            assert await tasks.cancel(task.id) == over
            assert await tasks.remove(task.id, "bob") == over
            with pytest.raises(NotFound):
                await tasks.get(task.id)
            assert await store.events(task.id) == ()
            await tasks.close()

    tell(story)


def test_others_wait_in_their_order(tell: Callable[[Story], None]) -> None:
    async def story(opened: Opens) -> None:
        async with opened() as store:
            workers = [Worker() for _ in range(5)]
            tasks = server(store, *workers, at_once=1)
            ids = [(await tasks.start("deploy", f"{number}")).id for number in range(4)]
            hurried = Worker(*work_of("now"))
            now = await tasks.start("upload", "now", work=hurried, waits=False)
            assert (await ended(tasks, now.id)).state == "succeeded"
            assert [(await tasks.get(one)).state for one in ids] == ["running", "queued", "queued", "queued"]
            assert [task.id for task in await tasks.all(state="queued")] == ids[:0:-1]
            assert (await heard(tasks, ids[1], most=1))[0].action == "Wait for other tasks."
            assert (await tasks.cancel(ids[1])).state == "cancelled"
            workers[0].order(None)
            await workers[1].began.wait()  # the second worker has the third task, since the second was cancelled
            assert workers[1].ticket is not None
            assert workers[1].ticket.id == ids[2]
            workers[1].order(*work_of("2"))
            await ended(tasks, ids[2])
            await workers[2].began.wait()
            assert workers[2].ticket is not None
            assert workers[2].ticket.id == ids[3]
            await tasks.close()
            ends = {task.id: task.state for task in await store.all()}
            assert [ends[one] for one in ids] == ["succeeded", "cancelled", "succeeded", "interrupted"]

    tell(story)


def test_the_end_of_the_server_interrupts_and_a_retry_goes_on(tell: Callable[[Story], None]) -> None:
    async def story(opened: Opens) -> None:
        async with opened() as store:
            tasks = server(store, worker := Worker(Step("Save.", 0.4, {"model": "m"}, "saved")), Worker(), at_once=1)
            first = await tasks.start("deploy", "m", b'{"x": 2}', "bob")
            second = await tasks.start("deploy", "n")
            await heard(tasks, first.id, most=1)
            assert await tasks.needed() == {first.id, second.id}
            await tasks.close()
            assert worker.ticket is not None
            assert worker.ticket.interrupted
            with pytest.raises(ShuttingDown):
                await tasks.start("deploy", "m")
        async with opened() as store:
            tasks = server(store, worker := Worker(), clock=late())
            assert await tasks.recover() == 0
            left = await tasks.get(first.id)
            assert (left.state, left.reached, left.failure and left.failure.status) == ("interrupted", "saved", 503)
            assert (await heard(tasks, first.id))[-1].details["type"] == "shutting_down"
            assert await tasks.needed() == {first.id, second.id}
            again = await tasks.retry(first.id, "bob")
            assert await tasks.needed() == {first.id, second.id}
            with pytest.raises(Conflict, match=f"repeated by task '{again.id}'"):
                await tasks.retry(first.id)
            worker.order(*work_of("m"))
            assert (await ended(tasks, again.id)).state == "succeeded"
            assert worker.ticket is not None
            assert (worker.ticket.reached, worker.ticket.origin, worker.ticket.request) == (
                "saved",
                first.id,
                b'{"x": 2}',
            )
            over = await tasks.get(again.id)
            assert (over.retry_of, over.owner, over.subject, over.reached) == (first.id, "bob", "m", "done")
            assert await tasks.needed() == {second.id}
            for one in (first.id, again.id):
                with pytest.raises(Conflict):
                    await tasks.retry(one)
            with pytest.raises(NotFound):
                await tasks.retry(second.id, "bob")
            await tasks.close()

    tell(story)


def late() -> Clock:
    clock = Clock()
    clock.now += 10**15
    return clock


def test_what_a_dead_server_left_is_interrupted_after_all_that_anybody_saw(tell: Callable[[Story], None]) -> None:
    async def story(opened: Opens) -> None:
        async with opened() as store:
            tasks = server(store, worker := Worker(), clock=Clock(tick=1))
            task = await tasks.start("deploy", "m")
            worker.order(*(Step("Copy.", number / 2000) for number in range(2000)))
            seen = await heard(tasks, task.id, most=1)
            while seen[-1].number < 1999:
                seen += await heard(tasks, task.id, seen[-1].number, most=1)
            kept = await store.events(task.id)
            assert [event.number for event in kept] == [0]  # time stands still
            dead = await store.get(task.id)
            await tasks.close()
            assert dead is not None
            await store.remove(task.id)
            await store.put(dead, kept)
        async with opened() as store:
            tasks = server(store, clock=late())
            assert await tasks.recover() == 1
            (last,) = await heard(tasks, task.id, seen[-1].number)
            assert (last.status, last.action) == (503, "Interrupted.")
            assert (await tasks.get(task.id)).state == "interrupted"

    tell(story)


def test_removing_an_interrupted_task_discards_what_it_left(tell: Callable[[Story], None]) -> None:
    discarded: list[str] = []

    async def discard(origin: str) -> None:
        discarded.append(origin)

    async def story(opened: Opens) -> None:
        async with opened() as store:
            tasks = server(store, Worker())
            task = await tasks.start("deploy", "m")
            with pytest.raises(Conflict, match="cancel it first"):
                await tasks.remove(task.id)
            await tasks.close()
            tasks = Tasks(store, discard=discard)
            with pytest.raises(Unsupported, match="deploy"):
                await tasks.retry(task.id)
            await tasks.remove(task.id)
            assert discarded == [task.id]
            assert await tasks.needed() == frozenset()

    tell(story)


def test_what_a_failed_task_left_stays_for_a_week(tell: Callable[[Story], None]) -> None:
    async def story(opened: Opens) -> None:
        async with opened() as store:
            now = 10**18
            tasks = Tasks(store, clock=lambda: now)
            days = (("failed", 6), ("failed", 8), ("cancelled", 1), ("interrupted", 99))
            for number, (state, age) in enumerate(days):
                ended = now - age * 24 * 3600 * 10**9
                one = replace(FULL, id=f"{number}", origin=f"{number}", state=state, created_at=ended, ended_at=ended)
                await store.put(one)
            again = replace(FULL, id="again", origin="0", state="failed", created_at=now - 1, ended_at=now)
            assert await tasks.needed() == {"0", "3"}
            await store.put(again)
            assert await tasks.needed() == {"0", "3"}
            await store.put(replace(again, state="succeeded"))
            assert await tasks.needed() == {"3"}

    tell(story)


def test_what_is_forgotten_leaves_nothing(tell: Callable[[Story], None]) -> None:
    discarded: list[str] = []

    async def discard(origin: str) -> None:
        discarded.append(origin)

    async def story(opened: Opens) -> None:
        async with opened() as store:
            for number, origin in enumerate("aab"):
                await store.put(
                    replace(FULL, id=f"{number}", origin=origin, state="failed", created_at=number, ended_at=number)
                )
            for gone in ([], ["a"]):
                worker = Worker()
                worker.order(*work_of("m"))
                tasks = Tasks(store, {"deploy": worker}, clock=Clock(), pause=unhurried, discard=discard, history=3)
                await ended(tasks, (await tasks.start("deploy", "m")).id)
                await tasks.close()
                assert discarded == gone  # not while another of its line can still be repeated

    tell(story)


def test_an_owner_sees_his_own(tell: Callable[[Story], None]) -> None:
    async def story(opened: Opens) -> None:
        async with opened() as store:
            tasks = server(store, Worker(), Worker(*work_of("n")))
            bobs, eves = await tasks.start("deploy", "m", owner="bob"), await tasks.start("deploy", "n", owner="eve")
            await ended(tasks, eves.id)
            assert [task.id for task in await tasks.all(owner="bob")] == [bobs.id]
            assert [task.id for task in await tasks.all(owner="eve", most=1)] == [eves.id]
            assert [task.id for task in await tasks.all()] == [eves.id, bobs.id]
            for one in (tasks.get, tasks.cancel, tasks.remove, tasks.retry):
                for task_id, owner in ((bobs.id, "eve"), (eves.id, "bob"), ("none", None)):
                    with pytest.raises(NotFound):
                        await one(task_id, owner)
            for task_id, owner in ((bobs.id, "eve"), (eves.id, "bob")):
                with pytest.raises(NotFound):
                    await anext(tasks.follow(task_id, owner=owner))
            await tasks.close()

    tell(story)


def test_only_so_many_are_remembered(tell: Callable[[Story], None]) -> None:
    async def story(opened: Opens) -> None:
        async with opened() as store:
            tasks = Tasks(
                store, {"deploy": lambda ticket: one(Worker(*work_of("m")), ticket)}, history=3, pause=unhurried
            )
            ids = [(await tasks.start("deploy", "m")).id for _ in range(3)]
            for one in ids:
                await ended(tasks, one)
            going = await tasks.start("deploy", "m", work=Worker())
            for _ in range(3):
                ids.append((await tasks.start("deploy", "m")).id)
                await ended(tasks, ids[-1])
            await tasks.cancel(going.id)
            await tasks.close()
            assert [task.id for task in await store.all()] == [ids[5], ids[4], going.id]
            assert await store.events(ids[0]) == ()

    tell(story)


# A file as version 0001 of the state wrote it: this is its schema, and not today's.
OLD = """
CREATE TABLE "key" (id TEXT NOT NULL, name TEXT NOT NULL, hash BLOB NOT NULL, shown TEXT NOT NULL, scopes TEXT NOT NULL,
  models TEXT NOT NULL, requests_per_minute BIGINT, tokens_per_minute BIGINT, token_quota BIGINT,
  quota_period TEXT NOT NULL, weight INTEGER NOT NULL, created_at BIGINT NOT NULL, created_by TEXT NOT NULL,
  expires_at BIGINT, revoked_at BIGINT, PRIMARY KEY (id), UNIQUE (hash));
CREATE UNIQUE INDEX key_name ON "key" (name) WHERE revoked_at IS NULL;
CREATE TABLE usage (key_id TEXT NOT NULL, model TEXT NOT NULL, server TEXT NOT NULL, hour INTEGER NOT NULL,
  requests BIGINT NOT NULL, failed BIGINT NOT NULL, prompt_tokens BIGINT NOT NULL, cached_tokens BIGINT NOT NULL,
  completion_tokens BIGINT NOT NULL, estimated BIGINT NOT NULL, PRIMARY KEY (key_id, model, server, hour));
CREATE INDEX usage_hour ON usage (hour);
CREATE TABLE meta (name TEXT NOT NULL, value BIGINT NOT NULL, PRIMARY KEY (name));
CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL,
  CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num));
INSERT INTO alembic_version VALUES ('0001');
INSERT INTO meta VALUES ('keys_generation', 1);
INSERT INTO usage VALUES ('k', 'm', 'local', 5, 1, 0, 10, 0, 5, 0);
"""

OLD_KEY = "INSERT INTO key VALUES (?, 'bob', ?, 'lm-', 'infer', '*', NULL, NULL, NULL, 'ever', 1, 10, '', NULL, NULL)"


def old_file(home: Path, key: Key) -> None:
    with closing(sqlite3.connect(home / STATE)) as connection, connection:
        connection.executescript(OLD)
        connection.execute(OLD_KEY, (key.id, key.hash))


def test_a_file_of_the_first_version_is_brought_forward_with_all_that_is_in_it(tmp_path: Path) -> None:
    key = make_key(Wish("bob", frozenset({"infer"})), 10)[0]
    old_file(tmp_path, key)
    (known,) = starting.known_keys(tmp_path)  # what a start does first
    assert (known.id, known.hash, known.name) == (key.id, key.hash, "bob")

    async def story() -> None:
        async with State(tmp_path) as state:
            assert (await state.usage.of(since=0))[0].prompt_tokens == 10
            assert await state.tasks.all() == ()
            await state.tasks.put(FULL, [Event(0, "Step.", 0.1)])
            assert await state.tasks.get("full") == FULL

    asyncio.run(story())
    with closing(sqlite3.connect(tmp_path / STATE)) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(HEADS[STATE],)]
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
