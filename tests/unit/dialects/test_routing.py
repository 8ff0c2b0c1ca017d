"""A route as JSON: what is written is read back, and nothing else is."""

from __future__ import annotations

import pytest

from localmodels.core.errors import Garbled
from localmodels.dialects.routing import ShownLeftOut, ShownRoute, ShownTarget, read_route, write_route

TARGET = ShownTarget("box", "id-box", "m:1", "auto; warm, 1 of 4 busy", "up", True, 1, 4)
ROUTE = ShownRoute("m:1", "auto", (TARGET,), (ShownLeftOut("other", "is down: no naïve answer"),))


def test_what_is_written_is_read_back() -> None:
    assert read_route(write_route(ROUTE)) == ROUTE


@pytest.mark.parametrize("body", [b"", b"[]", b'{"model":1}', write_route(ROUTE)[:-1], b"\xff"])
def test_what_is_no_route(body: bytes) -> None:
    with pytest.raises(Garbled, match="no route"):
        read_route(body)
