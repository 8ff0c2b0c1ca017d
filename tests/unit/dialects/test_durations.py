"""How long a model stays loaded."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from tests.unit.dialects import strategies as some

from localmodels.core.errors import InvalidValue
from localmodels.dialects.durations import read_keep_alive, write_keep_alive


@pytest.mark.parametrize(
    ("sent", "seconds"),
    [
        (None, None),
        ("", None),
        (0, 0.0),
        (300, 300.0),
        (0.5, 0.5),
        (-1, -1.0),
        ("0", 0.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("1.5h", 5400.0),
        ("-1", -1.0),
        ("-1m", -60.0),
        ("250ms", 0.25),
        ("90", 90.0),
    ],
)
def test_numbers_are_seconds_and_texts_are_durations(sent: float | str | None, seconds: float | None) -> None:
    assert read_keep_alive(sent) == seconds


@pytest.mark.parametrize("sent", ["soon", "5 minutes", "1d", "m", "--1", "1e9", 1e12, float("inf"), float("nan")])
def test_what_is_no_duration_is_named(sent: float | str) -> None:
    with pytest.raises(InvalidValue) as caught:
        read_keep_alive(sent)
    assert caught.value.param == "keep_alive"


@given(some.keep_alives)
def test_what_is_written_is_read_back(seconds: float | None) -> None:
    sent = msgspec.json.decode(msgspec.json.encode(write_keep_alive(seconds)), type=float | None)
    assert read_keep_alive(sent) == seconds
