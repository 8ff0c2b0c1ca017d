from __future__ import annotations

import asyncio
import threading
from contextlib import aclosing

import pytest
from tests.awaited import awaited

from localmodels.flows.concurrency.thread_progress import Done, Tell, watched


@awaited
async def test_it_tells_how_far_it_is_and_gives_what_was_made() -> None:
    seen = asyncio.Event()
    go_on = threading.Event()

    def work(tell: Tell) -> str:
        tell(1)
        assert go_on.wait(20)
        tell(2)
        return "made"

    steps = []
    async with aclosing(watched(work, interval=0)) as told:
        async for step in told:
            steps.append(step)
            seen.set()
            go_on.set()
    assert steps[0] == 1
    assert steps[-1] == Done("made")
    assert steps[:-1] == sorted(steps[:-1])  # type: ignore[type-var]


@awaited
async def test_what_goes_wrong_is_raised() -> None:
    def work(tell: Tell) -> None:
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        async for _ in watched(work):
            pass


@awaited
async def test_nobody_is_left_behind_when_the_listener_leaves() -> None:
    ended = threading.Event()
    first = threading.Event()

    def work(tell: Tell) -> None:
        try:
            done = 0
            while True:
                done += 1
                tell(done)
                first.set()
        finally:
            ended.set()

    async with aclosing(watched(work, interval=0)) as told:
        async for _ in told:
            break
    assert first.is_set()
    assert ended.is_set()


@awaited
async def test_who_is_cancelled_waits_for_the_thread_all_the_same() -> None:
    began, leave, ended = threading.Event(), threading.Event(), threading.Event()

    def work(tell: Tell) -> None:
        tell(1)
        began.set()
        assert leave.wait(20)
        ended.set()
        tell(2)

    async def listen() -> None:
        async for _ in watched(work):
            pass

    listener = asyncio.create_task(listen())
    await asyncio.to_thread(began.wait)
    listener.cancel()
    for _ in range(10):
        await asyncio.sleep(0)
    listener.cancel()  # again, by somebody who is impatient
    assert not listener.done()
    leave.set()
    await asyncio.wait([listener])
    assert listener.cancelled()
    assert ended.is_set()


@awaited
async def test_who_waits_without_telling_is_woken_and_waited_for() -> None:
    waiting, woken = threading.Event(), threading.Event()
    ended: list[bool] = []

    def work(tell: Tell) -> None:
        waiting.set()
        ended.append(woken.wait(20))

    async def listen() -> None:
        async with aclosing(watched(work, wake=woken.set)) as told:
            async for _ in told:
                pass

    listening = asyncio.create_task(listen())
    await asyncio.to_thread(waiting.wait)
    listening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await listening
    assert ended == [True]


@awaited
async def test_who_has_ended_is_not_woken() -> None:
    woken: list[bool] = []
    async with aclosing(watched(lambda tell: "made", wake=lambda: woken.append(True))) as told:
        assert [step async for step in told][-1] == Done("made")
    assert not woken
