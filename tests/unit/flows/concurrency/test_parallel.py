"""Works side by side: each fails alone, no more than so many at once, and nobody is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial

import pytest
from tests.awaited import awaited

from localmodels.core.errors import Cancelled, Unreachable
from localmodels.core.library import Progress
from localmodels.flows.concurrency.parallel import BACKLOG, Abreast

Steps = AsyncGenerator[Progress, None]


class Works:
    """Some that say so many steps each, and wait in the middle; knows who is at work, and who ended how."""

    def __init__(self, steps: int = 2, places: int = 1) -> None:
        self.steps, self.places = steps, places
        self.busy = self.most = self.said = 0
        self.go, self.full = asyncio.Event(), asyncio.Event()
        self.ended: list[str] = []

    async def one(self, name: str, failure: Exception | None = None) -> Steps:
        self.busy += 1
        self.most = max(self.most, self.busy)
        try:
            for step in range(self.steps):
                self.said += 1
                yield Progress(f"{name} {step}")
            if self.said == self.steps * self.places:
                self.full.set()
            await self.go.wait()
            if failure:
                raise failure
        finally:
            self.busy -= 1
            self.ended.append(name)


async def heard(works: Abreast) -> list[tuple[str, object]]:
    async with aclosing(works.told()) as news:
        return [item async for item in news]


@awaited
async def test_who_fails_fails_alone() -> None:
    works, failure = Works(1), Unreachable("gone")
    works.go.set()
    told = await heard(Abreast({"a": lambda: works.one("a", failure), "b": lambda: works.one("b")}))
    assert sorted(told, key=str) == [
        ("a", Progress("a 0")), ("a", failure), ("b", None), ("b", Progress("b 0")),
    ]  # fmt: skip


@awaited
async def test_no_more_than_so_many_work_at_once_and_all_do() -> None:
    works = Works(places=3)
    names = [f"w{number}" for number in range(9)]
    listening = asyncio.ensure_future(heard(Abreast({name: partial(works.one, name) for name in names}, most=3)))
    await works.full.wait()
    assert works.busy == 3
    works.go.set()
    told = await listening
    assert works.most == 3
    assert sorted(name for name, said in told if said is None) == names


@awaited
async def test_whoever_leaves_ends_them_all_and_waits_until_they_have() -> None:
    works = Works()
    async with aclosing(Abreast({"a": lambda: works.one("a"), "b": lambda: works.one("b")}).told()) as news:
        await anext(news)
    assert sorted(works.ended) == ["a", "b"]
    assert works.busy == 0


@awaited
async def test_a_listener_that_is_cancelled_leaves_nobody() -> None:
    works = Works()
    listening = asyncio.ensure_future(heard(Abreast({"a": lambda: works.one("a")})))
    await works.full.wait()
    listening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await listening
    assert works.ended == ["a"]


@awaited
async def test_who_is_past_stopping_comes_to_his_end_though_nobody_listens() -> None:
    stopped, ended = asyncio.Event(), []

    async def stubborn() -> Steps:
        yield Progress("begun")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            stopped.set()
        for step in range(3 * BACKLOG):
            yield Progress(str(step))
        ended.append(True)

    async with aclosing(Abreast({"a": stubborn}).told()) as news:
        await anext(news)
    assert stopped.is_set()
    assert ended == [True]


@awaited
async def test_a_listener_that_is_slow_is_waited_for() -> None:
    works = Works(10 * BACKLOG)
    works.go.set()
    async with aclosing(Abreast({"a": lambda: works.one("a")}).told()) as news:
        await anext(news)
        for _ in range(3 * BACKLOG):
            await asyncio.sleep(0)
        assert works.said <= BACKLOG + 2
        assert len([said async for _, said in news if said]) == 10 * BACKLOG - 1


@awaited
async def test_a_defect_is_raised_and_ends_the_others() -> None:
    works = Works()

    async def broken() -> Steps:
        yield Progress("", total=1 // len(works.ended))

    with pytest.raises(ZeroDivisionError):
        await heard(Abreast({"a": lambda: works.one("a"), "b": broken}))
    assert works.busy == 0


@awaited
async def test_a_work_that_somebody_else_stops_has_failed_and_nobody_waits_for_it() -> None:
    works = Works(1)
    works.go.set()

    async def waits_for_what_is_stopped() -> Steps:
        yield Progress("begun")
        under = asyncio.ensure_future(asyncio.Event().wait())
        asyncio.get_running_loop().call_soon(under.cancel)
        await under

    told = await heard(Abreast({"a": waits_for_what_is_stopped, "b": lambda: works.one("b")}))
    ends = {name: said for name, said in told if not isinstance(said, Progress)}
    assert isinstance(ends["a"], Cancelled)
    assert ends["b"] is None
