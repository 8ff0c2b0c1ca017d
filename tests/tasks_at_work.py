"""Works that do what a test tells them, and watchers that note what they hear."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from localmodels.core.errors import LocalModelsError, StoreFailed
from localmodels.core.tasks import Event, Step, Task
from localmodels.flows.tasks.run import Ticket
from localmodels.flows.tasks.tasks import Tasks
from localmodels.state.memory import MemoryTasks

Order = Step | BaseException | None


class Worker:
    """A work that says the steps, raises the errors and ends (None) as it is ordered.

    Attributes:
        ticket: what it was given.
        may_leave: cleared, its cleaning up takes until it is set.
    """

    def __init__(self, *orders: Order) -> None:
        self.ticket: Ticket | None = None
        self.began = asyncio.Event()
        self.leaving = asyncio.Event()
        self.may_leave = asyncio.Event()
        self.may_leave.set()
        self.left = 0
        self._orders: asyncio.Queue[Order] = asyncio.Queue()
        self.order(*orders)

    def order(self, *orders: Order) -> None:
        """Says what comes next."""
        for order in orders:
            self._orders.put_nowait(order)

    async def idle(self) -> None:
        """Returns when all that was ordered has been taken."""
        await self._orders.join()

    async def __call__(self, ticket: Ticket) -> AsyncGenerator[Step, None]:
        self.ticket = ticket
        self.began.set()
        try:
            while (order := await self._orders.get()) is not None:
                if isinstance(order, BaseException):
                    raise order
                yield order
                self._orders.task_done()
            self._orders.task_done()
        finally:
            self.leaving.set()
            await self.may_leave.wait()
            self.left += 1


class Clock:
    """A second for every look, so that each tick is one that is kept; or what it is set to."""

    def __init__(self, tick: int = 10**9) -> None:
        self.now = 10**18
        self.tick = tick

    def __call__(self) -> int:
        self.now += self.tick
        return self.now


class Refusing(MemoryTasks):
    """A store that takes nothing while ``full``."""

    def __init__(self) -> None:
        super().__init__()
        self.full = False
        self.defect: Exception | None = None
        self.refused = 0

    async def put(self, task: Task, events: Sequence[Event] = ()) -> None:
        """Keeps it, if it can."""
        if self.defect is not None:
            raise self.defect
        if self.full:
            self.refused += 1
            raise StoreFailed("disk full")
        await super().put(task, events)


async def unhurried(seconds: float) -> None:
    """Time that passes at once, for watchers."""
    await asyncio.sleep(0)


def work_of(name: str) -> list[Order]:
    """A work that comes to its end."""
    return [Step("Begin.", 0.1, {"model": name}), Step("Success.", 1.0, {"model": name}, "done"), None]


async def heard(tasks: Tasks, task_id: str, after: int = -1, most: int = 0) -> list[Event]:
    """What a watcher hears until the task has ended, or until ``most`` events have come."""
    events: list[Event] = []
    async with aclosing(tasks.follow(task_id, after)) as following:
        async for event in following:
            events.append(event)
            if len(events) == most:
                break
    return events


async def ended(tasks: Tasks, task_id: str) -> Task:
    """The task, once it has ended."""
    await heard(tasks, task_id)
    return await tasks.get(task_id)


def error(kind: type[LocalModelsError], message: str, param: str | None = None) -> LocalModelsError:
    """An error of ours."""
    return kind(message, param=param)
