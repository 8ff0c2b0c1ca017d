"""What needs no connection of the HTTP client."""

import pytest

from localmodels.backends.http import retry_after


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7.0), ("0", 0.0), ("", None), ("-1", None), ("1.5", None), ("Sat, 21 Nov 2026", None), ("9" * 7, None)],
)  # fmt: skip
def test_retry_after_in_seconds_and_nothing_else(value: str, seconds: float | None) -> None:
    assert retry_after({"Retry-After": value}) == seconds


def test_no_retry_after() -> None:
    assert retry_after({}) is None
