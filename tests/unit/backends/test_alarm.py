"""Deadlines that are moved on, taken back and kept, by a clock of our own."""

from __future__ import annotations

import asyncio

from tests.virtual import clock, virtually

from localmodels.backends.alarm import NEVER, Alarm


class Rings:
    """Notes when an alarm rang."""

    def __init__(self) -> None:
        self.alarm = Alarm()
        self.at: list[float] = []

    def set(self, seconds: float) -> None:
        self.alarm.set(self.alarm.now() + seconds, lambda: self.at.append(clock()))


@virtually
async def test_it_rings_when_it_is_due() -> None:
    rings, begun = Rings(), clock()
    rings.set(60.0)
    await asyncio.sleep(600.0)
    assert [at - begun for at in rings.at] == [60.0]


@virtually
async def test_moved_on_it_rings_once_and_later() -> None:
    rings, begun = Rings(), clock()
    for _ in range(100):
        rings.set(60.0)
        await asyncio.sleep(10.0)
    await asyncio.sleep(600.0)
    assert [at - begun for at in rings.at] == [990.0 + 60.0]


@virtually
async def test_moved_back_it_rings_sooner() -> None:
    rings, begun = Rings(), clock()
    rings.set(60.0)
    await asyncio.sleep(1.0)
    rings.set(5.0)
    await asyncio.sleep(600.0)
    assert [at - begun for at in rings.at] == [6.0]


@virtually
async def test_cleared_it_does_not_ring_and_can_be_set_again() -> None:
    rings, begun = Rings(), clock()
    rings.set(60.0)
    rings.alarm.clear()
    assert rings.alarm.due == NEVER
    await asyncio.sleep(600.0)
    assert not rings.at
    rings.set(1.0)
    await asyncio.sleep(600.0)
    assert [at - begun for at in rings.at] == [601.0]


@virtually
async def test_ended_it_does_not_ring_and_can_be_set_again() -> None:
    rings, begun = Rings(), clock()
    rings.set(60.0)
    rings.alarm.end()
    await asyncio.sleep(600.0)
    assert not rings.at
    rings.set(60.0)
    await asyncio.sleep(600.0)
    assert [at - begun for at in rings.at] == [660.0]


@virtually
async def test_answers_that_come_in_time_take_one_timer_a_minute() -> None:
    """What it is for: a timer for each answer was the dearest part of a short one."""
    rings, made = Rings(), [0]

    class Counting(Alarm):
        __slots__ = ()

        def _wait(self, due: float) -> None:
            made[0] += 1
            super()._wait(due)

    rings.alarm = Counting()
    for _ in range(1200):
        rings.set(60.0)
        await asyncio.sleep(0.1)
        rings.alarm.clear()
    assert made[0] <= 3
