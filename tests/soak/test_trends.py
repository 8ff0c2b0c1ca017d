"""What a row of measurements comes to."""

from __future__ import annotations

import random

import pytest
from tests.soak.trends import fifth, growth, slope, thirds


def test_the_slope_of_a_line_is_its_own_whatever_a_few_points_say() -> None:
    line = [(float(at), 7.0 + 0.25 * at) for at in range(60)]
    assert slope(line) == pytest.approx(0.25)
    spikes = [(at, value + 1e6 if at % 6 == 3 else value) for at, value in line]
    assert slope(spikes) == pytest.approx(0.25, abs=0.01)


def test_noise_has_no_slope_and_what_leaks_beneath_it_has() -> None:
    draw = random.Random(1)
    noise = [(float(at), draw.gauss(0.0, 50.0)) for at in range(400)]
    assert abs(slope(noise)) < 0.05
    assert slope([(at, value + 0.3 * at) for at, value in noise]) == pytest.approx(0.3, abs=0.05)


def test_a_step_within_a_flat_row_is_less_than_a_rise() -> None:
    assert slope([(float(at), 0.0 if at < 10 else 5.0) for at in range(100)]) == 0.0


@pytest.mark.parametrize("points", [[], [(1.0, 2.0)], [(1.0, 2.0), (1.0, 3.0)]])
def test_without_two_times_there_is_no_slope(points: list[tuple[float, float]]) -> None:
    assert slope(points) == 0.0


def test_growth_is_the_last_fifth_above_the_second() -> None:
    assert growth([0, 0, 1, 1, 9, 9, 9, 9, 4, 4]) == 3
    assert growth(list(range(100))) == 60
    assert fifth([5, 6, 7, 8, 9], 2) == 7
    with pytest.raises(ValueError, match="4 values"):
        fifth([1, 2, 3, 4], 0)


def test_thirds_are_all_of_it_in_order() -> None:
    assert thirds([1, 2, 3, 4, 5, 6, 7]) == ([1, 2], [3, 4, 5], [6, 7])
