from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from localmodels.core.spans import gaps, merged

RANGES = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)))


@given(RANGES)
def test_merged_ranges_are_the_same_bytes(ranges: list[tuple[int, int]]) -> None:
    found = merged(ranges)
    assert {at for start, end in found for at in range(start, end)} == {
        at for start, end in ranges for at in range(start, end)
    }
    assert all(end < start for (_, end), (start, _) in pairwise(found))


@given(RANGES, st.integers(0, 50))
def test_gaps_are_what_is_left(ranges: list[tuple[int, int]], size: int) -> None:
    found = gaps(ranges, size)
    assert {at for start, end in found for at in range(start, end)} == set(range(size)) - {
        at for start, end in ranges for at in range(start, end)
    }
    assert all(start < end for start, end in found)
    assert list(found) == sorted(found)
