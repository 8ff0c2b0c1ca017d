"""Random histories of tasks beside a model of them, on the fake store and on a real file.

Tasks are begun, moved on, ended, cancelled, watched, repeated and forgotten; the program ends in order, or is killed.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.awaited import DEADLINE
from tests.tasks_at_work import Clock, Order, Worker, error, unhurried

from localmodels.core.errors import Conflict, InvalidRequest, NotFound
from localmodels.core.tasks import ENDED, Event, Step, Task, TaskState, TaskStore
from localmodels.flows.tasks.tasks import REPEATABLE, Tasks
from localmodels.state.memory import MemoryTasks
from localmodels.state.state import State

T = TypeVar("T")
AT_ONCE = 1
ACTIONS = ("Copy.", "Copy.", "Copy.", "Convert.", "Load.")
WHOLES = ("", "", "saved", "made")
ENDS = ("succeeded", "failed", "broken")
# How often each thing happens, of all that does.
MOVES = {
    "start": 5, "step": 9, "end": 3, "cancel": 2, "watch": 3, "retry": 3, "remove": 2, "restart": 1, "kill": 1
}  # fmt: skip
MOVE = st.tuples(st.sampled_from([move for move, times in MOVES.items() for _ in range(times)]), st.integers(0, 9999))
HISTORY = st.lists(MOVE, min_size=40, max_size=100)


class Process:
    """A store as one life of the program sees it: what it writes after its death is not written."""

    def __init__(self, store: TaskStore) -> None:
        self.dead = False
        self.under_way = 0
        self._store = store

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        asked = getattr(self._store, name)

        async def counted(*args: Any, **kwargs: Any) -> Any:
            if self.dead and name in {"put", "remove", "sweep"}:
                return None
            self.under_way += 1
            try:
                return await asked(*args, **kwargs)
            finally:
                self.under_way -= 1

        return counted


class Known:
    """What the model knows of a task."""

    def __init__(self, worker: Worker, origin: str, reached: str) -> None:
        self.worker = worker
        self.origin = origin
        self.reached = reached
        self.state: TaskState = "queued"
        self.waited = False
        self.actions: list[str] = []
        self.seen = -1  # the highest number that any watcher has seen


class Watch:
    """A watcher, and what it has heard."""

    def __init__(self, tasks: Tasks, task_id: str, after: int) -> None:
        self.id = task_id
        self.after = after
        self.events: list[Event] = []
        self.listening = asyncio.ensure_future(self._listen(tasks))

    async def _listen(self, tasks: Tasks) -> None:
        async for event in tasks.follow(self.id, self.after):
            self.events.append(event)


class History:
    """One history, over the fake store. Each move draws what it needs from one number."""

    def __init__(self) -> None:
        self.memory = MemoryTasks()
        self.runner = asyncio.Runner()
        self.clock = Clock(tick=10**8)  # every tenth tick is kept
        self.known: dict[str, Known] = {}
        self.watches: list[Watch] = []
        self.running: list[str] = []
        self.line: list[str] = []

    def run(self, work: Awaitable[T]) -> T:
        async def settled() -> T:
            async with asyncio.timeout(DEADLINE):
                result = await work
                await self.settle()
                return result

        return self.runner.run(settled())

    async def settle(self) -> None:
        """Lets everything happen that can."""
        rounds = 0
        while rounds < 60:
            rounds = 0 if self.process.under_way else rounds + 1
            await asyncio.sleep(0)

    async def store(self) -> TaskStore:
        """Opens the store for a new life of the program."""
        return self.memory

    async def shut(self) -> None:
        """Closes it."""

    def tell(self, moves: Sequence[tuple[str, int]]) -> None:
        """The history from its beginning to its end."""
        try:
            self.run_begin()
            for move, number in moves:
                getattr(self, move)(number)
                self.check()
        finally:
            self.run(self.tasks.close())
            self.run(self.shut())
            self.runner.close()

    def one(self, number: int) -> str:
        """A task: one that goes on, rather than one that has ended."""
        going = [one for one, known in self.known.items() if known.state not in ENDED]
        some = going if going and number % 4 else [*self.known, "nobody"]
        return some[number // 4 % len(some)]

    def any_of(self, number: int) -> str:
        """A task, or nobody."""
        some = [*self.known, "nobody"]
        return some[number % len(some)]

    def run_begin(self) -> None:
        async def begin() -> None:
            self.process = Process(await self.store())
            self.tasks = Tasks(self.process, clock=self.clock, pause=unhurried, at_once=AT_ONCE)  # type: ignore[arg-type]
            left = [one for one in self.known.values() if one.state not in ENDED]
            assert await self.tasks.recover() == len(left)
            for one in left:
                one.state = "interrupted"

        self.process = Process(MemoryTasks())
        self.run(begin())

    def start(self, number: int) -> None:
        waits, worker = number % 5 > 0, Worker()
        task = self.run(self.tasks.start("create", "m", b'{"n": 1}', work=worker, waits=waits))
        self.known[task.id] = Known(worker, task.id, "")
        self.takes_its_turn(task, waits=waits)
        self.watch_from(task.id, -1)

    def takes_its_turn(self, task: Task, *, waits: bool) -> None:
        known = self.known[task.id]
        if waits and len(self.running) >= AT_ONCE:
            self.line.append(task.id)
            known.waited = True
            known.actions.append("Wait for other tasks.")
        else:
            known.state = "running"
            if waits:
                self.running.append(task.id)

    def ends(self, task_id: str, state: TaskState) -> None:
        """In the model: a task ends, and the next begins."""
        self.known[task_id].state = state
        for place in (self.running, self.line):
            if task_id in place:
                place.remove(task_id)
        while self.line and len(self.running) < AT_ONCE:
            self.running.append(self.line.pop(0))
            self.known[self.running[-1]].state = "running"

    def step(self, number: int) -> None:
        known = self.known.get(self.one(number))
        action, whole, times = ACTIONS[number % 5], WHOLES[number // 5 % 4], number // 20 % 30
        if known is None or known.state != "running":
            return
        known.worker.order(*(Step(action, place / 100) for place in range(times)), Step(action, 0.3, {}, whole))
        known.reached = whole or known.reached
        if known.actions[-1:] != [action]:
            known.actions.append(action)
        self.run(asyncio.sleep(0))

    def end(self, number: int) -> None:
        task_id, how = self.one(number), ENDS[number % 3]
        known = self.known.get(task_id)
        if known is None or known.state != "running":
            return
        orders: Mapping[str, list[Order]] = {
            "succeeded": [Step("Success.", 1.0, {}, "all"), None],
            "failed": [error(InvalidRequest, "no weights")],
            "broken": [Step("Success.", 1.0), ZeroDivisionError("secret")],
        }
        known.worker.order(*orders[how])
        if how == "succeeded":
            known.reached = "all"
        self.ends(task_id, "succeeded" if how == "succeeded" else "failed")
        self.run(asyncio.sleep(0))

    def cancel(self, number: int) -> None:
        task_id = self.one(number)
        known = self.known.get(task_id)
        if known is None:
            return
        began = known.worker.began.is_set()
        task = self.run(self.tasks.cancel(task_id))
        if known.state not in ENDED:
            self.ends(task_id, "cancelled")
            assert known.worker.left == int(began)
        assert task.state == known.state

    def watch(self, number: int) -> None:
        task_id = self.one(number)
        if task_id in self.known:
            self.watch_from(task_id, max(-1, self.known[task_id].seen - number % 5))

    def watch_from(self, task_id: str, after: int) -> None:
        async def begin() -> None:
            self.watches.append(Watch(self.tasks, task_id, after))

        self.run(begin())

    def retry(self, number: int) -> None:
        task_id = self.any_of(number)
        known = self.known.get(task_id)
        if known is None:
            self.refused(self.tasks.retry(task_id), NotFound)
            return
        newest = [one for one in self.known if self.known[one].origin == known.origin][-1]
        worker = Worker()
        self.tasks.register("create", worker)
        if known.state not in REPEATABLE or newest != task_id:
            self.refused(self.tasks.retry(task_id), Conflict)
            return
        again = self.run(self.tasks.retry(task_id))
        self.known[again.id] = Known(worker, known.origin, known.reached)
        self.takes_its_turn(again, waits=True)
        assert (again.retry_of, again.origin, again.request) == (task_id, known.origin, b'{"n": 1}')

    def remove(self, number: int) -> None:
        task_id = self.any_of(number)
        known = self.known.get(task_id)
        if known is None:
            self.refused(self.tasks.remove(task_id), NotFound)
        elif known.state not in ENDED:
            self.refused(self.tasks.remove(task_id), Conflict)
        else:
            self.run(self.tasks.remove(task_id))
            del self.known[task_id]

    def refused(self, work: Awaitable[object], kind: type[Exception]) -> None:
        async def asking() -> bool:
            try:
                await work
            except kind:
                return True
            return False

        assert self.run(asking())

    def restart(self, number: int) -> None:
        self.run(self.tasks.close())
        for known in self.known.values():
            if known.state not in ENDED:
                known.state = "interrupted"
        self.running, self.line = [], []
        self.check_watches()
        assert all(watch.listening.done() for watch in self.watches)
        self.watches.clear()
        self.run(self.shut())
        self.run_begin()

    def kill(self, number: int) -> None:
        self.check_watches()
        self.process.dead = True
        self.run(self.tasks.close())
        self.watches.clear()
        self.running, self.line = [], []
        killed = [one for one, known in self.known.items() if known.state not in ENDED]
        self.run(self.shut())
        self.run_begin()

        async def after(task_id: str, number: int) -> list[Event]:
            return [event async for event in self.tasks.follow(task_id, number)]

        for task_id in killed:
            (last,) = self.run(after(task_id, self.known[task_id].seen))[-1:]
            assert (last.status, last.action) == (503, "Interrupted.")

    def check(self) -> None:
        """What is said is what is."""
        every = self.run(self.tasks.all())
        assert [task.id for task in every] == list(self.known)[::-1]
        assert {task.id: task.state for task in every} == {one: known.state for one, known in self.known.items()}
        assert {task.id: task.reached for task in every} == {one: known.reached for one, known in self.known.items()}
        for task in every:
            ended = task.state in ENDED
            assert (task.ended_at > 0) is ended
            assert (task.failure is None) is (task.state not in REPEATABLE)
            assert (task.ratio == 1) is (task.state == "succeeded")
        left = {task.origin: task.state for task in reversed(every)}
        needed = {origin for origin, state in left.items() if state in {"interrupted", "failed"} or state not in ENDED}
        assert self.run(self.tasks.needed()) == needed
        self.check_watches()

    def check_watches(self) -> None:
        for watch in self.watches:
            known, events = self.known.get(watch.id), watch.events
            numbers = [event.number for event in events]
            assert all(before < after for before, after in pairwise([watch.after, *numbers]))
            assert all(before.ratio <= after.ratio for before, after in pairwise(events))
            assert all(event.status == 200 and event.ratio < 1 for event in events[:-1])
            if known is None:
                continue
            known.seen = max([known.seen, *numbers])
            assert watch.listening.done() is (known.state in ENDED)
            if events:
                assert watch.listening.done() is (events[-1].status != 200 or events[-1].ratio == 1)
            if watch.after == -1:
                told = [event.action for event in events if event.status == 200 and event.ratio < 1]
                assert changes(told) == known.actions
        self.watches = [watch for watch in self.watches if not watch.listening.done()]


def changes(actions: Sequence[str]) -> list[str]:
    """The actions, without what each repeats of the one before."""
    return [action for place, action in enumerate(actions) if not place or action != actions[place - 1]]


class OnDisk(History):
    """The same over a real file."""

    def __init__(self, home: Path) -> None:
        super().__init__()
        self.home = home

    async def store(self) -> TaskStore:
        self.opened = AsyncExitStack()
        state = await self.opened.enter_async_context(State(self.home))
        return state.tasks

    async def shut(self) -> None:
        await self.opened.aclose()


@settings(max_examples=60)
@given(HISTORY)
def test_what_is_said_is_what_is(moves: list[tuple[str, int]]) -> None:
    History().tell(moves)


@settings(max_examples=6)
@given(HISTORY)
def test_what_is_said_is_what_is_on_disk(moves: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as home:
        OnDisk(Path(home)).tell(moves)
