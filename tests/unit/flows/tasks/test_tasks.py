"""Tasks where something goes wrong: works, stores, watchers and callers that do not keep to the rules."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

import pytest
from tests.awaited import awaited
from tests.tasks_at_work import Clock, Refusing, Worker, ended, heard, unhurried, work_of

from localmodels.core.errors import Conflict, DiskFull, QueueFull, ShuttingDown, Unsupported
from localmodels.core.tasks import Step, Task
from localmodels.flows.tasks.run import PACE, Ticket, Work
from localmodels.flows.tasks.tasks import MOST_UNWRITTEN, Tasks
from localmodels.state.memory import MemoryTasks

Steps = AsyncGenerator[Step, None]


def one(work: Work, store: MemoryTasks | None = None) -> Tasks:
    return Tasks(store or MemoryTasks(), {"create": work}, clock=Clock(), pause=unhurried)


@awaited
async def test_a_store_that_takes_nothing_stops_no_work() -> None:
    store = Refusing()
    tasks = one(worker := Worker(), store)
    store.full = True
    task = await tasks.start("create", "m")
    assert [found.id for found in await tasks.all()] == [task.id]
    assert await store.all() == ()
    worker.order(*work_of("m"))
    assert (await ended(tasks, task.id)).state == "succeeded"
    assert len(await heard(tasks, task.id)) == 2  # from memory
    assert store.refused >= 3
    store.full = False
    other = await tasks.start("create", "n", work=Worker(*work_of("n")))
    await ended(tasks, other.id)
    await tasks.close()
    assert {found.id: found.state for found in await store.all()} == {task.id: "succeeded", other.id: "succeeded"}
    assert [event.number for event in await store.events(task.id)] == [0, 1]


@awaited
async def test_a_store_that_is_full_for_a_while_has_all_of_it_later() -> None:
    store = Refusing()
    tasks = one(worker := Worker(Step("Begin.", 0.1)), store)
    task = await tasks.start("create", "m")
    await heard(tasks, task.id, most=1)
    store.full = True
    worker.order(Step("Convert.", 0.2, whole="converted"))
    await heard(tasks, task.id, 0, most=1)
    assert (await store.get(task.id) or task).reached == ""
    store.full = False
    worker.order(Step("Load.", 0.3))
    await heard(tasks, task.id, 1, most=1)
    assert (await store.get(task.id) or task).reached == "converted"
    assert [event.action for event in await store.events(task.id)] == ["Begin.", "Convert.", "Load."]
    await tasks.close()


@awaited
async def test_of_what_can_never_be_written_only_so_much_stays() -> None:
    store = Refusing()
    store.full = True
    tasks = Tasks(store, pause=unhurried)
    ids = []
    for _ in range(MOST_UNWRITTEN + 20):
        ids.append((await tasks.start("create", "m", work=Worker(None))).id)
        await ended(tasks, ids[-1])
    await tasks.close()
    left = await tasks.all()
    assert len(left) == MOST_UNWRITTEN
    assert left[0].id == ids[-1]


@awaited
async def test_a_defect_of_the_store_ends_the_task_and_hangs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    store = Refusing()
    tasks = one(worker := Worker(Step("Begin.", 0.1)), store)
    task = await tasks.start("create", "m")
    await heard(tasks, task.id, most=1)
    store.defect = RuntimeError("no such table")
    worker.order(Step("Convert.", 0.2))
    events = await heard(tasks, task.id, 0)
    assert (events[-1].status, worker.left) == (500, 1)
    assert (await tasks.get(task.id)).state == "failed"
    assert "no such table" in caplog.text
    store.defect = None
    await tasks.close()
    assert (await store.get(task.id) or task).state == "failed"


@awaited
async def test_an_unforeseen_error_is_told_without_its_words(caplog: pytest.LogCaptureFixture) -> None:
    tasks = one(Worker(ZeroDivisionError("secret")))
    task = await ended(tasks, (await tasks.start("create", "m")).id)
    assert task.failure is not None
    assert (task.failure.status, task.failure.code) == (500, "internal_error")
    assert "secret" not in task.failure.message
    assert "ZeroDivisionError: secret" in caplog.text
    await tasks.close()


@awaited
async def test_a_work_that_cancels_itself_has_failed() -> None:
    tasks = one(Worker(asyncio.CancelledError()))
    task = await ended(tasks, (await tasks.start("create", "m")).id)
    assert (task.state, task.failure and task.failure.status) == ("failed", 500)
    await tasks.close()


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ([Step("Success.", 1.0)], "succeeded"),
        ([], "succeeded"),
        ([Step("Copy.", 0.5), Step("Success.", 1.0)], "cancelled"),
    ],
)
@awaited
async def test_a_work_that_is_past_its_last_moment_has_succeeded(said: list[Step], state: str) -> None:
    publishing = asyncio.Event()

    async def work(ticket: Ticket) -> Steps:
        yield Step("Begin.", 0.1)
        publishing.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Future()
        for step in said:
            yield step

    tasks = one(work)
    task = await tasks.start("create", "m")
    await publishing.wait()
    assert (await tasks.cancel(task.id)).state == state
    assert ((await heard(tasks, task.id))[-1].ratio == 1) is (state == "succeeded")
    await tasks.close()


@awaited
async def test_from_its_last_step_on_or_once_it_is_settled_nothing_stops_a_work() -> None:
    """Neither while it says so, nor while it puts things away."""
    for settles in (False, True):
        away, may_end = asyncio.Event(), asyncio.Event()

        async def work(
            ticket: Ticket, settles: bool = settles, away: asyncio.Event = away, may_end: asyncio.Event = may_end
        ) -> Steps:
            ticket.settled = settles
            yield Step("Success.", 0.5 if settles else 1.0)
            away.set()
            await may_end.wait()
            yield Step("Success.", 1.0)

        tasks = one(work)
        task = await tasks.start("create", "m")
        await away.wait()
        cancelling = asyncio.create_task(tasks.cancel(task.id))
        await asyncio.sleep(0)
        may_end.set()
        assert (await cancelling).state == "succeeded"
        await tasks.close()


@awaited
async def test_so_many_wait_of_all_and_of_one_and_the_next_is_refused() -> None:
    tasks = Tasks(MemoryTasks(), {"create": Worker()}, at_once=1, most_waiting=3, most_waiting_each=2, pause=unhurried)
    for owner in ("eve", "eve", "eve"):
        tasks.require_place(owner)
        waiting = await tasks.start("create", "m", owner=owner)
    for refused in (tasks.start("create", "m", owner="eve"), placed(tasks, "eve")):
        with pytest.raises(QueueFull, match="2 tasks of yours") as raised:
            await refused
        assert raised.value.retry_after
    await tasks.start("create", "m", owner="bob")
    for refused in (tasks.start("create", "m", owner="bob"), placed(tasks, "zoe")):
        with pytest.raises(QueueFull, match="3 tasks wait"):
            await refused
    assert len(await tasks.all()) == 4
    hurried = await tasks.start("delete", "m", owner="eve", work=Worker(*work_of("m")), waits=False)
    assert (await ended(tasks, hurried.id)).state == "succeeded"
    await tasks.cancel(waiting.id)
    await tasks.start("create", "m", owner="zoe")
    await tasks.close()
    with pytest.raises(ShuttingDown):
        tasks.require_place("zoe")


async def placed(tasks: Tasks, owner: str) -> None:
    tasks.require_place(owner)


@awaited
async def test_when_they_are_interrupted_watchers_hear_the_end_before_anybody_waits_for_it() -> None:
    tasks = Tasks(MemoryTasks(), {"create": Worker(Step("Begin.", 0.1))}, at_once=1, pause=unhurried)
    going, waiting = await tasks.start("create", "m"), await tasks.start("create", "m")
    await heard(tasks, going.id, most=1)
    watching = [asyncio.create_task(heard(tasks, task.id)) for task in (going, waiting)]
    await asyncio.sleep(0)
    tasks.interrupt()
    assert [(await watched)[-1].action for watched in watching] == ["Interrupted."] * 2
    assert [(await tasks.get(task.id)).state for task in (going, waiting)] == ["interrupted"] * 2
    with pytest.raises(ShuttingDown):
        await tasks.start("create", "m")
    await tasks.close()


@awaited
async def test_what_a_refused_trial_says_when_the_server_ends_does_not_make_it_a_failure() -> None:
    refused = Worker(Step("Verify model.", 0.9))
    tasks = one(refused)
    task = await tasks.start("create", "m")
    await heard(tasks, task.id, most=1)
    tasks.interrupt()
    refused.order(ShuttingDown("The server is shutting down"))
    assert (await ended(tasks, task.id)).state == "interrupted"
    await tasks.close()


class Clearing:
    """Clears away, and takes until it may end."""

    def __init__(self) -> None:
        self.begun, self.may_end = asyncio.Event(), asyncio.Event()
        self.origins: list[str] = []

    async def __call__(self, origin: str) -> None:
        self.origins.append(origin)
        self.begun.set()
        await self.may_end.wait()


@awaited
async def test_nothing_is_cleared_away_under_a_retry_that_the_store_does_not_know() -> None:
    store = Refusing()
    clearing = Clearing()
    tasks = Tasks(store, {"create": Worker(DiskFull("full"))}, clock=Clock(), pause=unhurried, discard=clearing)
    task = await ended(tasks, (await tasks.start("create", "m")).id)
    tasks.register("create", Worker())
    store.full = True
    again = await tasks.retry(task.id)
    await tasks.remove(task.id)
    assert clearing.origins == []
    clearing.may_end.set()
    await tasks.cancel(again.id)
    assert clearing.origins == [task.id]
    await tasks.close()


@awaited
async def test_no_retry_begins_while_what_it_needs_is_cleared_away() -> None:
    clearing = Clearing()
    tasks = Tasks(MemoryTasks(), {"create": Worker(Step("Begin.", 0.1))}, pause=unhurried, discard=clearing)
    task = await tasks.start("create", "m")
    await heard(tasks, task.id, most=1)
    cancelling = asyncio.create_task(tasks.cancel(task.id))
    await clearing.begun.wait()
    with pytest.raises(Conflict, match="being cleared away"):
        await tasks.retry(task.id)
    clearing.may_end.set()
    await cancelling
    again = await tasks.retry(task.id)
    assert again.origin == task.id
    await tasks.close()


@awaited
async def test_an_error_while_it_cleans_up_does_not_hide_that_it_was_cancelled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def work(ticket: Ticket) -> Steps:
        try:
            yield Step("Begin.", 0.1)
            await asyncio.Future()
        finally:
            raise DiskFull("cannot clean up")

    tasks = one(work)
    task = await tasks.start("create", "m")
    await heard(tasks, task.id, most=1)
    assert (await tasks.cancel(task.id)).state == "cancelled"
    assert "cannot clean up" in caplog.text
    await tasks.close()


@awaited
async def test_one_that_is_cancelled_before_it_began_never_begins() -> None:
    tasks = one(worker := Worker())
    starting = asyncio.create_task(tasks.start("create", "m", id="mine"))
    await asyncio.sleep(0)
    assert (await tasks.cancel("mine")).state == "cancelled"
    assert (await starting).id == "mine"
    assert not worker.began.is_set()
    assert [event.status for event in await heard(tasks, "mine")] == [499]
    await tasks.close()


@awaited
async def test_a_caller_who_leaves_while_it_is_begun_stops_nothing() -> None:
    tasks = one(worker := Worker(*work_of("m")))
    starting = asyncio.create_task(tasks.start("create", "m", id="mine"))
    await asyncio.sleep(0)
    starting.cancel()
    assert (await ended(tasks, "mine")).state == "succeeded"
    assert worker.left == 1
    await tasks.close()


@awaited
async def test_a_watcher_who_takes_nothing_holds_nobody_up_and_misses_no_action() -> None:
    tasks = one(worker := Worker(Step("Begin.", 0.1)))
    task = await tasks.start("create", "m")
    async with aclosing(tasks.follow(task.id)) as slow:
        assert (await anext(slow)).action == "Begin."
        worker.order(*(Step(f"Step {number % 10}.", number / 200) for number in range(100)), *work_of("m"))
        quick = await heard(tasks, task.id)
        late = [event async for event in slow]
    assert quick[1:] == late
    assert len({event.number for event in quick}) == len(quick)
    assert {f"Step {number}." for number in range(10)} < {event.action for event in late}
    await tasks.close()


@awaited
async def test_a_watcher_is_shown_so_many_ticks_a_second() -> None:
    paused: list[float] = []

    async def pause(seconds: float) -> None:
        """As many steps as a work says meanwhile."""
        paused.append(seconds)
        worker.order(*(Step("Copy.", 0.2) for _ in range(1000)), *([None] if len(paused) == 50 else []))
        await worker.idle()

    worker = Worker(Step("Copy.", 0.1))
    tasks = Tasks(MemoryTasks(), {"create": worker}, clock=Clock(tick=1), pause=pause)
    task = await tasks.start("create", "m")
    events = await heard(tasks, task.id)
    assert set(paused) == {PACE}
    assert len(events) == 51
    assert events[-1].number > 49_000
    await tasks.close()


@awaited
async def test_two_who_repeat_at_once_begin_one() -> None:
    tasks = one(Worker(DiskFull("full")))
    task = await ended(tasks, (await tasks.start("create", "m")).id)
    tasks.register("create", Worker())
    tries = await asyncio.gather(*(tasks.retry(task.id) for _ in range(5)), return_exceptions=True)
    begun = [tried for tried in tries if isinstance(tried, Task)]
    assert len(begun) == 1
    assert (begun[0].retry_of, begun[0].origin) == (task.id, task.id)
    await tasks.cancel(begun[0].id)
    third = await tasks.retry(begun[0].id)
    assert (third.retry_of, third.origin) == (begun[0].id, task.id)
    await tasks.close()


@awaited
async def test_a_kind_that_nobody_knows_is_refused() -> None:
    tasks = Tasks(MemoryTasks())
    with pytest.raises(Unsupported, match="delete"):
        await tasks.start("delete", "m")
    assert await tasks.all() == ()


@awaited
async def test_figures_say_what_ended_and_what_goes_on() -> None:
    over: list[tuple[str, str]] = []
    tasks = Tasks(
        MemoryTasks(), at_once=1, pause=unhurried, ended=lambda task: over.append((task.kind, task.state))
    )  # fmt: skip
    await tasks.start("create", "m", work=Worker())
    await tasks.start("deploy", "m", work=Worker())
    done = await tasks.start("upload", "m", work=Worker(None), waits=False)
    await ended(tasks, done.id)
    now = {reading.labels: reading.value for reading in tasks.readings()}
    assert now[("kind", "create"), ("state", "running")] == 1
    assert now[("kind", "deploy"), ("state", "queued")] == 1
    assert sum(now.values()) == 2
    await tasks.close()
    assert sorted(over) == [("create", "interrupted"), ("deploy", "interrupted"), ("upload", "succeeded")]
