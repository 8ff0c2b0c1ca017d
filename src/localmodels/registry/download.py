"""One blob on its way from the mirrors of a registry into a sink: carries out what ``parts`` decides.

The rule: what happened goes to :class:`Parts` first, in the order in which it happened, and nothing is done that it did
not decide. A write to the sink that has begun is always waited for, also by a download that is stopped.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from localmodels.core.catalog import Blob
from localmodels.core.errors import Garbled, LocalModelsError
from localmodels.core.spans import Span, merged
from localmodels.registry.disk import Sink
from localmodels.registry.distribution import head_of
from localmodels.registry.outbound import Answer
from localmodels.registry.pace import Pace
from localmodels.registry.parts import (
    Ask,
    Began,
    Decision,
    Drop,
    Ended,
    Event,
    Fail,
    Finish,
    Parts,
    Received,
    Replied,
    Tick,
    Trouble,
    Write,
    Wrote,
)
from localmodels.registry.progress import BlobProgress, State


class Mirror(Protocol):
    """A place to ask for a range of one blob."""

    def __call__(self, start: int, stop: int) -> AbstractAsyncContextManager[Answer]: ...


class Download:
    """One blob, one sink, one run.

    Args:
        mirrors: in the order in which they are tried.
        slots: of requests at a time, shared with other downloads.
        tell: hears of every change.
    """

    def __init__(
        self,
        blob: Blob,
        mirrors: Sequence[Mirror],
        sink: Sink,
        *,
        pace: Pace,
        slots: asyncio.Semaphore,
        tell: Callable[[BlobProgress], None],
        chance: random.Random,
    ) -> None:
        self._blob = blob
        self._mirrors = mirrors
        self._sink = sink
        self._pace = pace
        self._slots = slots
        self._tell = tell
        self._chance = chance
        self._loop = asyncio.get_running_loop()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._dropped: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._error: BaseException | None = None
        self._troubles = 0
        self._trouble = ""

    async def run(self) -> None:
        """Until the blob is in its place.

        Raises:
            LocalModelsError: it cannot be had.
            OSError: it cannot be written.
        """
        # A blob that has not its digest is fetched once more, from its first byte: what an earlier run left may have
        # been spoilt since, and of bad bytes nobody can say which they are.
        for _ in range(2):
            await self._gather()
            self._say("verifying", self._blob.size)
            if await self._sink.finish():
                self._say("done", self._blob.size)
                return
            self._note(f"what arrived is not {self._blob.digest}")
        raise Garbled(f"the registry's bytes are not those of {self._blob.digest}")

    async def _gather(self) -> None:
        self._parts = Parts(
            self._blob, self._sink.have, pace=self._pace, mirrors=len(self._mirrors), chance=self._chance
        )
        self._end = asyncio.Event()
        self._error = None
        received = False
        try:
            self._carry_out(self._parts.start(self._loop.time()))
            self._set_timer()
            self._say("moving", self._parts.completed)
            await self._end.wait()
            received = self._error is None
        finally:
            if self._timer:
                self._timer.cancel()
            # The sink is closed next, and nobody may write to it then.
            await uninterrupted(self._all_tasks(stop=not received))
        if self._error is not None:  # of the registry, or of a last write after everything was received
            raise self._error

    async def _all_tasks(self, *, stop: bool) -> None:
        """Waits for every attempt to end; when they are to stop they do so at once, but for a write that has begun."""
        tasks = [*self._tasks.values(), *self._dropped]
        if stop:
            for task in tasks:
                task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _happened(self, event: Event) -> list[Write]:
        """Takes an event to the parts and does what follows, all but the writing that is given back."""
        writes = self._carry_out(self._parts.handle(event, self._loop.time()))
        # While bytes come the next wake only gets later, and a timer that goes off too early does no harm.
        if self._timer is None or not isinstance(event, Received | Wrote):
            self._set_timer()
        return writes

    def _carry_out(self, decisions: list[Decision]) -> list[Write]:
        writes: list[Write] = []
        for decision in decisions:
            match decision:
                case Write():
                    writes.append(decision)
                case Ask():
                    self._ask(decision)
                case Drop(attempt):
                    self._drop(attempt)
                case Trouble(why):
                    self._note(why)
                case Finish():
                    self._end.set()
                case Fail(error):
                    self._fail(error)
        return writes

    def _ask(self, ask: Ask) -> None:
        task = self._tasks[ask.attempt] = self._loop.create_task(self._attempt(ask))
        task.add_done_callback(lambda task: self._ended(ask.attempt, task))

    def _drop(self, attempt: int) -> None:
        task = self._tasks.pop(attempt, None)
        if task is None:
            return
        self._dropped.add(task)
        # One that drops itself sees that nothing more of it is wanted, and still writes what is.
        if task is not asyncio.current_task():
            task.cancel()

    def _fail(self, error: BaseException) -> None:
        self._error = self._error or error
        self._end.set()

    def _ended(self, attempt: int, task: asyncio.Task[None]) -> None:
        self._tasks.pop(attempt, None)
        self._dropped.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)  # the disk's; the registry's were handed to the parts

    def _set_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        wake = self._parts.next_wake()
        if wake is not None and not self._end.is_set():
            self._timer = self._loop.call_at(wake, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._happened(Tick())

    async def _attempt(self, ask: Ask) -> None:
        try:
            async with self._slots:
                self._happened(Began(ask.attempt))
                async with self._mirrors[ask.mirror](ask.start, ask.stop) as answer:
                    self._happened(Replied(ask.attempt, head_of(answer)))
                    await self._read(ask.attempt, answer)
        except LocalModelsError as error:
            self._happened(Ended(ask.attempt, error))

    async def _read(self, attempt: int, answer: Answer) -> None:
        written: list[Span] = []
        try:
            while self._parts.reads(attempt):
                data = await answer.piece()
                if not data:
                    self._happened(Ended(attempt))
                    return
                if writes := self._happened(Received(attempt, len(data))):
                    await self._to_disk(self._write(data, writes, written))
                    self._say("moving", self._parts.completed)
                self._happened(Wrote(attempt))
        finally:
            await self._to_disk(self._keep(written))

    async def _to_disk(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await uninterrupted(work)
        except LocalModelsError as error:
            self._fail(error)  # the disk's own; on its way up it would be taken for the registry's
            raise

    async def _write(self, data: bytes, writes: list[Write], written: list[Span]) -> None:
        view = memoryview(data)
        for write in writes:
            size = write.end - write.begin
            await self._sink.write(write.offset, view[write.begin : write.end])
            written[:] = merged([*written, (write.offset, write.offset + size)])
        # Only a registry without ranges brings more than a part in one answer.
        if sum(stop - start for start, stop in written) >= self._pace.part:
            await self._keep(written)

    async def _keep(self, written: list[Span]) -> None:
        while written:
            await self._sink.keep(*written.pop())

    def _note(self, why: str) -> None:
        self._troubles += 1
        self._trouble = why
        self._say("moving", self._parts.completed)

    def _say(self, state: State, completed: int) -> None:
        self._tell(BlobProgress(self._blob, state, completed, self._troubles, self._trouble))


async def uninterrupted(work: Coroutine[Any, Any, None]) -> None:
    """Does it to its end; whoever is cancelled meanwhile, however often, is so afterwards."""
    task = asyncio.ensure_future(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            cancelled = True
    error = task.exception()
    if cancelled:
        raise asyncio.CancelledError
    if error is not None:
        raise error
