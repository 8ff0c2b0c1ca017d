"""Servers and models of the fake server: the dialect's server role over a small fleet that can be changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2
from msgspec import UNSET
from msgspec.structs import asdict, replace

from localmodels.core.errors import Conflict, ModelNotFound, NotFound, Unreachable
from localmodels.core.fleet import ModelRow, ServerRow
from localmodels.core.roster import Availability, Discovery, Freed, ModelNow, Offer, ServerNow, Unloaded, Wish
from localmodels.dialects import routing
from localmodels.dialects import servers as wire
from localmodels.dialects.routing import ShownLeftOut, ShownRoute, ShownTarget

CHECKED = 1_767_268_790_000_000_000  # 2026-01-01T11:59:50Z
LOCAL = ServerNow(
    row=ServerRow(id="0a", name="local", url="http://127.0.0.1:8000", kind="local", max_concurrent=64),
    prefix="local",
    source="local",
    available=True,
    state="up",
    version="1.0.0",
    checked_at=CHECKED,
    models=(Offer("m:latest", "a" * 64, 4_661_224_676),),
)
BOX = ServerNow(
    row=ServerRow(
        id="1b",
        name="Big Box",
        url="http://10.0.0.5:11434",
        kind="ollama",
        capabilities=("code",),
        priority=10,
        weight=2.5,
        is_default=True,
    ),
    prefix="big-box",
    source="api",
    has_key=True,
    available=True,
    state="up",
    version="0.12.6",
    checked_at=CHECKED,
    in_flight=1,
    models=(Offer("m:latest", "a" * 64, 4_661_224_676), Offer("coder:7b", "c" * 64)),
)
DEAD = ServerNow(
    row=ServerRow(id="2c", name="dead", url="https://dead.example", kind="openai", max_concurrent=8),
    prefix="dead",
    source="api",
    state="down",
    failure="no connection: refused",
    checked_at=CHECKED,
)
OFF = ServerNow(
    row=ServerRow(id="3d", name="off", url="http://10.0.0.7:8080", kind="llamacpp", is_active=False),
    prefix="off",
    source="file",
    state="inactive",
)


def model_row(id_: str, server_id: str, model: str, **more: Any) -> ModelRow:
    """A row whose name for people is the model's."""
    return ModelRow(id=id_, server_id=server_id, model=model, name=model, **more)


HERE = ModelNow(
    row=model_row("m1", "0a", "m:latest", digest="a" * 64, size=4_661_224_676, told=("completion",)),
    server_name="local",
    available=True,
    loaded=False,
)
THERE = ModelNow(
    row=model_row("m2", "1b", "m:latest", digest="a" * 64, size=4_661_224_676, context_length=8192, priority=3),
    server_name="Big Box",
    available=True,
    loaded=True,
)
CODER = ModelNow(
    row=model_row("m3", "1b", "coder:7b", capabilities=("code",)), server_name="Big Box", available=True, loaded=None
)
LOST = ModelNow(row=model_row("m4", "2c", "gpt"), server_name="dead", available=False, loaded=None)
ROUTE = ShownRoute(
    model="m:latest",
    policy="auto",
    targets=(
        ShownTarget("big-box", "1b", "m:latest", "warm, 1 of 4 busy", "up", warm=True, in_flight=1, max_concurrent=4),
        ShownTarget("local", "0a", "m:latest", "has to load it", "up", warm=False, in_flight=0, max_concurrent=0),
    ),
    left_out=(ShownLeftOut("dead", "it does not answer"),),
)


@dataclass
class FakeFleet:
    """What there is; ``wanted`` keeps what was asked for, ``looks`` counts lists of servers."""

    servers: dict[str, ServerNow] = field(default_factory=lambda: {one.row.id: one for one in (LOCAL, BOX, DEAD, OFF)})
    models: dict[str, ModelNow] = field(default_factory=lambda: {one.row.id: one for one in (HERE, THERE, CODER, LOST)})
    route: ShownRoute = ROUTE
    wanted: list[object] = field(default_factory=list)
    looks: int = 0

    def answer(self, request: httpx2.Request) -> tuple[int, bytes] | None:
        """Status and body; None if it is none of our paths.

        Raises:
            LocalModelsError: what the server would refuse it with.
        """
        path, query = request.url.path, dict(request.url.params)
        match path.strip("/").split("/"):
            case ["api", "route"]:
                return 200, self._route(query)
            case ["api", "servers", *rest]:
                return SERVERS[request.method, len(rest), rest[-1] if len(rest) == 2 else ""](self, request, rest)
            case ["api", "models", "servers"]:
                return 200, wire.write_servers(one for one in self.servers.values() if one.row.is_active)
            case ["api", "models", "server", "models"]:
                return 200, wire.write_holder(self._at(query["server_url"]))
            case ["api", "models", id_, *rest]:
                return MODELS[request.method, *rest](self, request, self._model(id_))
        return None

    def _route(self, query: Mapping[str, str]) -> bytes:
        self.wanted.append(query)
        if query.get("model") == "nobody":
            raise ModelNotFound("nobody")
        return routing.write_route(self.route)

    def _at(self, url: str) -> ServerNow:
        for one in self.servers.values():
            if one.row.url == url:
                return one
        raise NotFound("no server is registered at this address", param="server_url")

    def _server(self, id_: str) -> ServerNow:
        if id_ not in self.servers:
            raise NotFound(f"there is no server '{id_}'", param="server_id")
        return self.servers[id_]

    def _model(self, id_: str) -> ModelNow:
        if id_ not in self.models:
            raise NotFound(f"there is no model with the id '{id_}'", param="model_id")
        return self.models[id_]

    def all(self, request: httpx2.Request, rest: list[str]) -> tuple[int, bytes]:
        self.looks += 1
        active = wire.read_switch(dict(request.url.params), "active_only")
        return 200, wire.write_servers(one for one in self.servers.values() if one.row.is_active or not active)

    def add(self, request: httpx2.Request, rest: list[str]) -> tuple[int, bytes]:
        wish = wire.read_server(request.content)
        self.wanted.append(wish)
        if wish.said.name in {one.row.name for one in self.servers.values()}:
            raise Conflict(f"there is a server '{wish.said.name}' already", param="name")
        row = changed(ServerRow(id="9f", name="", url="", kind="ollama"), wish)
        self.servers["9f"] = replace(BOX, row=row, prefix=row.name, in_flight=0, models=())
        return 201, wire.write_server(self.servers["9f"])

    def one(self, request: httpx2.Request, rest: list[str]) -> tuple[int, bytes]:
        return 200, wire.write_server(self._server(rest[0]))

    def change(self, request: httpx2.Request, rest: list[str]) -> tuple[int, bytes]:
        before, wish = self._server(rest[0]), wire.read_change(request.content)
        self.wanted.append((rest[0], wish))
        if before.source == "file":
            raise Conflict(f"the server '{before.row.name}' stands in the configuration's file")
        self.servers[rest[0]] = replace(before, row=changed(before.row, wish))
        return 200, wire.write_server(self.servers[rest[0]])

    def remove(self, request: httpx2.Request, rest: list[str]) -> tuple[int, bytes]:
        before = self._server(rest[0])
        if before.source != "api":
            raise Conflict("this program's own engine cannot be taken away")
        del self.servers[rest[0]]
        return 200, wire.write_server(before)

    def discover(self, request: httpx2.Request, rest: list[str]) -> tuple[int, bytes]:
        server = self._server(rest[0])
        if not server.available:
            raise Unreachable(f"the server '{server.row.name}': {server.failure}")
        found = len(server.models)
        seen = Discovery(found=found, added=1, updated=0, deactivated=0, total=found)
        return 200, wire.write_discovery(seen, server.row.name)

    def found(self, request: httpx2.Request, rest: list[str]) -> tuple[int, bytes]:
        self._server(rest[0])
        return 200, wire.write_models(one for one in self.models.values() if one.row.server_id == rest[0])

    def model(self, request: httpx2.Request, model: ModelNow) -> tuple[int, bytes]:
        return 200, wire.write_model(model)

    def change_model(self, request: httpx2.Request, model: ModelNow) -> tuple[int, bytes]:
        change = wire.read_model_change(request.content)
        self.wanted.append((model.row.id, change))
        said = {name: value for name, value in asdict(change).items() if value is not UNSET}
        return 200, wire.write_model(replace(model, row=replace(model.row, **said)))

    def forget(self, request: httpx2.Request, model: ModelNow) -> tuple[int, bytes]:
        if model.row.present:
            raise Conflict(f"the server '{model.server_name}' had {model.row.model} when it was asked last")
        return 200, wire.write_model(self.models.pop(model.row.id))

    def check(self, request: httpx2.Request, model: ModelNow) -> tuple[int, bytes]:
        return 200, wire.write_availability(availability(model, self.servers[model.row.server_id]))

    def unload(self, request: httpx2.Request, model: ModelNow) -> tuple[int, bytes]:
        self.wanted.append(("unload", model.row.id))
        url = self._reached(model).row.url
        return 200, wire.write_unloaded(Unloaded("unloaded" if model.loaded else "not_loaded", model.row.model, url))

    def release(self, request: httpx2.Request, model: ModelNow) -> tuple[int, bytes]:
        keeps = wire.read_release(request.content)
        self.wanted.append(("release", model.row.id, keeps))
        self._reached(model)
        return 200, wire.write_freed(Freed("moved" if keeps else "unloaded", 4_000_000_000))

    def _reached(self, model: ModelNow) -> ServerNow:
        server = self.servers[model.row.server_id]
        if not server.available:
            raise Unreachable(f"the server '{server.row.name}': {server.failure}")
        return server


def changed(row: ServerRow, wish: Wish) -> ServerRow:
    """The row as it is wished for."""
    return replace(row, **{name: value for name, value in asdict(wish.said).items() if value is not UNSET})


def availability(model: ModelNow, server: ServerNow) -> Availability:
    """What a look for it shows."""
    return Availability(
        model_id=model.row.id,
        model_name=model.row.model,
        is_available=model.available,
        is_loaded=model.loaded,
        server_url=server.row.url,
        error=server.failure,
    )


Answer = tuple[int, bytes]
SERVERS: Mapping[tuple[str, int, str], Callable[[FakeFleet, httpx2.Request, list[str]], Answer]] = {
    ("GET", 0, ""): FakeFleet.all,
    ("POST", 0, ""): FakeFleet.add,
    ("GET", 1, ""): FakeFleet.one,
    ("PUT", 1, ""): FakeFleet.change,
    ("DELETE", 1, ""): FakeFleet.remove,
    ("POST", 2, "discover"): FakeFleet.discover,
    ("GET", 2, "models"): FakeFleet.found,
}
MODELS: Mapping[tuple[str, ...], Callable[[FakeFleet, httpx2.Request, ModelNow], Answer]] = {
    ("GET",): FakeFleet.model,
    ("PUT",): FakeFleet.change_model,
    ("DELETE",): FakeFleet.forget,
    ("POST", "check-availability"): FakeFleet.check,
    ("POST", "unload"): FakeFleet.unload,
    ("POST", "unload-from-gpu"): FakeFleet.release,
}
