"""Property tests draw the same examples every time, on machines of any speed; one database serves all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from tests.postgres import Postgres, running

settings.register_profile(
    "localmodels", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=False
)
settings.load_profile("localmodels")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL that runs until the last test is over."""
    with running() as server:
        yield server
