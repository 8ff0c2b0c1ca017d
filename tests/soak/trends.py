"""What a row of measurements comes to: its slope, its medians, and how much the last are above the first.

Pure: times and values in, figures out.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from statistics import median

FIFTHS = 5


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The Theil-Sen slope: the median of the slopes between every two points, in values a unit of time.

    A fifth of the points may be anywhere without changing it much (Sen, JASA 63, 1968), so what a sample caught in the
    middle of a burst does not count. 0 where there are not two times.
    """
    slopes = [
        (later - earlier) / (after - before)
        for (before, earlier), (after, later) in combinations(points, 2)
        if after != before
    ]
    return median(slopes) if slopes else 0.0


def fifth(values: Sequence[float], number: int) -> float:
    """The median of this fifth of them, counted from 0.

    Raises:
        ValueError: there are not five values.
    """
    if len(values) < FIFTHS:
        raise ValueError(f"{len(values)} values have no fifths")
    size = len(values) / FIFTHS
    return median(values[round(number * size) : round((number + 1) * size)])


def growth(values: Sequence[float]) -> float:
    """How much the median of the last fifth is above that of the second; the first is the warming up."""
    return fifth(values, FIFTHS - 1) - fifth(values, 1)


def thirds(values: Sequence[float]) -> tuple[Sequence[float], Sequence[float], Sequence[float]]:
    """The first, the middle and the last third of them."""
    one, two = round(len(values) / 3), round(2 * len(values) / 3)
    return values[:one], values[one:two], values[two:]
