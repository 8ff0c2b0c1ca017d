from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from tests.awaited import awaited

from localmodels.core.catalog import Blob, Digest
from localmodels.registry.download import uninterrupted
from localmodels.registry.progress import BlobProgress, Board, together

BLOB = Blob(Digest("0" * 64), 10)
OTHER = Blob(Digest("1" * 64), 10)


@awaited
async def test_a_slow_watcher_misses_steps_and_sees_the_last() -> None:
    board = Board()

    async def work() -> None:
        for completed in range(11):
            board.tell(BlobProgress(BLOB, "moving", completed))
        board.tell(BlobProgress(OTHER, "done", 10))

    seen = [step async for step in board.watch(work(), 0.0)]
    assert seen == [BlobProgress(BLOB, "moving", 10), BlobProgress(OTHER, "done", 10)]


@awaited
async def test_each_step_is_seen_by_who_keeps_up() -> None:
    board = Board()
    seen = asyncio.Semaphore(0)

    async def work() -> None:
        for completed in range(3):
            board.tell(BlobProgress(BLOB, "moving", completed))
            await seen.acquire()

    steps = []
    async for step in board.watch(work(), 0.0):
        steps.append(step.completed)
        seen.release()
    assert steps == [0, 1, 2]


@awaited
async def test_what_the_work_raises_comes_after_what_it_told() -> None:
    board = Board()
    steps: list[BlobProgress] = []

    async def work() -> None:
        board.tell(BlobProgress(BLOB))
        raise OSError("full")

    async def watch() -> None:
        async for step in board.watch(work(), 0.0):
            steps.append(step)  # noqa: PERF401 - what came before the error counts

    with pytest.raises(OSError, match="full"):
        await watch()
    assert steps == [BlobProgress(BLOB)]


@awaited
async def test_work_that_nobody_watches_any_more_is_stopped_and_waited_for() -> None:
    board = Board()
    ended = asyncio.Event()

    async def work() -> None:
        board.tell(BlobProgress(BLOB))
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.set()

    async with aclosing(board.watch(work(), 0.0)) as steps:
        assert await anext(steps) == BlobProgress(BLOB)
    assert ended.is_set()


@awaited
async def test_the_first_error_of_several_works_stops_the_others() -> None:
    stopped = asyncio.Event()

    async def fails() -> None:
        raise OSError("full")

    async def lasts() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    with pytest.raises(OSError, match="full"):
        await together([lasts(), fails()])
    assert stopped.is_set()


@awaited
async def test_what_is_uninterrupted_is_done_before_a_cancellation_counts() -> None:
    gate, done = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        await gate.wait()
        done.set()

    task = asyncio.create_task(uninterrupted(work()))
    for _ in range(3):
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    gate.set()
    await asyncio.wait([task])
    assert task.cancelled()
    assert done.is_set()
