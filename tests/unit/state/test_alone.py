"""Who is alone looks at the generation, also after it could not be read."""

from __future__ import annotations

import asyncio

from tests.awaited import awaited

from localmodels.core.errors import StoreFailed
from localmodels.state.alone import LOOK_EVERY, Alone


class Store:
    """Tells what it is handed, look by look."""

    def __init__(self, *told: int | None) -> None:
        self._told = list(told)
        self.slept: list[float] = []

    async def generation(self) -> int:
        told = self._told.pop(0)
        if told is None:
            raise StoreFailed("no")
        return told

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if not self._told:
            raise asyncio.CancelledError


async def looks_until_changes(*told: int | None) -> list[int]:
    """After how many looks there was an item."""
    store = Store(*told)
    found = []
    try:
        async for _ in Alone(store.generation, sleep=store.sleep).changes():
            found.append(len(store.slept))  # noqa: PERF401 - it ends by an error
    except asyncio.CancelledError:
        assert set(store.slept) == {LOOK_EVERY}
    return found


@awaited
async def test_the_first_comes_at_once_and_others_when_it_is_another() -> None:
    assert await looks_until_changes(0, 0, 1, 1, 1, 5, 5) == [0, 2, 5]
    assert await looks_until_changes(7, 3) == [0, 1]  # also of a home that was put back to what it was


@awaited
async def test_as_long_as_nobody_has_written_nobody_reads() -> None:
    traces: list[object] = ["a", "a", "a", "b", None, None, "c", "c", "c", "d"]
    store = Store(1, 2, 3, 4, None, 5, 6)
    found = []
    try:
        async for _ in Alone(store.generation, sleep=store.sleep, trace=lambda: traces[len(store.slept)]).changes():
            found.append(len(store.slept))  # noqa: PERF401 - it ends by an error
    except asyncio.CancelledError:
        assert len(traces) == len(store.slept)
    assert found == [0, 3, 4, 5, 7, 9], "the sixth look failed, so the next one is made whatever is there"


@awaited
async def test_what_cannot_be_read_is_looked_at_again() -> None:
    assert await looks_until_changes(None, 4, None, 4, None, 5) == [1, 5]
