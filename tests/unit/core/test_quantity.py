"""Durations and sizes, read and written back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmodels.core.errors import InvalidValue
from localmodels.core.quantity import parse_duration, parse_size, write_duration, write_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5m", 300),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("90", 90),
        ("0", 0),
        ("-1", -1),
        ("-5m", -300),
        ("+2s", 2),
        (".5s", 0.5),
        ("10ms", 0.01),
        ("2us", 2e-6),
        (" 3s ", 3),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "m", "5x", "1h30", "5 m", "nan", "inf", "1e3", "--1", "٣s", "1" * 30])
def test_no_durations(text: str) -> None:
    with pytest.raises(InvalidValue):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1000", 1000),
        ("8GiB", 8 << 30),
        ("8 gib", 8 << 30),
        ("1.5Ki", 1536),
        ("500MB", 500_000_000),
        ("1t", 10**12),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "-1", "1PiB", "1 apple", "1e9"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(InvalidValue):
        parse_size(text)


@given(st.integers(0, 10**9))
def test_whole_seconds_come_back(seconds: int) -> None:
    assert parse_duration(write_duration(seconds)) == seconds


@given(st.integers(0, 2**60) | st.integers(0, 2**20).map(lambda gib: gib << 30))
def test_bytes_come_back(size: int) -> None:
    assert parse_size(write_size(size)) == size
