"""One operation on several servers, by the routes: two real ones, and the fake for what real ones do not do on demand.

The judges are Ollama's own Python client, and what the servers themselves say that they have.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import ollama
import pytest
from msgspec import Struct
from ollama import ProgressResponse, StatusResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from tests.acceptance.serving import PATIENCE, Served, eventually, serve
from tests.awaited import awaited
from tests.registry.models import blob_of, layer
from tests.registry.server import DOCKER, Registry
from tests.unit.flows.library.test_split_models import NobodyRuns
from tools.random_model import write_random_model

from localmodels.backends.fake import FakeServer, Page, Wire
from localmodels.core.access import LOCAL, USUAL, Caller
from localmodels.core.errors import LocalModelsError, NotFound
from localmodels.core.library import CreateRequest, Described, Progress, PullRequest
from localmodels.core.servers import ServerSpec
from localmodels.dialects import listing
from localmodels.dialects.ollama import library as dialect
from localmodels.dialects.table import DIALECTS
from localmodels.fleet.monitor import Monitor
from localmodels.flows.connections.remotes import Remotes
from localmodels.flows.fleet_library.delivery import Elsewhere
from localmodels.flows.fleet_library.fan_out import Everywhere
from localmodels.flows.fleet_library.local_library import Own
from localmodels.flows.library.keeper import Keeper
from localmodels.flows.routing.model_list import merged, running
from localmodels.flows.visit import Visit
from localmodels.server.library import ChangeRoute, Changes, Operation, ProgressRoute, creation, transfer
from localmodels.server.unloading import UnloadRoute
from localmodels.server.wire import VISIT, respond_error
from localmodels.store.library import Library
from localmodels.store.model_store import ModelStore
from localmodels.store.ollama import OllamaShelf

OLLAMA = DIALECTS["ollama"]
PULLING = b'{"status":"pulling manifest"}\n{"status":"pulling a1","digest":"sha256:a1","total":10,"completed":5}\n'
PULLED = PULLING + b'{"status":"success"}\n'
NOBODY: Any = None  # nothing is pulled to this process, and nothing runs in it


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Served]]:
    with serve(home=tmp_path_factory.mktemp("a")) as a, serve(home=tmp_path_factory.mktemp("b")) as b:
        yield a, b


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_random_model(tmp_path_factory.mktemp("weights") / "tiny.gguf").read_bytes()


class World:
    """A gateway in this process, with the servers that it is given."""

    def __init__(self, home: Path, *specs: ServerSpec, caller: Caller = LOCAL) -> None:
        store = ModelStore(home)
        self.library = Library([OllamaShelf(store.layout.root, source="home")])
        self.keeper = Keeper(store, self.library, NobodyRuns())
        self.specs = specs
        self.caller = caller
        self.everywhere = Everywhere(Own(self.keeper, NOBODY, NOBODY), lambda: specs, self.keeper.lent)
        self.elsewhere = Elsewhere(lambda: {spec.name: spec for spec in specs})
        self.routes = routes(self.everywhere)

    async def upload(self, content: bytes) -> str:
        """Brings a file into our own store; its digest."""

        async def pieces() -> AsyncIterator[bytes]:
            yield content

        blob = blob_of(content)
        await self.keeper.upload(blob.digest, pieces(), blob.size)
        return str(blob.digest)

    def names(self) -> list[str]:
        """The models of this process."""
        return [model.name for model in self.library.models()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The gateway's own shell, as far as errors and callers go."""
        scope[VISIT] = visit = Visit("req", self.caller)
        try:
            endpoint = self.routes.get(scope["path"])
            if endpoint is None:
                raise NotFound(scope["path"])
            await endpoint(scope, receive, send)
        except LocalModelsError as error:
            visit.error = error
            await respond_error(send, OLLAMA, error)

    def client(self) -> Any:
        """Ollama's, of this gateway; what it does not know of is asked through its own way to send."""
        return ollama.AsyncClient("http://gateway", transport=httpx.ASGITransport(self))


def routes(everywhere: Everywhere) -> dict[str, ASGIApp]:
    """Those that are asked here, as the table of rows has them."""
    changes = Changes(everywhere, lambda name: None)
    return {
        "/api/pull": ProgressRoute(OLLAMA, Operation(dialect.read_pull, everywhere.pull, transfer)),
        "/api/create": ProgressRoute(OLLAMA, Operation(dialect.read_create, everywhere.create, creation)),
        "/api/copy": ChangeRoute(changes.copy),
        "/api/delete": ChangeRoute(changes.delete),
        "/api/generate": UnloadRoute(everywhere, NOBODY, chat=False),
    }


def spec(name: str, url: str, **more: Any) -> ServerSpec:
    return ServerSpec(name=name, url=url, kind=more.pop("kind", "ollama"), registered=True, reach="loopback", **more)


def both(two: tuple[Served, Served]) -> tuple[ServerSpec, ServerSpec]:
    return spec("a", two[0].url), spec("b", two[1].url)


def names(served: Served) -> list[str]:
    return [str(model["name"]) for model in served.get("/api/tags").json()["models"]]


class Heard(Struct):
    """What a client of Ollama makes of a stream: the lines, and what it raises at the end."""

    lines: list[dict[str, Any]]
    error: str

    def of(self, server: str) -> list[str]:
        return [line["status"] for line in self.lines if line.get("server") == server]

    def failure(self, server: str) -> str:
        return next(str(line["failure"]) for line in self.lines if line.get("server") == server and "failure" in line)


class Line(ProgressResponse):
    """Ollama's own type, which keeps what it does not know for whoever asks."""

    server: str | None = None
    failure: str | None = None


async def streamed(world: World, path: str, **fields: Any) -> Heard:
    """A stream, read by Ollama's client."""
    heard = Heard([], "")
    async with asyncio.timeout(PATIENCE):
        try:
            async for line in await world.client()._request(Line, "POST", path, json=fields, stream=True):
                heard.lines.append(line.model_dump(exclude_none=True))
        except ollama.ResponseError as error:
            heard.error = error.error
    return heard


async def refused(asking: Any) -> tuple[int, str]:
    with pytest.raises(ollama.ResponseError) as raised:
        await asking
    return raised.value.status_code, str(raised.value.error)


@asynccontextmanager
async def scripted(**pages: Page) -> AsyncIterator[FakeServer]:
    """A server that answers as it is told at these paths of Ollama's."""
    async with FakeServer() as fake:
        fake.pages = {f"/api/{name}": page for name, page in pages.items()}
        yield fake


# Two real servers


@awaited
async def test_what_is_uploaded_here_becomes_a_model_on_all(
    two: tuple[Served, Served], tmp_path: Path, weights: bytes
) -> None:
    world = World(tmp_path, *both(two))
    digest = await world.upload(weights)
    fields = {"model": "made", "files": {"m.gguf": digest}, "system": "Be brief.", "server": "*"}
    heard = await streamed(world, "/api/create", **fields)
    assert heard.error == ""
    assert heard.lines[-1] == {"status": "success"}
    for server in "a", "b", "local":
        assert heard.of(server)[-1] == "success"
    assert any(status.startswith("pushing") for status in heard.of("a"))
    assert not any(status.startswith("pushing") for status in heard.of("local"))
    assert world.names() == ["made:latest"]
    for served in two:
        assert "made:latest" in names(served)
        with ollama.Client(host=served.url) as client:
            assert client.show("made").modelfile is not None
            assert client.generate("made", "a", options={"num_predict": 2}).eval_count == 2
    shown = [served.post("/api/show", model="made").json() for served in two]
    assert shown[0]["digest"] == shown[1]["digest"]
    again = await streamed(world, "/api/create", **fields)  # without harm, and without another byte of weights
    assert again.lines[-1] == {"status": "success"}
    assert not any(line.get("completed") for line in again.lines if line["status"].startswith("pushing"))


@awaited
async def test_a_modelfile_is_read_here_for_servers_that_take_none(
    two: tuple[Served, Served], tmp_path: Path, weights: bytes
) -> None:
    world = World(tmp_path, *both(two))
    digest = await world.upload(weights)
    recipe = f"FROM @{digest}\nSYSTEM Sing.\nPARAMETER num_ctx 256\n"
    heard = await streamed(world, "/api/create", model="sung", modelfile=recipe, server=["a", "b"])
    assert (heard.error, heard.lines[-1]) == ("", {"status": "success"})
    assert all(served.post("/api/show", model="sung").json()["system"] == "Sing." for served in two)
    assert world.names() == []


@awaited
async def test_names_are_copied_and_taken_away_on_all(
    two: tuple[Served, Served], tmp_path: Path, weights: bytes
) -> None:
    world = World(tmp_path, *both(two))
    await streamed(
        world, "/api/create", model="old", files={"m.gguf": await world.upload(weights)}, server=["a", "b", "local"]
    )
    client = world.client()
    copied = await client._request_raw("POST", "/api/copy", json={"source": "old", "destination": "new", "server": "*"})
    assert copied.json() == {
        "status": "success",
        "servers": [{"server": name, "status": "success"} for name in ("local", "a", "b")],
    }
    assert all("new:latest" in names(served) for served in two)
    assert sorted(world.names()) == ["new:latest", "old:latest"]

    async def taken(server: str) -> list[str]:
        answer = await client._request_raw("DELETE", "/api/delete", json={"model": "new", "server": server})
        return [row["status"] for row in answer.json()["servers"]]

    assert await taken("a") == ["success"]
    assert await taken("*") == ["success", "not found", "success"]
    assert await refused(taken("*")) == (404, "model 'new' not found")
    assert not any("new:latest" in names(served) for served in two)
    await client.delete("old")  # without a server as ever: here alone
    assert world.names() == []
    assert all("old:latest" in names(served) for served in two)


@awaited
async def test_all_pull_from_one_registry_and_a_repetition_completes_what_failed(
    two: tuple[Served, Served], tmp_path: Path, weights: bytes
) -> None:
    a, b = both(two)
    async with Registry() as registry, scripted() as broken:
        model = stocked(registry, weights)
        world = World(tmp_path, a, b, spec("c", broken.url))
        servers = ["a", "b", "c"]
        heard = await streamed(world, "/api/pull", model=model, insecure=True, server=servers)
        assert heard.of("a")[-1] == heard.of("b")[-1] == "success"
        assert heard.of("c") == ["error"]
        assert heard.error == f"1 of 3 servers failed: c: {heard.failure('c')}"
        broken.pages["/api/pull"] = Page(PULLED)
        heard = await streamed(world, "/api/pull", model=model, insecure=True, server=servers)
        assert (heard.error, heard.lines[-1]) == ("", {"status": "success"})
        assert [model in names(served) for served in two] == [True, True]
        whole = await world.client()._request(
            StatusResponse, "POST", "/api/pull", json={"model": model, "insecure": True, "server": "a", "stream": False}
        )
        assert whole.status == "success"


@awaited
async def test_a_model_leaves_the_memory_of_all(two: tuple[Served, Served], tmp_path: Path, weights: bytes) -> None:
    world = World(tmp_path, *both(two))
    await streamed(world, "/api/create", model="kept", files={"m.gguf": await world.upload(weights)}, server=["a", "b"])
    for served in two:
        served.post("/api/generate", model="kept", keep_alive=60).raise_for_status()
    loaded, silent = await world.everywhere.running(("a", "b"))
    assert sorted(row.server for row in loaded if row.model.name == "kept:latest") == ["a", "b"]
    assert silent == ()
    answer = await world.client()._request_raw(
        "POST", "/api/generate", json={"model": "kept", "keep_alive": 0, "server": ["a", "b"], "stream": False}
    )
    assert [row["status"] for row in answer.json()["servers"]] == ["success", "success"]
    for served in two:
        eventually(lambda served=served: "kept" not in served.running(), "it is unloaded")  # type: ignore[misc]
    shown, rows = await world.everywhere.describe("kept", ("b",), verbose=False)
    assert (shown.model.name, shown.model.server, rows) == ("kept:latest", "b", ())
    digest = shown.model.digest
    shown, rows = await world.everywhere.describe("kept", ("b", "a"), verbose=False)
    assert shown.model.server == "b"
    assert rows == tuple(Described(name, "success", "", digest) for name in ("b", "a"))
    assert len(digest) == 64


@awaited
async def test_a_model_that_is_made_here_is_put_on_all(
    two: tuple[Served, Served], tmp_path: Path, weights: bytes
) -> None:
    async with scripted() as broken:
        world = World(tmp_path, *both(two), spec("c", broken.url))
        request = CreateRequest("spread", files=(("m.gguf", await world.upload(weights)),))
        said: list[Progress] = []
        with pytest.raises(LocalModelsError, match="1 of 4 servers failed: c: "):
            await all_of(world.keeper.create(request, put=partial(world.elsewhere.put, "*")), said)
        assert {step.server for step in said if step.status == "success"} == {"local", "a", "b"}
        assert world.names() == ["spread:latest"]
        assert all("spread:latest" in names(served) for served in two)
        assert not [name for served in two for name in names(served) if "trial" in name]
        said.clear()
        await all_of(world.keeper.create(request, put=partial(world.elsewhere.put, "a,b")), said)
        assert said[-1] == Progress("success")


@awaited
async def test_the_lists_of_real_servers_are_one(two: tuple[Served, Served], tmp_path: Path, weights: bytes) -> None:
    world = World(tmp_path, *both(two))
    files = {"m.gguf": await world.upload(weights)}
    await streamed(world, "/api/create", model="same", files=files, server="*")
    await streamed(world, "/api/create", model="split", files=files, server=["a", "local"])
    await streamed(world, "/api/create", model="split", files=files, system="Sing.", server="b")
    await streamed(world, "/api/create", model="only", files=files, server="b")
    two[1].post("/api/generate", model="only", keep_alive=60).raise_for_status()
    remotes = Remotes()
    await remotes.adopt(both(two))
    async with Monitor(remotes.fleet, lambda host: server.far if (server := remotes.at(host)) else None) as monitor:
        assert len(await monitor.looked(PATIENCE)) == 2
    hosts = remotes.fleet.hosts()
    models = {model.name: model for model in merged(world.library.models(), hosts)}
    assert [*models][:2] == world.names()  # ours first, in our order
    assert (models["same:latest"].servers, models["same:latest"].digests) == (("local", "a", "b"), {})
    split = models["split:latest"]
    assert split.servers == ("local", "a", "b")
    assert split.digests["local"] == split.digests["a"] == split.digest != split.digests["b"]
    only = models["only:latest"]
    assert (only.servers, only.server, only.details.family) == (("b",), "b", models["same:latest"].details.family)
    assert "completion" in only.capabilities
    with_tags = ollama.ListResponse.model_validate_json(listing.write_tags(models.values()))
    assert [model.model for model in with_tags.models] == [*models]
    with_ps = ollama.ProcessResponse.model_validate_json(listing.write_ps(running((), hosts)))
    assert "only:latest" in [row.name for row in with_ps.models]
    await remotes.close()
    two[1].unload("only")


async def all_of(steps: Any, said: list[Progress]) -> None:
    async with aclosing(steps):
        async for step in steps:
            said.append(step)  # noqa: PERF401 - until it fails


def stocked(registry: Registry, weights: bytes) -> str:
    """Puts a model into the registry; its name, as a client asks for it."""
    config = b'{"model_format": "gguf"}'
    manifest = json.dumps({
        "schemaVersion": 2,
        "mediaType": DOCKER,
        "config": layer("application/vnd.docker.container.image.v1+json", config),
        "layers": [layer("application/vnd.ollama.image.model", weights)],
    }).encode()  # fmt: skip
    for one in (config, weights):
        registry.put(one, "library/tiny")
    for reference in ("latest", f"sha256:{hashlib.sha256(manifest).hexdigest()}"):
        registry.manifests[f"library/tiny:{reference}"] = (DOCKER, manifest)
    return f"127.0.0.1:{registry.port}/library/tiny:latest"


# Servers that fail, beside one that does not

FAILING: dict[str, tuple[Callable[[Any], Page], Sequence[str], str]] = {
    "dies in the middle": (
        lambda _: Page(PULLED, wire=Wire(at=len(PULLING), then="rst")), ["pulling manifest", "pulling a1", "error"], ""
    ),
    "ends without success": (lambda _: Page(PULLING), ["pulling manifest", "pulling a1", "error"], "ended before"),
    "falls silent": (
        lambda _: Page(PULLED, wire=Wire(at=len(PULLING), then="stall")),
        ["pulling manifest", "pulling a1", "error"], "was silent for 0.5 s",
    ),
    "never answers": (lambda _: Page(PULLED, first=3600.0), ["error"], "answered nothing for 0.5 s"),
    "refuses": (lambda _: Page(b'{"error":"overloaded"}', status=503), ["error"], "overloaded"),
    "asks for a key": (lambda _: Page(b'{"error":"unauthorized"}', status=401), ["error"], "asks for a key"),
    "says that it failed": (
        lambda _: Page(PULLING + b'{"error":"no space left on device"}\n'),
        ["pulling manifest", "pulling a1", "error"], "no space left",
    ),
    "talks nonsense": (lambda _: Page(b"<html>\n"), ["error"], "not a line of progress"),
}  # fmt: skip


@awaited
@pytest.mark.parametrize("how", FAILING)
async def test_one_that_fails_is_told_by_name_and_the_others_go_on(tmp_path: Path, how: str) -> None:
    page, statuses, says = FAILING[how]
    async with scripted(pull=Page(PULLED)) as good, scripted(pull=page(None)) as bad:
        world = World(tmp_path, spec("good", good.url), spec("bad", bad.url, first_byte=0.5, idle=0.5))
        heard = await streamed(world, "/api/pull", model="m", server=["good", "bad"])
        assert heard.of("good")[-1] == "success"
        assert heard.of("bad") == statuses
        assert says in heard.failure("bad")
        assert "the server 'bad'" not in heard.failure("bad")  # which the row says already
        assert heard.error == f"1 of 2 servers failed: bad: {heard.failure('bad')}"
        assert {"status": "success"} not in heard.lines
        status, error = await refused(
            world.client()._request_raw("POST", "/api/pull", json={"model": "m", "server": "bad", "stream": False})
        )
        assert status >= 400
        assert "the server 'bad'" in error


@awaited
async def test_one_that_is_not_there_is_told_of_a_change_and_the_status_says_so(tmp_path: Path) -> None:
    async with scripted(delete=Page()) as good:
        world = World(tmp_path, spec("good", good.url), spec("gone", "http://127.0.0.1:9"))
        asked = {"model": "m", "server": ["good", "gone"]}
        answer = await httpx.AsyncClient(transport=httpx.ASGITransport(world)).request(
            "DELETE", "http://gateway/api/delete", json=asked
        )
        told = answer.json()
        assert answer.status_code == 502
        assert told["servers"][0] == {"server": "good", "status": "success"}
        assert told["servers"][1]["status"] == "error"
        assert told["error"] == f"1 of 2 servers failed: gone: {told['servers'][1]['failure']}"
        status, error = await refused(world.client()._request_raw("DELETE", "/api/delete", json=asked))
        assert (status, error) == (502, told["error"])


TAGGED = b'{"models":[{"name":"m:latest","model":"m:latest"}]}'


@awaited
@pytest.mark.parametrize(
    "words", [b'{"error":"model not found"}', b"", b"<html>404</html>", b'{"detail":"Not Found"}'], ids=range(4)
)
async def test_who_has_no_such_model_is_done_in_whatever_words_it_says_so(tmp_path: Path, words: bytes) -> None:
    missing = Page(words, status=404)
    lists = {"empty": Page(b'{"models":[]}'), "has": Page(TAGGED), "hides": Page(b"<html>", status=500)}
    async with scripted(delete=Page()) as good, scripted(delete=missing, copy=missing) as bad:
        world = World(tmp_path, spec("good", good.url), spec("bad", bad.url))
        for tags, status in (("empty", "not found"), ("has", "error"), ("hides", "error")):
            bad.pages["/api/tags"] = lists[tags]
            async with httpx.AsyncClient(transport=httpx.ASGITransport(world)) as client:
                asked = {"model": "m", "server": ["good", "bad"]}
                answer = await client.request("DELETE", "http://gateway/api/delete", json=asked)
            assert [row["status"] for row in answer.json()["servers"]] == ["success", status]
            assert answer.status_code == (200 if status == "not found" else 502)


@awaited
async def test_one_odd_row_costs_nothing_else_of_what_is_in_memory(tmp_path: Path) -> None:
    row = {"name": "m", "size": 5, "size_vram": 5, "expires_at": "2026-12-01T00:00:00Z"}
    odd = [row | {"details": None, "digest": None}, row | {"name": "\x1b[31m"}, row | {"size": -3, "expires_at": "x"}]
    async with scripted(ps=Page(json.dumps({"models": [row, *odd]}).encode())) as one:
        world = World(tmp_path, spec("a", one.url))
        loaded, silent = await world.everywhere.running(("a",))
    assert silent == ()
    assert [(one.model.name, one.size, one.expires_at, one.server) for one in loaded] == [
        ("m", 5, "2026-12-01T00:00:00Z", "a"),
        ("m", 5, "2026-12-01T00:00:00Z", "a"),
        ("m", 0, "", "a"),
    ]
    async with scripted(ps=Page(b'{"models": 7}')) as one:
        _, (silent_one,) = await World(tmp_path, spec("a", one.url)).everywhere.running(("a",))
    assert "the server 'a''s" not in silent_one.failure
    assert not silent_one.failure.startswith("it's")


@awaited
async def test_whoever_leaves_is_left_by_all(tmp_path: Path) -> None:
    stalled = Page(PULLED, wire=Wire(at=len(PULLING), then="stall"))
    async with scripted(pull=stalled) as a, scripted(pull=stalled) as b:
        world = World(tmp_path, spec("a", a.url), spec("b", b.url))
        async with aclosing(world.everywhere.pull(PullRequest("m", servers=("a", "b")))) as steps:
            heard: set[str] = set()
            async for step in steps:
                heard.add(step.server)
                if {"a", "b"} <= heard:
                    break
        for fake in (a, b):
            while fake.connections:  # noqa: ASYNC110 - the loop tells the fake soon, and tells nobody else
                await asyncio.sleep(0)


# Who may


@awaited
async def test_a_key_for_some_models_changes_no_others_anywhere(tmp_path: Path) -> None:
    key = Caller("key_1", "bob", USUAL | {"manage"}, models=("mine*",))
    async with scripted(pull=Page(PULLED), delete=Page()) as fake:
        world = World(tmp_path, spec("a", fake.url), caller=key)
        client = world.client()
        for method, path, fields in (
            ("POST", "/api/pull", {"model": "other"}),
            ("DELETE", "/api/delete", {"model": "other"}),
            ("POST", "/api/copy", {"source": "mine", "destination": "other"}),
            ("POST", "/api/create", {"model": "other", "from": "mine"}),
            ("POST", "/api/generate", {"model": "other", "keep_alive": 0}),
        ):
            status, error = await refused(client._request_raw(method, path, json={**fields, "server": "a"}))
            assert (status, "may not use model" in error) == (403, True)
        status, error = await refused(
            client._request_raw("POST", "/api/pull", json={"model": "127.0.0.1:9/library/mine", "server": "a"})
        )
        assert status == 403
        assert fake.asked == []
        assert (await streamed(world, "/api/pull", model="mine:7b", server="a")).lines[-1] == {"status": "success"}


@awaited
async def test_a_key_that_only_asks_models_unloads_none_elsewhere(tmp_path: Path) -> None:
    async with scripted(generate=Page(b'{"done":true,"done_reason":"unload"}')) as fake:
        world = World(tmp_path, spec("a", fake.url), caller=Caller("key_1", "bob", USUAL))
        asked = {"model": "m", "keep_alive": 0, "server": "a"}
        status, error = await refused(world.client()._request_raw("POST", "/api/generate", json=asked))
        assert (status, "may not manage" in error) == (403, True)
        assert fake.asked == []
        world.caller = LOCAL
        answer = await world.client()._request_raw("POST", "/api/generate", json=asked)
        assert answer.json()["servers"] == [{"server": "a", "status": "success"}]
