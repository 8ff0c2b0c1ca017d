"""Long work that outlives whoever asked for it: begun, queued, watched, cancelled, repeated, and never forgotten.

The rule: a task belongs to itself. A client that leaves stops nothing, a watcher that is slow holds nobody up, a store
that cannot be written stops no work, and the end of the server ends a task in a way that it can be repeated from.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from time import time_ns
from typing import get_args
from uuid import uuid4

from msgspec.structs import replace

from localmodels.core.errors import Conflict, LocalModelsError, NotFound, QueueFull, ShuttingDown, Unsupported
from localmodels.core.tasks import ENDED, HISTORY, Event, Task, TaskKind, TaskState, TaskStore
from localmodels.dialects.tasks import failure_details
from localmodels.flows.metric import Reading
from localmodels.flows.tasks.events import LEAP
from localmodels.flows.tasks.run import ENDINGS, STOPPED, Pause, Run, Work

log = logging.getLogger(__name__)

AT_ONCE = 2
# Tasks that wait for their turn, of all owners and of one: each may hold gigabytes that were uploaded for it, and at
# some minutes for each, the last of so many begins in hours.
MOST_WAITING, MOST_WAITING_EACH = 64, 16
# Seconds after which asking again makes sense: a task takes minutes, and the next may begin at any moment.
TURN = 60.0
# Tasks that ended and could not be written, kept in memory until they can.
MOST_UNWRITTEN = 100
# Nanoseconds for which a failed task can be repeated without another upload: a week, as a large file costs disk.
KEPT_FAILED = 7 * 24 * 3600 * 10**9
# Seconds between two looks at a task that another gateway does.
FAR_PACE = 0.5
REPEATABLE: frozenset[TaskState] = frozenset({"failed", "cancelled", "interrupted"})
_RUNNING = "Tasks that run or wait, by their kind."


async def nothing(origin: str) -> None:
    """Nothing is left behind by tasks."""


class Tasks:
    """All tasks of this server.

    Args:
        store: keeps them.
        works: what is done for a task of each kind, for those that are begun without their work, and for retries.
        at_once: tasks that run at a time; others wait, in their order.
        most_waiting: of all owners; the next one is refused.
        most_waiting_each: of one owner.
        clock: nanoseconds since 1970, UTC.
        pause: waits so many seconds; for watchers.
        ended: is shown every task that has ended.
        discard: clears away what a line of tasks has left for retries, by its origin, when nobody shall repeat it.
        history: ended tasks that are remembered.
    """

    def __init__(
        self,
        store: TaskStore,
        works: Mapping[TaskKind, Work] | None = None,
        *,
        at_once: int = AT_ONCE,
        most_waiting: int = MOST_WAITING,
        most_waiting_each: int = MOST_WAITING_EACH,
        clock: Callable[[], int] = time_ns,
        pause: Pause = asyncio.sleep,
        ended: Callable[[Task], None] = lambda _: None,
        discard: Callable[[str], Awaitable[None]] = nothing,
        history: int = HISTORY,
    ) -> None:
        self._store = store
        self._works = dict(works or {})
        self._at_once = at_once
        self._most_waiting = most_waiting
        self._most_waiting_each = most_waiting_each
        self._clock = clock
        self._pause = pause
        self._told_of = ended
        self._discard = discard
        self._history = history
        self._runs: dict[str, Run] = {}
        self._line: deque[Run] = deque()
        self._busy: set[Run] = set()
        self._leaving: Counter[str] = Counter()  # by their origins: lines of which something is being cleared away
        self._chores: set[asyncio.Task[None]] = set()
        self._since = self._latest = clock()
        self._closed = False

    def register(self, kind: TaskKind, work: Work) -> None:
        """Says what is done for tasks of this kind."""
        self._works[kind] = work

    async def start(
        self,
        kind: TaskKind,
        subject: str,
        request: bytes = b"{}",
        owner: str = "",
        work: Work | None = None,
        *,
        id: str = "",  # noqa: A002
        waits: bool = True,
    ) -> Task:
        """Begins a task, and returns when there is a record of it.

        It goes on whatever becomes of the caller. Where no record can be written there is none, and the work goes on
        all the same: on a full disk one must still be able to delete.

        Args:
            kind: of work.
            subject: name of what it is about.
            request: JSON for the work, of its own kind; also of a retry's.
            owner: id of who asks.
            work: None for that of the kind.
            id: UUID; empty for a new one.
            waits: does it wait while ``at_once`` others run? One whose caller holds something open should not.

        Raises:
            ShuttingDown, QueueFull: as :meth:`require_place`.
        """
        made = id or str(uuid4())
        task = Task(id=made, kind=kind, subject=subject, owner=owner, request=request, origin=made)
        return await self._begun(task, work or self._work(kind), waits=waits)

    def require_place(self, owner: str) -> None:
        """Looks whether a task of this owner could begin, or wait, now; to be asked before much is done for one.

        Raises:
            ShuttingDown: the server is on its way out.
            QueueFull: too many wait already, of this owner or of all.
        """
        if self._closed:
            raise _closing()
        if len(self._busy) < self._at_once:
            return
        if len(self._line) >= self._most_waiting:
            raise QueueFull(f"{len(self._line)} tasks wait for their turn already", retry_after=TURN)
        if (his := sum(run.task.owner == owner for run in self._line)) >= self._most_waiting_each:
            raise QueueFull(f"{his} tasks of yours wait for their turn already", retry_after=TURN)

    async def retry(self, id: str, owner: str | None = None) -> Task:  # noqa: A002
        """Begins a task that repeats this one from its last whole step; it belongs to the same owner.

        Raises:
            NotFound: there is no such task, or it is not this owner's.
            Conflict: it has not ended, has succeeded, or has been repeated already; what it left is being cleared away,
                or lies with another gateway.
            Unsupported: nobody knows how.
            ShuttingDown, QueueFull: as :meth:`require_place`.
        """
        task = await self.get(id, owner)
        if task.state not in REPEATABLE:
            raise Conflict(f"task '{id}' is {task.state}; only one that failed or was broken off can be repeated")
        await self._require_ours(id, "repeat")
        newest = (*await self._store.line(task.origin), task)[0]
        running = next((run.task for run in self._runs.values() if run.task.origin == task.origin), newest)
        if (later := max(newest, running, key=lambda one: one.created_at)).id != id:
            raise Conflict(f"task '{id}' has been repeated by task '{later.id}', which is {later.state}")
        if self._leaving[task.origin]:  # nobody awaits between this and the new task's being known
            raise Conflict(f"what task '{id}' has left is being cleared away; ask again when that is done")
        again = Task(
            id=str(uuid4()),
            kind=task.kind,
            subject=task.subject,
            owner=task.owner,
            request=task.request,
            reached=task.reached,
            retry_of=id,
            origin=task.origin,
        )
        return await self._begun(again, self._work(task.kind), waits=True)

    async def get(self, id: str, owner: str | None = None) -> Task:  # noqa: A002
        """The task as it is now.

        Args:
            id: of the task.
            owner: whose it must be; None for whoever's.

        Raises:
            NotFound: there is no such task, or it is not this owner's.
        """
        run = self._runs.get(id)
        task = run.task if run else await self._store.get(id)
        if task is None or owner not in {None, task.owner}:
            raise NotFound(f"task '{id[:80]}' not found", param="task_uuid")
        return task

    async def all(
        self, *, owner: str | None = None, state: TaskState | None = None, most: int = HISTORY
    ) -> tuple[Task, ...]:
        """The newest first, without what was asked; None means every owner, and every state."""
        runs = dict(self._runs)  # before the store is asked: what ends meanwhile is found here or there
        kept = await self._store.all(owner=owner, state=state, most=most + len(runs))
        now = [replace(run.task, request=b"") for run in runs.values()]
        tasks = [task for task in now if owner in {None, task.owner} and state in {None, task.state}]
        tasks += (task for task in kept if task.id not in runs)
        return tuple(sorted(tasks, key=lambda task: (-task.created_at, task.id))[:most])

    async def follow(self, id: str, after: int = -1, owner: str | None = None) -> AsyncGenerator[Event, None]:  # noqa: A002
        """The task's events after this number, and then those to come; ends with the task.

        Raises:
            NotFound: as :meth:`get`, before the first event.
        """
        if run := self._runs.get(id):
            await self.get(id, owner)
            async with aclosing(run.follow(after, self._pause)) as events:
                async for event in events:
                    yield event
            return
        task = await self.get(id, owner)
        goes_on = task.state not in ENDED and bool(await self._store.keeper(id))
        while goes_on:  # elsewhere: what is told there is here as soon as it is written
            for event in await self._store.events(id, after):
                after = event.number
                yield event
            await self._pause(FAR_PACE)
            goes_on = (await self.get(id, owner)).state not in ENDED
        for event in await self._store.events(id, after):
            yield event

    async def cancel(self, id: str, owner: str | None = None) -> Task:  # noqa: A002
        """Ends a task, and returns when its work has cleaned up; one that has ended stays as it is.

        A work that was past its last moment has succeeded all the same; the task that is returned says so.

        Raises:
            NotFound: as :meth:`get`.
            Conflict: it goes on at another gateway; says which.
        """
        task = await self.get(id, owner)
        if run := self._runs.get(id):
            with self._clearing(task.origin):
                await run.stop("cancelled")
                # By its work, unless that never began.
                if run.task.state == "cancelled" and not self._goes_on(task.origin, without=id):
                    await self._discard(task.origin)
            return run.task
        if task.state not in ENDED:
            await self._require_ours(id, "cancel")
        return task

    async def remove(self, id: str, owner: str | None = None) -> Task:  # noqa: A002
        """Forgets a task that has ended, with all that it has left for a retry; what was it?

        Raises:
            NotFound: as :meth:`get`.
            Conflict: it has not ended.
        """
        task = await self.get(id, owner)
        if task.state not in ENDED:
            raise Conflict(f"task '{id}' is {task.state}; cancel it first")
        with self._clearing(task.origin):
            self._runs.pop(id, None)
            await self._store.remove(id)
            if task.state in REPEATABLE and not (await self._store.line(task.origin) or self._goes_on(task.origin)):
                await self._discard(task.origin)
        return task

    async def recover(self) -> int:
        """Ends what an earlier process left in the middle; how many were ended?"""
        try:
            left = [task for task in await self._store.unfinished() if task.created_at < self._since]
            for task in left:
                await self.left(task)
        except LocalModelsError as error:
            log.warning("the tasks cannot be looked through: %s", error)
            return 0
        return len(left)

    async def needed(self) -> frozenset[str]:
        """The origins of all lines that can still be repeated: what they have left is needed for that.

        Those that failed are given up after a while.

        Raises:
            LocalModelsError: nobody can tell; then everything is.
        """
        since = self._clock() - KEPT_FAILED
        newest: dict[str, Task] = {}
        for task in await self.all(most=2**31):
            newest.setdefault(task.origin, task)
        return frozenset(
            origin
            for origin, task in newest.items()
            if task.state == "interrupted"
            or task.state not in ENDED
            or (task.state == "failed" and task.ended_at > since)
        )

    def interrupt(self) -> None:
        """Interrupts what runs and what waits, and begins nothing more; :meth:`close` waits until all has ended."""
        self._closed = True
        for run in tuple(self._runs.values()):
            run.end("interrupted")

    async def close(self) -> None:
        """Interrupts what runs and what waits, begins nothing more, and returns when all of it is kept."""
        self._closed = True
        await asyncio.gather(*(run.stop("interrupted") for run in tuple(self._runs.values())))
        while self._chores:
            await asyncio.wait(tuple(self._chores))
        await self._rewrite()

    def readings(self) -> Iterator[Reading]:
        """How many there are now."""
        counts = Counter((run.task.kind, run.task.state) for run in self._runs.values() if not run.ended)
        for kind in get_args(TaskKind):
            for state in ("queued", "running"):
                yield Reading(
                    "localmodels_tasks_unfinished", _RUNNING, counts[kind, state], (("kind", kind), ("state", state))
                )

    async def _require_ours(self, id: str, what: str) -> None:  # noqa: A002
        if keeper := await self._store.keeper(id):
            raise Conflict(
                f"task '{id}' is another gateway's, with all that belongs to it: {what} it there"
                f" (the gateway whose home has {keeper} in gateway.id)"
            )

    def _work(self, kind: TaskKind) -> Work:
        if work := self._works.get(kind):
            return work
        raise Unsupported(f"this server does not know how to repeat a task of the kind '{kind}'")

    @contextmanager
    def _clearing(self, origin: str) -> Iterator[None]:
        """Something of this line is taken away: no task of it begins meanwhile."""
        self._leaving[origin] += 1
        try:
            yield
        finally:
            self._leaving[origin] -= 1
            self._leaving += Counter()  # drops those that are zero

    def _goes_on(self, origin: str, without: str = "") -> bool:
        """Is there a task of this line here, but for this one? The store may not know of it."""
        return any(run.task.origin == origin and run.task.id != without for run in self._runs.values())

    async def _begun(self, task: Task, work: Work, *, waits: bool) -> Task:
        if waits:
            self.require_place(task.owner)
        elif self._closed:
            raise _closing()
        # No two are made in the same moment, so that the order of moments is the order of tasks.
        self._latest = max(self._clock(), self._latest + 1)
        run = Run(replace(task, created_at=self._latest), work, self._store, self._clock, self._over)
        self._runs[task.id] = run
        if waits and len(self._busy) >= self._at_once:
            self._line.append(run)
            run.waits()
        else:
            if waits:
                self._busy.add(run)
            run.turn.set()
        await run.known.wait()
        return run.task

    def _over(self, run: Run) -> None:
        """A task has ended: the next may begin, and the books are put in order."""
        self._busy.discard(run)
        if run in self._line:
            self._line.remove(run)
        while self._line and len(self._busy) < self._at_once:
            following = self._line.popleft()
            self._busy.add(following)
            following.turn.set()
        if run.written:
            self._runs.pop(run.task.id, None)
        if run.task.state in ENDED:
            self._told_of(run.task)
        chore = asyncio.ensure_future(self._tidied())
        self._chores.add(chore)
        chore.add_done_callback(self._chores.discard)

    async def _tidied(self) -> None:
        try:
            await self._rewrite()
            for origin in {*await self._store.sweep(most=self._history)}:
                with self._clearing(origin):
                    if not (await self._store.line(origin) or self._goes_on(origin)):
                        await self._discard(origin)
        except LocalModelsError as error:
            log.warning("old tasks cannot be forgotten: %s", error)

    async def _rewrite(self) -> None:
        """Writes once more what ended and could not be written; the oldest of too many are given up."""
        unwritten = [run for run in self._runs.values() if run.ended]
        for place, run in enumerate(unwritten):
            await run.write()
            if run.written or place < len(unwritten) - MOST_UNWRITTEN:
                self._runs.pop(run.task.id, None)

    async def left(self, task: Task) -> None:
        """Ends a task whose server has ended; its watchers may have seen ticks that nobody kept.

        Raises:
            LocalModelsError: it cannot be written.
        """
        events = await self._store.events(task.id)
        number = events[-1].number + LEAP if events else 0
        failure = STOPPED["interrupted"]
        details = failure_details(failure) | {"model": task.subject, "during": task.action}
        event = Event(number, ENDINGS["interrupted"], task.ratio, details, failure.status)
        over = replace(task, state="interrupted", failure=failure, action=event.action, ended_at=self._clock())
        await self._store.put(over, (event,))
        self._told_of(over)


def _closing() -> ShuttingDown:
    return ShuttingDown("the server is on its way out; nothing new is begun")
