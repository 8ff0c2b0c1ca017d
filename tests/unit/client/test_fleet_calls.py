"""Servers and models of a fleet in both clients, against the dialect's other role."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from msgspec.structs import replace
from tests.unit.client.fake_fleet import BOX, CODER, DEAD, HERE, LOCAL, LOST, OFF, ROUTE, THERE, availability
from tests.unit.client.fake_server import FakeServer

from localmodels.client import AsyncClient, Client, Freed, ModelChange, ServerChange, Unloaded
from localmodels.core.errors import (
    BackendError,
    Conflict,
    Garbled,
    InvalidRequest,
    InvalidValue,
    ModelNotFound,
    NotFound,
)
from localmodels.core.roster import Wish
from localmodels.core.secrets import Secret
from localmodels.dialects.servers import shown, shown_model


def client_of(server: FakeServer) -> Client:
    return Client("127.0.0.1:8000", transport=server.transport, environ={})


def together(call: Callable[[AsyncClient], Awaitable[Any]], server: FakeServer) -> Any:
    async def run() -> Any:
        async with AsyncClient("127.0.0.1:8000", transport=server.transport, environ={}) as client:
            return await call(client)

    return asyncio.run(run())


ALL = tuple(map(shown, (LOCAL, BOX, DEAD, OFF)))
CALLS: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "servers": (lambda client: client.servers(), ALL),
    "active servers": (lambda client: client.servers(active_only=True), ALL[:3]),
    "live_servers": (lambda client: client.live_servers(), ALL[:3]),
    "server by name": (lambda client: client.server("Big Box"), shown(BOX)),
    "server by its models' prefix": (lambda client: client.server("big-box"), shown(BOX)),
    "server by name in capitals": (lambda client: client.server("DEAD"), shown(DEAD)),
    "server by id": (lambda client: client.server("2c"), shown(DEAD)),
    "look_at": (lambda client: client.look_at("http://10.0.0.5:11434"), shown(BOX)),
    "discover": (
        lambda client: _called(client.discover("1b"), lambda seen: (seen.models_found, seen.message)),
        (2, "Big Box has 2 models: 1 new, 0 changed, 0 gone"),
    ),
    "server_models": (lambda client: client.server_models("1b"), tuple(map(shown_model, (THERE, CODER)))),
    "model": (lambda client: client.model("m1"), shown_model(HERE)),
    "check_model": (lambda client: client.check_model("m4"), availability(LOST, DEAD)),
    "unload_model": (lambda client: client.unload_model("m2"), Unloaded("unloaded", "m:latest", BOX.row.url)),
    "unload_from_gpu": (lambda client: client.unload_from_gpu("m2"), Freed("unloaded", 4_000_000_000)),
    "moved to the processor": (
        lambda client: client.unload_from_gpu("m1", keep_on_cpu=True),
        Freed("moved", 4_000_000_000),
    ),
    "route": (lambda client: client.route("m", capability="code", session="s 1"), ROUTE),
    "remove_server": (lambda client: client.remove_server("2c"), shown(DEAD)),
}


def _called(answer: Any, look: Callable[[Any], Any]) -> Any:
    """What is looked at of an answer, in whichever form it comes."""
    if not isinstance(answer, Awaitable):
        return look(answer)

    async def awaited() -> Any:
        return look(await answer)

    return awaited()


@pytest.mark.parametrize(("call", "expected"), CALLS.values(), ids=CALLS)
def test_answers_are_values_in_both_forms(call: Callable[[Any], Any], expected: object) -> None:
    with client_of(FakeServer()) as client:
        assert call(client) == expected
    assert together(call, FakeServer()) == expected


def test_what_is_said_of_a_server_arrives_and_nothing_else() -> None:
    server = FakeServer()
    said = ServerChange(kind="openai", max_concurrent=8, weight=2.0, capabilities=("code",), first_byte=30.0)
    with client_of(server) as client:
        made = client.add_server("gpu", "http://10.0.0.9:8000", said, key="sk-1")
        assert (made.id, made.name, made.max_concurrent) == ("9f", "gpu", 8)
        client.change_server("9f", ServerChange(is_active=False))
        client.change_server("9f", key="")
    first, second, third = server.fleet.wanted
    assert isinstance(first, Wish)
    assert (first.said.name, first.said.url, first.said.first_byte) == ("gpu", "http://10.0.0.9:8000", 30.0)
    assert first.key == Secret("sk-1")
    assert second == ("9f", Wish(said=ServerChange(is_active=False)))
    assert third == ("9f", Wish(key=Secret("")))


def test_what_is_said_of_a_model_arrives() -> None:
    server = FakeServer()
    change = ModelChange(name="Fast", capabilities=("code", "chat"), priority=7, is_active=False)

    async def changed(client: AsyncClient) -> str:
        return (await client.change_model("m3", change)).name

    with client_of(server) as client:
        assert client.change_model("m3", ModelChange(priority=-1)).priority == -1
    assert together(changed, server) == "Fast"
    assert server.fleet.wanted == [("m3", ModelChange(priority=-1)), ("m3", change)]


@pytest.mark.parametrize(
    ("call", "kind", "said"),
    [
        (lambda client: client.server("x"), NotFound, "there are: local, Big Box, dead, off"),
        (lambda client: client.add_server("dead", "http://a"), Conflict, "already"),
        (lambda client: client.add_server("a", "http://a", ServerChange(weight=-1.0)), InvalidValue, "weight must be"),
        (lambda client: client.change_server("3d", ServerChange(priority=1)), Conflict, "configuration's file"),
        (lambda client: client.remove_server("0a"), Conflict, "cannot be taken away"),
        (lambda client: client.discover("2c"), BackendError, "refused"),
        (lambda client: client.server_models("x?y"), NotFound, "no server"),
        (lambda client: client.model("zz"), NotFound, "no model"),
        (lambda client: client.route("nobody"), ModelNotFound, "nobody"),
    ],
)
def test_what_the_server_refuses_is_its_error(call: Callable[[Any], Any], kind: type[Exception], said: str) -> None:
    with client_of(FakeServer()) as client, pytest.raises(kind, match=said):
        call(client)
    with pytest.raises(kind, match=said):
        together(call, FakeServer())


def test_a_key_is_shown_in_no_request_but_its_own() -> None:
    server = FakeServer(fails_with=InvalidRequest("no", param="url"))
    with client_of(server) as client, pytest.raises(InvalidRequest) as refused:
        client.add_server("gpu", "http://a", key="sk-secret")
    assert "sk-secret" not in repr(refused.value)
    (request,) = server.asked
    assert b"sk-secret" in request.content
    assert "sk-secret" not in str(request.url) + str(request.headers)


@pytest.mark.parametrize("name", ["servers", "live_servers", "route"])
def test_a_stranger_is_told_from_a_server(name: str) -> None:
    transport = httpx2.MockTransport(lambda request: httpx2.Response(200, content=b"<html>\n"))
    with Client(transport=transport, environ={}) as client, pytest.raises(Garbled):
        getattr(client, name)()


def test_every_address_has_its_call() -> None:
    page = (Path(__file__).parents[3] / "docs" / "reference" / "routes.md").read_text()
    rows = re.findall(r"^\| ([A-Z, ]+) \| `(/api/(?:servers|models|route)\b[^`]*)` \|", page, re.MULTILINE)
    told = {(method, path.removesuffix("[/]")) for methods, path in rows for method in methods.split(", ")}
    assert len(told) == 16
    server = FakeServer()
    with client_of(server) as client:
        for call, _ in CALLS.values():
            call(client)
        client.add_server("gpu", "http://a")
        client.change_server("9f", ServerChange(priority=1))
        client.change_model("m1", ModelChange(priority=1))
        server.fleet.models["m1"] = replace(HERE, row=replace(HERE.row, present=False), available=False)
        assert client.forget_model("m1").model == "m:latest"
    ids = {"/9f": "/{server_id}", "/1b": "/{server_id}", "/2c": "/{server_id}"}
    ids |= {f"/m{number}": "/{model_id}" for number in range(1, 5)}
    asked = {
        (request.method, re.sub(r"/(?:[0-9][a-f]|m\d)\b", lambda found: ids[found[0]], request.url.path))
        for request in server.asked
    }
    assert told - asked == {("GET", "/api/servers/{server_id}")}  # of which a list tells as much
