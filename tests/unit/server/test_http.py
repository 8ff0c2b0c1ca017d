"""What the edge refuses is told in the dialect of its path, with what each of its clients looks for."""

from __future__ import annotations

import json
import logging
import resource

import pytest
from tests.awaited import awaited
from tests.unit.server.edge.scripted import World, hello

from localmodels.core.errors import LocalModelsError, RequestTimeout, TargetTooLong, Unavailable
from localmodels.flows.visit import Visit
from localmodels.server.edge.connection import Connection
from localmodels.server.http import make_room, refuse
from localmodels.server.wire import VISIT

LATE = RequestTimeout("the request's body came too slowly")


def body(answer: bytes) -> object:
    return json.loads(answer.partition(b"\r\n\r\n")[2])


@pytest.mark.parametrize(
    ("path", "keys"),
    [("", {"detail"}), ("/", {"detail"}), ("/api/chat", {"error"}), ("/v1/chat/completions", {"error"})],
)
def test_a_refusal_is_in_the_dialect_of_its_path(path: str, keys: set[str]) -> None:
    told = body(refuse(path, LATE, None))
    assert isinstance(told, dict)
    assert told.keys() == keys
    assert LATE.message in json.dumps(told)


@pytest.mark.parametrize("error", [LATE, TargetTooLong("too long"), Unavailable("not now", retry_after=0.2)])
def test_a_refusal_is_an_answer_of_its_own_and_ends_the_connection(error: LocalModelsError) -> None:
    head = refuse("/api/chat", error, {}).partition(b"\r\n\r\n")[0].split(b"\r\n")
    assert head[0].startswith(b"HTTP/1.1 %d " % error.status)
    assert b"connection: close" in head
    assert b"content-type: application/json" in head
    assert (b"retry-after: 1" in head) == (error.retry_after is not None)


def test_a_refusal_has_the_id_by_which_the_application_logs_the_request(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert b"x-request-id: mine\r\n" in refuse("/api/chat", LATE, {VISIT: Visit("mine")})
        assert not caplog.records  # the application tells of it
        assert b"x-request-id: req_" in refuse("/api/chat", LATE, None)
        assert "before it was read" in caplog.text


@awaited
async def test_an_endless_address_is_told_so_in_the_dialect_of_what_is_known_of_it() -> None:
    world = World(hello)
    client = world.client()
    client.connection = Connection(hello, world.among, refuse)
    client.connection.connection_made(client.transport)
    await client.send(b"POST /v1/" + b"a" * 10_000)
    assert client.heard.startswith(b"HTTP/1.1 414 ")
    told = body(client.heard)
    assert isinstance(told, dict)
    assert told["error"]["code"] == "target_too_long"


def test_room_is_made_for_as_many_files_as_connections_need() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 500), hard))
        make_room(10)
        most = hard if hard != resource.RLIM_INFINITY else 10**6
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (min(most, 20 + 1024), hard)
        make_room(0)  # it never takes any away
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == min(most, 20 + 1024)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
