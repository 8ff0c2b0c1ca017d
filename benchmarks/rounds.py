"""Sides that are measured in turns, so that whatever else the machine does hits all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import perf_counter

Sides = Mapping[str, Callable[[], object]]


def nothing() -> None:
    """There is nothing to clear away."""


def interleaved(sides: Sides, rounds: int, *, clear: Callable[[], None] = nothing) -> dict[str, list[float]]:
    """Seconds of each side in each round, after which ``clear`` is called; one round before them is not counted."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name in sides if number % 2 else reversed(list(sides)):
            start = perf_counter()
            sides[name]()
            if number:
                times[name].append(perf_counter() - start)
        clear()
    return times
