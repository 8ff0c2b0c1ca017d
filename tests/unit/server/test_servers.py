"""The fleet's routes through the application: seed 000 as the contract settles it, who may, and what is refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, TypeVar

import pytest
from starlette.types import Message, Scope
from tests.awaited import awaited
from tests.fleet_world import Ollama, World

from localmodels.core.access import LOCAL, Caller
from localmodels.flows.visit import Visit
from localmodels.server.app import Application
from localmodels.server.gate import Gate
from localmodels.server.openapi.bodies import FLEET as BODIES
from localmodels.server.permissions import FLEET
from localmodels.server.routes import Row
from localmodels.server.rows import servers as rows
from localmodels.server.servers import ServerRoutes
from localmodels.server.wire import Headers

T = TypeVar("T")
A, B = "http://10.39.0.101:11434", "http://10.39.0.102:11434"
CALLERS = {
    "admin": LOCAL,
    "manager": Caller("manager", "manager", frozenset({"manage", "list", "infer"})),
    "observer": Caller("observer", "observer", frozenset({"observe"})),
    "limited": Caller("limited", "limited", frozenset({"manage", "list", "infer"}), models=("pub*",)),
    "far": Caller("far", "far", frozenset({"manage", "list", "infer"}), models=("far-one/*",)),
    "reader": Caller("reader", "reader", frozenset({"list", "infer"})),
}
FOR_SOME = {
    "watcher": Caller("watcher", "watcher", frozenset({"observe"}), models=("pub*", "b/priv:1")),
    "chief": Caller("chief", "chief", frozenset({"admin"}), models=("pub*",)),
}
NEW = {
    "name": "New Ollama Server",
    "url": A,
    "api_version": "v1",
    "description": "Описание сервера",
    "capabilities": ["general", "reasoning"],
    "max_concurrent": 2,
    "priority": 1,
    "is_default": False,
}


class Named:
    """Access by a header that names the caller."""

    def caller(self, scope: Scope) -> Caller:
        return (CALLERS | FOR_SOME)[dict(scope["headers"])[b"x-who"].decode()]

    def admit(self, visit: Visit) -> None: ...

    def told(self, visit: Visit) -> Headers:
        return ()


class Site:
    """The routes over a fleet."""

    def __init__(self, world: World) -> None:
        self.head: dict[str, str] = {}
        self._application = Application(table(world), Gate(), Named(), permissions=mine(FLEET))

    async def ask(self, method: str, path: str, body: object = None, who: str = "admin") -> tuple[int, Any]:
        """The status, and what the answer says."""
        path, _, query = path.partition("?")
        sent = [b"" if body is None else json.dumps(body).encode()]
        told: list[Message] = []
        headers = [(b"host", b"localhost"), (b"x-who", who.encode()), (b"content-type", b"application/json")]
        scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": headers,
                 "server": ("127.0.0.1", 8000), "extensions": {"localmodels.cancels": {}}}  # fmt: skip

        async def receive() -> Message:
            if sent:
                return {"type": "http.request", "body": sent.pop()}
            return await world_without_end()

        async def send(message: Message) -> None:
            told.append(message)

        await self._application(scope, receive, send)
        self.head = {name.decode(): value.decode() for name, value in told[0]["headers"]}
        return told[0]["status"], json.loads(b"".join(one.get("body", b"") for one in told[1:]))

    async def add(self, **said: object) -> dict[str, Any]:
        """A server that was registered."""
        status, server = await self.ask("POST", "/api/servers/", NEW | said)
        assert status == 201, server
        return dict(server)


async def world_without_end() -> Message:
    """A client that stays."""
    await asyncio.Event().wait()
    raise AssertionError


def mine(entries: Mapping[str, T]) -> dict[str, T]:
    """Without what stands beside these routes."""
    return {path: entry for path, entry in entries.items() if not path.startswith("/api/route")}


def table(world: World) -> tuple[Row, ...]:
    return rows.of(ServerRoutes(world.servers, world.unloading))


@awaited
async def test_every_row_has_its_slash_its_grant_and_its_body() -> None:
    async with World() as world:
        paths = {(row.path, method) for row in table(world) for method in row.methods}
    assert {path for path, _ in paths if path.endswith("/")} == {f"{path}/" for path, _ in paths if path[-1] != "/"}
    assert len({path for path, _ in paths}) == 2 * 10
    assert len(paths) == 2 * 15
    for entries in (FLEET, BODIES):
        assert {(path, method) for path, methods in mine(entries).items() for method in methods} == paths


@pytest.mark.parametrize("slash", ["", "/"])
@awaited
async def test_the_seed_s_fourteen(slash: str) -> None:
    async with World() as world:
        site = Site(world)
        world.net[A] = ollama = Ollama(qwen3_8b=1)
        status, server = await site.ask("POST", f"/api/servers{slash}", NEW)
        assert status == 201
        assert {name: server[name] for name in NEW} == NEW
        assert site.head["location"] == f"/api/servers/{server['id']}"
        assert (server["api_url"], server["available"], server["has_key"]) == (f"{A}/v1", True, False)
        one = f"/api/servers/{server['id']}"
        status, told = await site.ask("GET", f"/api/servers{slash}?active_only=true")
        assert (status, [row["name"] for row in told["servers"]]) == (200, ["local", "New Ollama Server"])
        assert await site.ask("GET", f"{one}{slash}") == (200, server)
        status, changed = await site.ask("PUT", f"{one}{slash}", {"priority": 7})
        assert (status, changed["priority"], changed["description"]) == (200, 7, "Описание сервера")
        ollama.models["other"] = 2
        assert await site.ask("POST", f"{one}/discover{slash}") == (
            200,
            {
                "message": "New Ollama Server has 2 models: 1 new, 0 changed, 0 gone",
                "models_found": 2,
                "models_added": 1,
                "models_updated": 0,
                "models_deactivated": 0,
                "total_in_db": 2,
            },
        )
        status, told = await site.ask("GET", f"{one}/models{slash}")
        assert (status, [row["model"] for row in told["models"]]) == (200, ["other", "qwen3:8b"])
        model = f"/api/models/{told['models'][1]['id']}"
        status, told = await site.ask("GET", f"/api/models/servers{slash}")
        live = next(row for row in told["servers"] if row["id"] == server["id"])
        assert (status, live["version"], live["models"][1]["name"]) == (200, "0.12.0", "other")
        status, told = await site.ask("GET", f"/api/models/server/models{slash}?server_url={A}/")
        assert (status, told["server"]["id"], len(told["models"])) == (200, server["id"], 2)
        status, told = await site.ask("PUT", f"{model}{slash}", {"capabilities": ["code"], "name": "Qwen"})
        assert (status, told["capabilities"], told["name"], told["model"]) == (200, ["code"], "Qwen", "qwen3:8b")
        assert await site.ask("GET", f"{model}{slash}") == (200, told)
        ollama.loaded["qwen3:8b"] = 2**30
        status, told = await site.ask("POST", f"{model}/check-availability{slash}")
        assert (status, told) == (
            200,
            {
                "model_id": model.rpartition("/")[2],
                "model_name": "qwen3:8b",
                "is_available": True,
                "is_loaded": True,
                "server_url": A,
            },
        )
        told = await site.ask("POST", f"{model}/unload-from-gpu{slash}", {"keep_on_cpu": True})
        assert told == (200, {"status": "unloaded", "freed_bytes": 2**30})
        told = await site.ask("POST", f"{model}/unload{slash}")
        assert told == (200, {"status": "not_loaded", "model_name": "qwen3:8b", "server_url": A})
        status, told = await site.ask("DELETE", f"{model}{slash}")
        assert (status, "only what is gone can be forgotten" in told["detail"]) == (409, True)
        del ollama.models["qwen3:8b"]
        assert (await site.ask("POST", f"{one}/discover{slash}"))[1]["models_deactivated"] == 1
        status, told = await site.ask("DELETE", f"{model}{slash}")
        assert (status, told["model"], told["available"]) == (200, "qwen3:8b", False)
        assert (await site.ask("DELETE", f"{model}{slash}"))[0] == 404
        assert (await site.ask("DELETE", f"{one}{slash}"))[0] == 200
        assert (await site.ask("GET", f"{one}{slash}"))[0] == 404
        assert (await site.ask("GET", f"{model}{slash}"))[0] == 404


@awaited
async def test_one_that_is_dead_is_listed_so_and_created_all_the_same() -> None:
    async with World() as world:
        site = Site(world)
        server = await site.add()
        assert (server["available"], server["models"], server["version"]) == (False, [], None)
        _, told = await site.ask("GET", "/api/models/servers")
        dead = next(row for row in told["servers"] if row["id"] == server["id"])
        assert (dead["available"], dead["models"], dead["version"]) == (False, [], None)
        status, told = await site.ask("POST", f"/api/servers/{server['id']}/discover")
        assert (status, "cannot be reached" in told["detail"]) == (502, True)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("POST", "/api/servers", {"url": B}, 400, "name is required"),
        ("POST", "/api/servers", {"name": "b"}, 400, "url is required"),
        ("POST", "/api/servers", NEW | {"colour": 1}, 422, "nobody knows 'colour' here; there are name, url"),
        ("POST", "/api/servers", NEW, 409, "there is a server 'New Ollama Server' already"),
        ("POST", "/api/servers", NEW | {"name": "b"}, 409, "is registered at http://10.39.0.101:11434 already"),
        ("POST", "/api/servers", NEW | {"max_concurrent": 0}, 422, "from 1 to 100000"),
        ("POST", "/api/servers", {"name": "b", "url": "http://0.0.0.0"}, 422, "127.0.0.1 is where this machine"),
        ("GET", "/api/servers?active_only=maybe", None, 422, "active_only must be true or false"),
        ("GET", "/api/servers/none", None, 404, "there is no server 'none'"),
        ("PUT", "/api/servers/none", {}, 404, "there is no server 'none'"),
        ("DELETE", "/api/servers/none", None, 404, "there is no server 'none'"),
        ("POST", "/api/servers/none/discover", None, 404, "there is no server 'none'"),
        ("GET", "/api/servers/none/models", None, 404, "there is no server 'none'"),
        ("GET", "/api/models/none", None, 404, "there is no model with the id 'none'"),
        ("PUT", "/api/models/none", {}, 404, "there is no model with the id 'none'"),
        ("PUT", "/api/models/none", {"digest": "x"}, 422, "nobody knows 'digest'"),
        ("POST", "/api/models/none/check-availability", None, 404, "there is no model"),
        ("POST", "/api/models/none/unload", None, 404, "there is no model"),
        ("POST", "/api/models/none/unload-from-gpu", {"keep_on_cpu": 1}, 422, "keep_on_cpu must be true or false"),
        ("GET", "/api/models/server/models", None, 400, "server_url is required"),
        ("GET", f"/api/models/server/models?server_url={B}", None, 404, "no server is registered at"),
        ("PATCH", "/api/servers", None, 405, "GET, POST is"),
        ("GET", "/api/servers/a/b", None, 404, "there is nothing at"),
        ("GET", "/api/models", None, 404, "there is nothing at"),
    ],
)
@awaited
async def test_what_is_wrong_is_said_in_the_words_of_our_own_paths(
    method: str, path: str, body: object, status: int, words: str
) -> None:
    async with World() as world:
        site = Site(world)
        await site.add()
        found, told = await site.ask(method, path, body)
        assert (found, [*told]) == (status, ["detail"])
        assert words in told["detail"]


@awaited
async def test_a_key_is_in_no_answer() -> None:
    async with World() as world:
        site = Site(world)
        world.net[A] = Ollama(m=1)
        server = await site.add(key="sk-sesame")
        one = f"/api/servers/{server['id']}"
        for method, path, body in (
            ("GET", "/api/servers", None),
            ("GET", one, None),
            ("PUT", one, {"description": "x"}),
            ("PUT", one, {"url": B}),
            ("GET", "/api/models/servers", None),
            ("GET", f"/api/models/server/models?server_url={A}", None),
            ("POST", f"{one}/discover", None),
            ("DELETE", one, None),
        ):
            _, told = await site.ask(method, path, body)
            assert "sesame" not in json.dumps(told)
        assert server["has_key"]


@awaited
async def test_a_key_for_some_models_unloads_no_others() -> None:
    async with World() as world:
        site = Site(world)
        world.net[A] = ollama = Ollama(pub=1, secret=2)
        server = await site.add(name="Far One")
        ids = {one.row.model: one.row.id for one in world.servers.models(server["id"])}
        local = world.servers.roster.local.id
        await world.servers.discover(local)
        own = world.servers.models(local)[0].row.id
        world.here.models["localmodels:latest"] = 5
        ollama.loaded = {"pub": 1, "secret": 1}
        for way in ("unload", "unload-from-gpu"):
            for who, model_id in (("limited", ids["secret"]), ("limited", own), ("far", own)):
                said = f"there is no model with the id '{model_id}'"
                assert await site.ask("POST", f"/api/models/{model_id}/{way}", {}, who) == (404, {"detail": said})
        assert ollama.loaded == {"pub": 1, "secret": 1}
        assert world.here.models["localmodels:latest"] == 5
        told = await site.ask("POST", f"/api/models/{ids['pub']}/unload", None, "limited")
        assert told == (200, {"status": "unloaded", "model_name": "pub", "server_url": ""}), "he may see no servers"
        assert (await site.ask("POST", f"/api/models/{ids['secret']}/unload", None, "far"))[0] == 200
        assert ollama.loaded == {}


@pytest.mark.parametrize(
    ("method", "path", "may"),
    [
        ("GET", "/api/servers/", {"admin", "observer"}),
        ("GET", "/api/models/servers", {"admin", "observer"}),
        ("POST", "/api/servers/", {"admin"}),
        ("PUT", "/api/servers/x", {"admin"}),
        ("DELETE", "/api/servers/x", {"admin"}),
        ("POST", "/api/servers/x/discover", {"admin"}),
        ("PUT", "/api/models/x", {"admin"}),
        ("POST", "/api/models/x/check-availability", {"admin", "observer"}),
        ("POST", "/api/models/x/unload", {"admin", "manager", "limited", "far"}),
        ("POST", "/api/models/x/unload-from-gpu", {"admin", "manager", "limited", "far"}),
    ],
)
@awaited
async def test_who_may(method: str, path: str, may: set[str]) -> None:
    async with World() as world:
        site = Site(world)
        assert {who for who in CALLERS if (await site.ask(method, path, {}, who))[0] != 403} == may


@awaited
async def test_our_own_engine_is_switched_off_but_not_taken_away() -> None:
    async with World() as world:
        site = Site(world)
        _, told = await site.ask("GET", "/api/servers")
        [local] = told["servers"]
        one = f"/api/servers/{local['id']}"
        status, told = await site.ask("DELETE", one)
        assert (status, "is_active false" in told["detail"]) == (409, True)
        status, told = await site.ask("PUT", one, {"is_active": False})
        assert (status, told["is_active"], told["available"]) == (200, False, False)
        assert (await site.ask("GET", "/api/models/servers")) == (200, {"servers": []})


@awaited
async def test_a_key_for_some_models_sees_and_changes_no_others() -> None:
    async with World() as world:
        site = Site(world)
        world.net[A], world.net[B] = Ollama(pub=1, priv_1=2), Ollama(priv_1=1)
        a, b = await site.add(name="a"), await site.add(name="b", url=B)
        ids = {}
        for server in (a, b):
            _, told = await site.ask("GET", f"/api/servers/{server['id']}/models")
            ids.update({(server["name"], one["model"]): one["id"] for one in told["models"]})
        seen = {("a", "pub"), ("b", "priv:1")}
        for server in (a, b):
            names = [model for name, model in sorted(seen) if name == server["name"]]
            for path in (f"/api/servers/{server['id']}", f"/api/models/server/models?server_url={server['url']}"):
                _, told = await site.ask("GET", path, who="watcher")
                assert [one["model"] for one in told["models"]] == names
                assert [one["model"] for one in told.get("server", told)["models"]] == names
            _, told = await site.ask("GET", f"/api/servers/{server['id']}/models", who="watcher")
            assert [one["model"] for one in told["models"]] == names
        for path in ("/api/servers", "/api/models/servers"):
            _, told = await site.ask("GET", path, who="watcher")
            assert {(row["name"], one["model"]) for row in told["servers"] for one in row["models"]} == seen
        for one, model_id in ids.items():
            for method, more in (("GET", ""), ("POST", "/check-availability")):
                status, told = await site.ask(method, f"/api/models/{model_id}{more}", who="watcher")
                assert (status == 200) is (one in seen), told
        secret = ids["a", "priv:1"]
        nothing, hidden = [await site.ask("GET", f"/api/models/{one}", who="watcher") for one in ("none", secret)]
        assert json.loads(json.dumps(hidden).replace(secret, "none")) == list(nothing)
        for method, body in (("PUT", {"priority": 9}), ("DELETE", None)):
            status, _ = await site.ask(method, f"/api/models/{secret}", body, who="chief")
            assert status == 404
        status, told = await site.ask("PUT", f"/api/servers/{a['id']}", {"priority": 2}, who="chief")
        assert (status, [one["model"] for one in told["models"]]) == (200, ["pub"])
        assert world.servers.model(secret).row.priority == 0
