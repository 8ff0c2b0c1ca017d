"""One task from its beginning to its end: its work, what it says, and who listens.

One owner: the life of a :class:`Run` alone changes its task. Everybody else asks: that it stop, or what there is to be
known. What watchers are shown has been written before, if it could be; what could not be written is written with the
next event, and stops no work.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, Literal

from msgspec.structs import replace

from localmodels.core.errors import Cancelled, LocalModelsError, ShuttingDown, unforeseen
from localmodels.core.tasks import Event, Failure, Step, Task, TaskState, TaskStore
from localmodels.dialects.strict_json import encode
from localmodels.dialects.tasks import failure_details, failure_of
from localmodels.flows.tasks.events import Telling

log = logging.getLogger(__name__)

# Seconds between two looks of a watcher: sixteen a second are as many as a bar can show.
PACE = 1 / 16
Pause = Callable[[float], Awaitable[object]]
Stop = Literal["cancelled", "interrupted"]

WAITING = "Wait for other tasks."
ENDINGS: Mapping[TaskState, str] = {"failed": "Failed.", "cancelled": "Cancelled.", "interrupted": "Interrupted."}
STOPPED: Mapping[Stop, Failure] = {
    "cancelled": failure_of(Cancelled("the task was cancelled")),
    "interrupted": failure_of(ShuttingDown("the server ended before the task did; it can be repeated")),
}
_UNFORESEEN = failure_of(unforeseen())


class Ticket:
    """A task, as its work sees it.

    Attributes:
        id: of the task.
        origin: of the first of its line; what the works of a line leave for each other lies under it.
        request: what was asked.
        reached: the last whole step of the task that this one repeats, or empty. It says what was done, and not that it
            is still there: look.
        interrupted: is it the server's end that ends the work? Then what is whole is left where it is, for a retry.
        settled: set by the work when what it is for has happened, though it has more to say. From then on nothing stops
            it, as from a step of the ratio 1 on.
    """

    __slots__ = ("id", "interrupted", "origin", "reached", "request", "settled")

    def __init__(self, task: Task) -> None:
        self.id = task.id
        self.origin = task.origin
        self.request = task.request
        self.reached = task.reached
        self.interrupted = False
        self.settled = False


Work = Callable[[Ticket], AsyncGenerator[Step, None]]
"""Does what a task is for, and says how far it is.

Ending normally is success; its last step should have the ratio 1, and watchers get it when the work has ended. An error
of ``core.errors`` is told to them. To be cancelled is to clean up and let ``CancelledError`` or ``GeneratorExit`` pass;
a work that is past its last moment says its last step and ends normally instead, and has succeeded.
"""


class Run:
    """A task that has not ended, or whose end is not written yet.

    Args:
        task: new.
        work: what it does.
        store: keeps it.
        clock: nanoseconds since 1970.
        over: is told when it has ended.

    Attributes:
        task: as it is now.
        ended: no more events come.
        written: is all of it in the store?
        turn: set when it may begin.
        known: set when the store has, or cannot have, a record of it.
    """

    def __init__(
        self, task: Task, work: Work, store: TaskStore, clock: Callable[[], int], over: Callable[[Run], None]
    ) -> None:
        self.task = task
        self.ended = False
        self.written = False
        self.turn = asyncio.Event()
        self.known = asyncio.Event()
        self._work = work
        self._store = store
        self._clock = clock
        self._ticket = Ticket(task)
        self._telling = Telling(clock)
        self._events_written = 0
        self._shown = -1
        self._last: Step | None = None  # what says that all is done, held back until it is
        self._stopped: Stop | None = None
        self._working = False
        self._news = asyncio.Event()
        self._life = asyncio.ensure_future(self._live())
        self._life.add_done_callback(lambda _: self._over(over))

    def waits(self) -> None:
        """Says that others are before it; to be called before anybody awaits."""
        self._say(Step(WAITING, 0.0, {"model": self.task.subject}))

    def end(self, how: Stop) -> None:
        """Tells it to end. Who told it first says how."""
        if self._stopped is None:
            self._stopped = how
            self._ticket.interrupted = how == "interrupted"
            self.turn.set()
            if self._working and not self._past:
                self._life.cancel()

    async def stop(self, how: Stop) -> None:
        """Ends it, and waits until it has, its work's cleaning up included."""
        self.end(how)
        await asyncio.wait((self._life,))

    async def follow(self, after: int, pause: Pause) -> AsyncGenerator[Event, None]:
        """The events after this number as they come, until the task has ended; ticks at most every ``PACE``."""
        while True:
            if fresh := [event for event in self._telling.after(after) if event.number <= self._shown]:
                after = fresh[-1].number
                for event in fresh:
                    yield event
                if not self.ended:
                    await pause(PACE)
            elif self.ended:
                return
            else:
                await self._news.wait()

    async def write(self) -> None:
        """Writes what is not written yet; that it cannot be is for the log."""
        events = self._telling.kept[self._events_written :]
        first = self.written or not self.known.is_set()
        self.written = False
        try:
            await self._store.put(self.task, events)
        except LocalModelsError as error:
            if first:
                log.warning("task %s cannot be kept, and goes on: %s", self.task.id, error)
        else:
            self._events_written += len(events)
            self.written = True

    async def _live(self) -> None:
        await self._show()
        self.known.set()
        await self.turn.wait()
        self._end(*await self._done())
        await self.write()
        self.ended = True
        self._announce()

    async def _done(self) -> tuple[TaskState, Failure | None]:
        """Does the work, unless it was stopped before; how did it end?"""
        failure = await self._worked() if self._stopped is None else _UNFORESEEN
        if failure is None:
            return "succeeded", None
        if self._stopped is not None:
            return self._stopped, STOPPED[self._stopped]
        return "failed", failure

    async def _worked(self) -> Failure | None:
        """Does the work; why did it not come to its own end?"""
        self.task = replace(self.task, state="running", started_at=self._clock())
        try:
            async with aclosing(self._work(self._ticket)) as steps:
                if await self._told(steps):
                    return None
        except asyncio.CancelledError:
            self._uncancelled()
        except LocalModelsError as error:
            if self._stopped is not None:
                log.warning("task %s was %s, and then: %s", self.task.id, self._stopped, error)
            return failure_of(error)
        except Exception:
            # A supervisor's: nobody waits for this work, and whoever watches it must not wait for ever.
            log.exception("unforeseen error in task %s (%s)", self.task.id, self.task.kind)
        return _UNFORESEEN

    async def _told(self, steps: AsyncGenerator[Step, None]) -> bool:
        """Tells the steps; did they end by themselves?"""
        # Who has said that all is done is heard out: it was too late to stop it.
        while self._stopped is None or self._past:
            self._working = True
            try:
                # Nothing else is ever cancelled, least of all a write, which would go on in its thread.
                step = await anext(steps, None)
            finally:
                self._working = False
            if step is None:
                return True
            if self._last is not None:  # it was not the last
                await self._tell(self._last)
            self._last = step if step.ratio >= 1 else None
            if self._last is None:
                await self._tell(step)
            else:
                encode(step.details)  # in vain where it can be kept; later is too late to fail
        return False

    @property
    def _past(self) -> bool:
        """Is it past its last moment?"""
        return self._last is not None or self._ticket.settled

    async def _tell(self, step: Step) -> None:
        if self._say(step):
            await self._show()
        else:
            self._announce()

    def _uncancelled(self) -> None:
        """The work let itself be cancelled: by us, or from outside, by a loop that ends."""
        life = asyncio.current_task()
        if life is None or not life.cancelling():
            log.error("the work of task %s (%s) cancelled itself", self.task.id, self.task.kind)
            return
        life.uncancel()
        self._stopped = self._stopped or "interrupted"

    def _say(self, step: Step) -> bool:
        """Adds a step; is it to be written before it is shown?"""
        due = self._telling.tell(step)
        self._note(step.whole)
        return due

    def _end(self, state: TaskState, failure: Failure | None) -> None:
        about: dict[str, Any] = {"model": self.task.subject}
        if failure is None:
            step = self._last or Step(self.task.action or "Done.", 1.0, about)
            self._telling.end(step.action, step.details)
            self._note(step.whole)
        else:
            said = failure_details(failure) | about | {"during": self.task.action}
            self._telling.end(ENDINGS[state], said, failure.status)
        self.task = replace(self.task, state=state, failure=failure, ended_at=self._clock())
        self._note()

    def _note(self, whole: str = "") -> None:
        if (event := self._telling.last) is not None:
            reached = whole or self.task.reached
            self.task = replace(self.task, action=event.action, ratio=event.ratio, reached=reached)

    async def _show(self) -> None:
        await self.write()
        self._announce()

    def _announce(self) -> None:
        """Shows what was said so far."""
        self._shown = self._telling.last.number if self._telling.last else -1
        news, self._news = self._news, asyncio.Event()
        news.set()

    def _over(self, over: Callable[[Run], None]) -> None:
        """Its life has ended, in whatever way: nobody waits for more."""
        if not self._life.cancelled() and (error := self._life.exception()):
            log.error("task %s ended without its end being kept", self.task.id, exc_info=error)
        self.ended = True
        self.known.set()
        self._announce()
        over(self)
