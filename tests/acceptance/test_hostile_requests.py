"""Some hundred hostile requests: every answer is one that is documented, and nothing else of the server suffers (F6).

The long form, ten thousand without keys and ten thousand with, is ``make hostile``.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.hostile.siege import besieged

REQUESTS = 600


@pytest.mark.parametrize("keyed", [False, True], ids=["keyless", "keyed"])
def test_a_siege_leaves_the_server_as_it_was(tmp_path: Path, keyed: bool) -> None:
    siege = besieged(tmp_path, requests=REQUESTS, seed=1, keyed=keyed)
    assert siege.broken(by_the_clock=False) == []
    assert siege.tally.requests == REQUESTS
    assert siege.seen.probes > 10
    statuses = {status for _, status in siege.tally.statuses}
    assert {200, 400, 403, 404, 405, 421, 422} <= statuses
    assert keyed == (401 in statuses)
