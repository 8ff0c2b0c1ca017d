from __future__ import annotations

from datetime import datetime

import pytest

from localmodels.core.moment import rfc3339


@pytest.mark.parametrize("nanoseconds", [0, 1, 999_999_999, 1_750_000_000_000_000_000, 2**62])
def test_times_are_read_back_and_sort_as_text(nanoseconds: int) -> None:
    text = rfc3339(nanoseconds)
    assert int(datetime.fromisoformat(text).timestamp()) == nanoseconds // 10**9
    assert len(text) == len(rfc3339(0))
    assert rfc3339(nanoseconds) < rfc3339(nanoseconds + 1)
