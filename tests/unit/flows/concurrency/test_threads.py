"""Work in threads is done to its end, and what it opened is closed when nobody takes it."""

from __future__ import annotations

import asyncio
import threading

import pytest
from tests.awaited import awaited

from localmodels.flows.concurrency.threads import finished, in_thread, opened


class Work:
    """Begins, and goes on when it may."""

    def __init__(self) -> None:
        self.begun, self.may_end = threading.Event(), threading.Event()
        self.log: list[str] = []

    def __call__(self) -> str:
        self.begun.set()
        self.may_end.wait()
        self.log.append("done")
        return "it"

    def fail(self) -> str:
        self()
        raise OSError("no")

    def close(self, what: str) -> None:
        self.log.append(f"closed {what}")


async def cancelled_in_the_middle(task: asyncio.Task[str], work: Work) -> None:
    await asyncio.to_thread(work.begun.wait)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    work.may_end.set()
    await asyncio.wait([task])
    assert task.cancelled()


@awaited
async def test_what_the_work_gives_and_raises() -> None:
    work = Work()
    work.may_end.set()
    assert await in_thread(work) == await opened(work, work.close) == "it"
    for failing in (in_thread(work.fail), opened(work.fail, work.close)):
        with pytest.raises(OSError, match="no"):
            await failing
    assert work.log == ["done"] * 4


@awaited
async def test_who_is_cancelled_leaves_when_the_work_has_ended() -> None:
    work = Work()
    await cancelled_in_the_middle(asyncio.create_task(in_thread(work)), work)
    assert work.log == ["done"]


@awaited
async def test_what_cannot_be_taken_back_is_heard_out() -> None:
    for what, told in ((work := Work(), "it"), (work.fail, "no")):
        work.begun.clear()
        work.may_end.clear()
        task = asyncio.create_task(finished(what))
        await asyncio.to_thread(work.begun.wait)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
        work.may_end.set()
        [given] = await asyncio.gather(task, return_exceptions=True)
        assert str(given) == told


@awaited
async def test_what_nobody_takes_is_closed() -> None:
    work = Work()
    await cancelled_in_the_middle(asyncio.create_task(opened(work, work.close)), work)
    assert work.log == ["done", "closed it"]


@awaited
async def test_what_was_not_opened_is_not_closed() -> None:
    work = Work()
    await cancelled_in_the_middle(asyncio.create_task(opened(work.fail, work.close)), work)
    assert work.log == ["done"]


def test_the_end_of_a_loop_waits_for_threads_too() -> None:
    """Whatever a loop cancels at its end, nothing is closed while the thread works."""
    work = Work()

    async def closed_afterwards() -> None:
        try:
            await in_thread(work)
        finally:
            work.log.append("closed under it" if not work.log else "closed after it")

    async def main() -> None:
        tasks.append(asyncio.create_task(closed_afterwards()))
        await asyncio.to_thread(work.begun.wait)
        asyncio.get_running_loop().call_later(0.01, work.may_end.set)  # the loop cancels what is left before that

    tasks: list[asyncio.Task[None]] = []
    asyncio.run(main())
    assert work.log == ["done", "closed after it"]
