"""Places at a server: bounded, fair, and never lost."""

from __future__ import annotations

import asyncio

import pytest
from tests.awaited import awaited

from localmodels.backends.places import Places
from localmodels.core.errors import QueueFull


class Visitors:
    """Visitors who stay until they are told to go."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self.inside: list[str] = []
        self._gates: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def come(self, name: str, caller: str = "") -> asyncio.Task[None]:
        gate = self._gates[name] = asyncio.Event()

        async def visit() -> None:
            async with self.places.take(caller or name):
                self.inside.append(name)
                await gate.wait()

        task = self._tasks[name] = asyncio.ensure_future(visit())
        await turns()
        return task

    async def go(self, name: str) -> None:
        self._gates[name].set()
        await asyncio.wait([self._tasks[name]])
        await turns()

    async def leave(self, name: str) -> None:
        self._tasks[name].cancel()
        await asyncio.wait([self._tasks[name]])
        await turns()


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@awaited
async def test_without_a_limit_nobody_waits() -> None:
    visitors = Visitors(Places("far"))
    for number in range(100):
        await visitors.come(str(number))
    assert visitors.places.busy == len(visitors.inside) == 100
    for number in range(100):
        await visitors.go(str(number))
    assert visitors.places.busy == 0


@awaited
async def test_first_come_first_served_among_equals() -> None:
    visitors = Visitors(Places("far", 1, 10))
    for name in "abc":
        await visitors.come(name)
    assert (visitors.inside, visitors.places.waiting) == (["a"], 2)
    await visitors.go("a")
    await visitors.go("b")
    assert visitors.inside == ["a", "b", "c"]
    await visitors.go("c")
    assert (visitors.places.busy, visitors.places.waiting) == (0, 0)


@awaited
async def test_a_flood_of_one_does_not_hold_up_another() -> None:
    visitors = Visitors(Places("far", 1, 10))
    for number in range(5):
        await visitors.come(f"flood{number}", "flood")
    await visitors.come("guest", "guest")
    await visitors.go("flood0")
    assert visitors.inside[1] == "guest"


@awaited
async def test_a_full_line_refuses_and_says_when_to_come_back() -> None:
    visitors = Visitors(Places("far", 1, 1))
    await visitors.come("a", "x")
    await visitors.come("b", "x")
    refused = await visitors.come("c", "x")
    with pytest.raises(QueueFull, match="'far' is busy") as caught:
        await refused
    assert caught.value.retry_after
    assert (visitors.places.busy, visitors.places.waiting) == (1, 1)


@awaited
async def test_in_a_full_line_who_has_most_makes_room_for_who_has_none() -> None:
    visitors = Visitors(Places("far", 1, 2))
    await visitors.come("a", "flood")
    await visitors.come("b", "flood")
    newest = await visitors.come("c", "flood")
    await visitors.come("d", "guest")
    with pytest.raises(QueueFull):
        await newest
    assert visitors.places.waiting == 2


@awaited
async def test_who_leaves_the_line_takes_no_place_with_him() -> None:
    visitors = Visitors(Places("far", 1, 10))
    for name in "abc":
        await visitors.come(name)
    await visitors.leave("b")
    await visitors.go("a")
    assert visitors.inside == ["a", "c"]
    await visitors.go("c")
    assert visitors.places.busy == 0


@awaited
async def test_who_is_cancelled_in_the_moment_his_turn_comes_gives_it_on() -> None:
    visitors = Visitors(Places("far", 1, 10))
    await visitors.come("a")
    late = await visitors.come("b")
    await visitors.come("c")
    visitors._gates["a"].set()
    await asyncio.sleep(0)  # a leaves and the place is given to b, who has not run yet
    late.cancel()
    await turns()
    assert late.cancelled()
    assert visitors.inside == ["a", "c"]
    await visitors.go("c")
    assert visitors.places.busy == 0


@awaited
async def test_nobody_waits_longer_than_his_patience() -> None:
    visitors = Visitors(Places("far", 1, 10, patience=0.01))
    await visitors.come("a")
    late = await visitors.come("b")
    with pytest.raises(QueueFull, match=r"0\.01 s"):
        await late
    await visitors.go("a")
    assert (visitors.places.busy, visitors.places.waiting) == (0, 0)


class Clock:
    """A time that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def served(visitors: Visitors, clock: Clock, seconds: float) -> None:
    """Somebody has a place for so long."""
    await visitors.come("first")
    clock.now += seconds
    await visitors.go("first")


@awaited
async def test_who_would_wait_longer_than_was_promised_is_refused_at_once() -> None:
    clock = Clock()
    visitors = Visitors(Places("far", 2, 10, max_wait=5.0, clock=clock))
    await served(visitors, clock, 4.0)
    for name in ("a", "b", "c", "d"):  # c waits for about 2 s, d for 4
        await visitors.come(name, "flood")
    refused = await visitors.come("e", "flood")
    with pytest.raises(QueueFull, match=r"about 6\.0 s, and the longest that is promised is 5 s") as caught:
        await refused
    assert caught.value.retry_after == 1.0
    assert (visitors.places.busy, visitors.places.waiting) == (2, 2)


@awaited
async def test_it_is_who_asks_that_counts_and_not_how_many_wait() -> None:
    clock = Clock()
    visitors = Visitors(Places("far", 1, 10, max_wait=9.0, clock=clock))
    await served(visitors, clock, 4.0)
    for name in ("a", "b", "c"):
        await visitors.come(name, "flood")
    assert (await visitors.come("d", "flood")).done()
    assert not (await visitors.come("e", "guest")).done(), "his turn comes before the others of the flood"


@awaited
async def test_before_the_first_has_ended_well_nobody_knows_how_long_it_takes() -> None:
    clock = Clock()
    visitors = Visitors(Places("far", 1, 10, max_wait=1.0, clock=clock))
    gone = await visitors.come("gone")
    clock.now += 100.0
    await visitors.leave("gone")
    assert gone.cancelled()
    assert visitors.places.service is None
    await visitors.come("a")
    assert not (await visitors.come("b")).done()


@awaited
async def test_who_is_refused_hears_when_those_who_wait_have_been_served() -> None:
    clock = Clock()
    visitors = Visitors(Places("far", 2, 2, clock=clock))
    await served(visitors, clock, 10.0)
    for name in ("a", "b", "c", "d"):
        await visitors.come(name, "x")
    with pytest.raises(QueueFull) as caught:
        await (await visitors.come("e", "x"))
    assert caught.value.retry_after == 15.0, "three times ten seconds, two at a time"
