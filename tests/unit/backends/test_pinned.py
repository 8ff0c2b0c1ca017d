"""How our own client reaches another server, and what it says where nobody is."""

from __future__ import annotations

import traceback
from collections.abc import Sequence

import httpx2
import pytest
from tests.awaited import awaited

from localmodels.backends.pinned import Pinned
from localmodels.client import AsyncClient
from localmodels.core.errors import Unreachable

KEY = "sk-canary-0123456789"


async def two_addresses(host: str, port: int) -> Sequence[str]:
    return ["10.39.0.101", "10.39.0.102"]


@pytest.mark.parametrize("failure", [httpx2.ConnectError("refused"), httpx2.ConnectTimeout("silent")])
@awaited
async def test_where_nobody_takes_a_connection_it_says_what_all_ways_say(failure: Exception) -> None:
    asked: list[str] = []

    def refuse(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.url.host)
        raise failure

    way = Pinned(httpx2.MockTransport(refuse), "private", two_addresses)
    async with AsyncClient("http://box.example:8000", api_key=KEY, transport=way, environ={}) as client:
        with pytest.raises(Unreachable) as caught:
            await client.list()
    assert caught.value.message == "the server cannot be reached"
    assert asked == ["10.39.0.101", "10.39.0.102"], "every address was tried"
    assert KEY not in "".join(traceback.format_exception(caught.value))
