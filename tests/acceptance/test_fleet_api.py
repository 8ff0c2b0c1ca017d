"""Seed 000 by the whole program: servers behind ours, registered, looked at, asked and taken away over HTTP.

What stands behind is real wherever a real one will do: processes of ours, which are Ollamas to the front. What they
would not do when asked (to be slow, to count, to repeat a key) is done by the back end that fails.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from tests.acceptance.serving import PATIENCE, Served, eventually, serve
from tests.acceptance.test_keys import bearer, made
from tests.awaited import awaited
from tools.random_model import write_random_model

from localmodels.backends.fake import Break, FakeServer, Page, Script
from localmodels.backends.fake.script import Failure
from localmodels.client import Client
from localmodels.core.library import CreateRequest

QUIET = ("--no-register-ollama", "--log-level", "debug")
PROMPT = [{"role": "user", "content": "Hello!"}]
GREEDY = {"temperature": 0, "seed": 1, "num_predict": 8}
CANARY = "sk-canary-bird-of-the-fleet"
SLASHES = ("", "/")


class Fleet:
    """A front, asked by these few words."""

    def __init__(self, served: Served, key: str = "") -> None:
        self.served = served
        self._headers = bearer(key) if key else {}

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> httpx2.Response:
        return httpx2.request(
            method, self.served.url + path, json=body, headers={**self._headers, **headers}, timeout=PATIENCE
        )

    def good(self, method: str, path: str, body: object = None, status: int = 200) -> dict[str, Any]:
        answer = self.ask(method, path, body)
        assert answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text}"
        told: dict[str, Any] = answer.json()
        return told

    def add(self, name: str, url: str, **more: Any) -> dict[str, Any]:
        return self.good("POST", "/api/servers/", {"name": name, "url": url, **more}, 201)

    def row(self, name: str) -> dict[str, Any]:
        rows: list[dict[str, Any]] = self.good("GET", "/api/servers/")["servers"]
        return next(row for row in rows if row["name"] == name)

    def models(self, server: dict[str, Any]) -> dict[str, dict[str, Any]]:
        return {row["model"]: row for row in self.good("GET", f"/api/servers/{server['id']}/models")["models"]}

    def clear(self) -> None:
        for row in self.good("GET", "/api/servers/")["servers"]:
            if row["source"] == "api":
                self.good("DELETE", f"/api/servers/{row['id']}")

    def chat(self, model: str, *, path: str = "/api/chat", **headers: str) -> httpx2.Response:
        body = {"model": model, "messages": PROMPT, "stream": False, "options": GREEDY, "max_tokens": 8}
        return self.ask("POST", path, body, **headers)


@pytest.fixture(scope="module")
def far(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server of ours that is another's Ollama."""
    flags = [word for name in ("tiny", "endless", "embedder") for word in ("--model", f"{name}={models[name]}")]
    with serve(*flags, "--model", f"both={models['tiny']}", *QUIET, home=tmp_path_factory.mktemp("far")) as served:
        yield served


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("front")


@pytest.fixture(scope="module")
def front(models: dict[str, Path], home: Path) -> Iterator[Served]:
    (home / "localmodels.toml").write_text('[[servers]]\nname = "filed"\nurl = "http://127.0.0.1:9"\nkind = "ollama"\n')
    flags = ("--model", f"near={models['brief']}", "--model", f"both={models['brief']}", "--default-model", "near")
    with serve(*flags, *QUIET, home=home, log=home / "log") as served:
        yield served


@pytest.fixture
def fleet(front: Served) -> Iterator[Fleet]:
    """The front without a registered server, before and after."""
    fleet = Fleet(front)
    yield fleet
    fleet.clear()


@pytest.fixture
def behind(fleet: Fleet, far: Served) -> dict[str, Any]:
    """The row of the other server, registered."""
    return fleet.add("Far One", far.url, capabilities=["general"], max_concurrent=4)


@pytest.mark.parametrize("slash", SLASHES)
def test_all_fourteen_answer_with_and_without_the_slash(fleet: Fleet, far: Served, slash: str) -> None:
    answer = fleet.ask("POST", f"/api/servers{slash}", {"name": "one", "url": far.url})
    assert answer.status_code == 201
    row = answer.json()
    assert answer.headers["location"] == f"/api/servers/{row['id']}"
    server, model = f"/api/servers/{row['id']}", f"/api/models/{fleet.models(row)['tiny:latest']['id']}"
    asked = [
        ("GET", "/api/models/servers", ""), ("GET", "/api/models/server/models", f"?server_url={far.url}"),
        ("GET", "/api/servers", "?active_only=true"), ("GET", server, ""), ("GET", f"{server}/models", ""),
        ("POST", f"{server}/discover", ""), ("GET", model, ""), ("POST", f"{model}/check-availability", ""),
        ("POST", f"{model}/unload", ""), ("POST", f"{model}/unload-from-gpu", ""), ("GET", "/api/route", "?model=tiny"),
    ]  # fmt: skip
    for method, path, query in asked:
        fleet.good(method, f"{path}{slash}{query}")
    assert fleet.good("PUT", f"{server}{slash}", {"priority": 3})["priority"] == 3
    assert fleet.good("PUT", f"{model}{slash}", {"priority": 4})["priority"] == 4
    fleet.good("DELETE", f"{server}{slash}")
    for method, path in (("GET", server), ("GET", model), ("GET", "/api/servers/none"), ("POST", f"{model}/unload")):
        gone = fleet.ask(method, f"{path}{slash}")
        assert gone.status_code == 404
        assert set(gone.json()) == {"detail"}


def test_a_row_is_what_was_said_and_what_is_so(fleet: Fleet, far: Served) -> None:
    said = {
        "name": "New Ollama Server", "api_version": "v1", "description": "Описание сервера",
        "capabilities": ["general", "reasoning"], "max_concurrent": 2, "priority": 1, "is_default": False,
    }  # fmt: skip
    row = fleet.good("POST", "/api/servers/", {**said, "url": f"{far.url}/"}, 201)
    assert {field: row[field] for field in said} == said
    assert (row["url"], row["api_url"], row["kind"]) == (far.url, f"{far.url}/v1", "ollama")
    assert (row["available"], row["state"], row["source"], row["has_key"]) == (True, "up", "api", False)
    assert row["version"] == far.get("/api/version").json()["version"]
    tags = {tag["name"]: tag for tag in far.get("/api/tags").json()["models"]}
    assert {model["name"] for model in row["models"]} == set(tags)
    live = next(one for one in fleet.good("GET", "/api/models/servers")["servers"] if one["id"] == row["id"])
    assert live["models"] == row["models"]
    held = fleet.good("GET", f"/api/models/server/models?server_url={far.url}/")["models"]
    assert [model["digest"] for model in held] == [f"sha256:{tags[model['name']]['digest']}" for model in held]
    assert fleet.models(row)["embedder:latest"]["capabilities"] == ["embedding"]


def test_names_and_addresses_are_there_once(fleet: Fleet, far: Served, behind: dict[str, Any]) -> None:
    port = far.url.rpartition(":")[2]
    for name, url, clash in (
        ("Far One", "http://127.0.0.1:1", "'Far One'"),
        ("far-one", "http://127.0.0.1:1", "'Far One'"),  # its models would have the same names
        ("another", f"{far.url}/", "'Far One'"),
        ("another", f"HTTP://127.0.0.1:{port}", "'Far One'"),
        ("filed", "http://127.0.0.1:1", "'filed'"),
        ("local", "http://127.0.0.1:1", "own engine"),
    ):
        answer = fleet.ask("POST", "/api/servers/", {"name": name, "url": url})
        assert (answer.status_code, clash in answer.json()["detail"]) == (409, True), answer.text
    for wrong, word in (
        ({"name": "x", "url": far.url, "colour": "red"}, "colour"),
        ({"name": "x", "url": "ftp://127.0.0.1"}, "http"),
        ({"name": "x", "url": "http://u:p@127.0.0.1:1"}, "password"),
        ({"name": "x", "url": "http://169.254.169.254"}, "169.254.169.254"),
        ({"name": "x", "url": fleet.served.url}, "this very server"),
        ({"name": "x", "url": "http://127.0.0.1:1", "max_concurrent": 0}, "max_concurrent"),
        ({"name": "x", "url": "http://127.0.0.1:1", "kind": "local"}, "local"),
        ({"name": "x"}, "url"),
    ):
        answer = fleet.ask("POST", "/api/servers/", wrong)
        assert answer.status_code in {400, 422}, answer.text
        assert word in answer.text
    assert [row["name"] for row in fleet.good("GET", "/api/servers/")["servers"]] == ["local", "Far One", "filed"]


def test_a_change_changes_what_it_says_and_no_more(fleet: Fleet, behind: dict[str, Any]) -> None:
    path = f"/api/servers/{behind['id']}"
    changed = fleet.good("PUT", path, {"description": "in the cellar", "max_concurrent": 7})
    moving = {"description", "max_concurrent", "updated_at", "last_checked_at"}
    assert {field for field in behind if changed[field] != behind[field]} <= moving
    assert (changed["description"], changed["max_concurrent"]) == ("in the cellar", 7)
    assert fleet.ask("PUT", path, {"colour": "red"}).status_code == 422
    assert fleet.good("GET", path)["description"] == "in the cellar"
    other = fleet.add("other", "http://127.0.0.1:1", is_default=True)
    assert [fleet.row(name)["is_default"] for name in ("Far One", "other")] == [False, True]
    assert (other["available"], other["state"], other["models"], other["version"]) == (False, "down", [], None)
    fleet.good("PUT", path, {"is_default": True})
    assert [fleet.row(name)["is_default"] for name in ("Far One", "other")] == [True, False]
    fleet.good("PUT", path, {"is_active": False})
    active = fleet.good("GET", "/api/servers/?active_only=true")["servers"]
    assert [row["name"] for row in active] == ["local", "other", "filed"]
    assert fleet.chat("tiny").status_code == 404
    fleet.good("PUT", path, {"is_active": True})
    assert fleet.chat("tiny").status_code == 200


def test_what_is_not_registered_is_not_ours_to_take_away(fleet: Fleet) -> None:
    local, filed = fleet.row("local"), fleet.row("filed")
    assert (local["kind"], local["source"], filed["source"]) == ("local", "local", "file")
    for row, word in ((local, "own engine"), (filed, "file")):
        answer = fleet.ask("DELETE", f"/api/servers/{row['id']}")
        assert (answer.status_code, word in answer.text) == (409, True)
    assert fleet.ask("PUT", f"/api/servers/{filed['id']}", {"priority": 1}).status_code == 409
    assert fleet.chat("near").status_code == 200
    fleet.good("PUT", f"/api/servers/{local['id']}", {"is_active": False})
    try:
        assert fleet.chat("near").status_code == 404
    finally:
        fleet.good("PUT", f"/api/servers/{local['id']}", {"is_active": True})
    assert fleet.chat("near").status_code == 200


def test_models_that_come_and_go_are_counted(fleet: Fleet, far: Served, behind: dict[str, Any], tmp_path: Path) -> None:
    discover = f"/api/servers/{behind['id']}/discover"

    def found() -> list[int]:
        told = fleet.good("POST", discover)
        words = ("found", "added", "updated", "deactivated")
        return [*(told[f"models_{word}"] for word in words), told["total_in_db"]]

    count = len(behind["models"])
    assert found() == [count, 0, 0, 0, count]
    with Client(far.url, environ={}) as client:

        def make(seed: int) -> None:
            digest = client.upload(write_random_model(tmp_path / "guest.gguf", seed=seed))
            list(client.create(CreateRequest("guest", files=(("m.gguf", digest),))))

        make(11)
        assert found() == [count + 1, 1, 0, 0, count + 1]
        guest = fleet.models(behind)["guest:latest"]
        assert fleet.chat("guest").headers["x-localmodels-server"] == "far-one"
        fleet.good("PUT", f"/api/models/{guest['id']}", {"name": "Our guest", "capabilities": ["code"], "priority": 5})
        make(12)
        assert found() == [count + 1, 0, 1, 0, count + 1]
        assert fleet.models(behind)["guest:latest"]["digest"] != guest["digest"]
        client.delete("guest")
        assert found() == [count, 0, 0, 1, count + 1]
        gone = fleet.good("GET", f"/api/models/{guest['id']}")
        assert (gone["available"], gone["name"]) == (False, "Our guest")
        assert fleet.chat("guest").status_code == 404
        make(11)
        assert found()[0] == count + 1
        back = fleet.models(behind)["guest:latest"]
        assert (back["id"], back["name"], back["priority"]) == (guest["id"], "Our guest", 5)
        assert (back["available"], back["capabilities"]) == (True, ["code"])
        client.delete("guest")


def test_whether_a_model_is_there_is_seen_and_nothing_is_loaded_for_it(
    fleet: Fleet, far: Served, behind: dict[str, Any]
) -> None:
    tiny = fleet.models(behind)["tiny:latest"]
    if "tiny" in far.running():
        far.unload("tiny")
    check = f"/api/models/{tiny['id']}/check-availability"
    expected = {"model_id": tiny["id"], "model_name": "tiny:latest", "server_url": far.url}
    assert fleet.good("POST", check) == {**expected, "is_available": True, "is_loaded": False}
    assert "tiny" not in far.running()
    assert fleet.chat("tiny").status_code == 200
    assert fleet.good("POST", check) == {**expected, "is_available": True, "is_loaded": True}
    fleet.good("PUT", f"/api/models/{tiny['id']}", {"is_active": False})
    assert fleet.chat("tiny").status_code == 404
    assert "switched off" in fleet.good("POST", check)["error"]
    fleet.good("PUT", f"/api/models/{tiny['id']}", {"is_active": True})
    assert fleet.chat("tiny:latest").status_code == 200


@pytest.mark.parametrize("route", ["unload", "unload-from-gpu"])
def test_a_model_is_really_unloaded_where_it_is(fleet: Fleet, far: Served, behind: dict[str, Any], route: str) -> None:
    tiny = fleet.models(behind)["tiny:latest"]
    assert fleet.chat("tiny").status_code == 200
    assert "tiny" in far.running()
    done = fleet.good("POST", f"/api/models/{tiny['id']}/{route}")
    assert done["status"] == "unloaded"
    assert "tiny" not in far.running()
    again = fleet.good("POST", f"/api/models/{tiny['id']}/{route}", {} if route != "unload" else None)
    assert again["status"] == "not_loaded"
    assert again.get("server_url", far.url) == far.url


def test_our_own_models_are_unloaded_too(fleet: Fleet) -> None:
    local = fleet.row("local")
    near = fleet.models(local)["near:latest"]
    for keep, status in ((True, "moved"), (False, "unloaded")):
        assert fleet.chat("near").status_code == 200
        path = f"/api/models/{near['id']}/unload-from-gpu"
        assert fleet.good("POST", path, {"keep_on_cpu": keep}) == {"status": status, "freed_bytes": 0}
        assert ("near" in fleet.served.running()) == keep
    assert fleet.good("POST", f"/api/models/{near['id']}/unload")["status"] == "not_loaded"


@contextmanager
def canary() -> Iterator[tuple[str, list[object]]]:
    """The address of somebody who is not to be called, and who has called."""
    called: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def listen() -> None:
            while True:
                try:
                    connection, address = listener.accept()
                except OSError:
                    return
                called.append(address)
                connection.close()

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", called
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(PATIENCE)


def test_a_stranger_is_never_called(fleet: Fleet, behind: dict[str, Any], far: Served) -> None:
    with canary() as (url, called):
        host = url.removeprefix("http://")
        for stranger in (
            url, f"{url}/", host, f"{url}/api/tags", url.replace("127.0.0.1", "localhost"), f"{far.url}@{host}",
            f"http://{far.url.removeprefix('http://')}@{host}", f"{url}#{far.url}", f"{url}?{far.url}", f"//{host}",
            "http://169.254.169.254/", "file:///etc/passwd", "http://[", "x" * 3000, "",
        ):  # fmt: skip
            answer = httpx2.get(
                f"{fleet.served.url}/api/models/server/models", params={"server_url": stranger}, timeout=PATIENCE
            )
            assert answer.status_code == (404 if stranger else 400), f"{stranger}: {answer.text}"
        assert called == []
    found = httpx2.get(f"{fleet.served.url}/api/models/server/models", params={"server_url": far.url}, timeout=PATIENCE)
    assert found.json()["server"]["id"] == behind["id"]


@awaited
async def test_a_key_goes_to_its_server_and_is_seen_nowhere_else(fleet: Fleet, home: Path) -> None:
    refusing = Page(body=json.dumps({"error": f"no such key: {CANARY}"}).encode(), status=401)
    scripts = [Script()]
    async with FakeServer(lambda _: scripts[-1], names=("secretive:latest",)) as server:
        row = await _in_thread(fleet.add, "keyed", server.url, key=CANARY)
        answers = [json.dumps(row), (await _in_thread(fleet.chat, "secretive")).text]
        assert {asked.headers.get("authorization") for asked in server.asked} == {f"Bearer {CANARY}"}
        assert row["has_key"] is True
        for path in ("/api/chat", "/api/tags", "/api/version", "/api/ps"):
            server.pages[path] = refusing
        refused = await _in_thread(fleet.chat, "secretive")
        assert refused.status_code == 502
        answers += [refused.text, str(refused.headers)]
        discover = await _in_thread(fleet.ask, "POST", f"/api/servers/{row['id']}/discover")
        assert discover.status_code >= 500
        answers.append(discover.text)
        server.pages.clear()
        scripts.append(Script(breaks=Break("fail", 0, Failure(f"what is {CANARY}?", 500))))
        broken = await _in_thread(fleet.chat, "keyed/secretive")
        assert broken.status_code >= 500
        answers.append(broken.text)
        for path in (
            "/api/servers/", "/api/models/servers", f"/api/servers/{row['id']}", f"/api/servers/{row['id']}/models",
            f"/api/models/server/models?server_url={server.url}", "/api/route?model=secretive", "/health?verbose=1",
            "/metrics", "/api/tags", "/v1/models", "/api/ps", "/openapi.json", "/",
        ):  # fmt: skip
            answers.append((await _in_thread(fleet.ask, "GET", path)).text)
        # Another address without a word of the key: it is asked for, and nothing is sent there.
        async with FakeServer(names=("secretive:latest",)) as other:
            moved = await _in_thread(fleet.ask, "PUT", f"/api/servers/{row['id']}", {"url": other.url})
            assert (moved.status_code, "key" in moved.text) == (400, True)
            assert other.asked == []
            moved = await _in_thread(fleet.ask, "PUT", f"/api/servers/{row['id']}", {"url": other.url, "key": ""})
            assert (moved.status_code, moved.json()["has_key"]) == (200, False)
            assert all("authorization" not in asked.headers for asked in other.asked)
            assert other.asked
        answers.append(moved.text)
    assert not [text for text in answers if CANARY in text]
    kept_well(home)


def kept_well(home: Path) -> None:
    """The canary is in the database alone, which nobody else can read."""
    holding = [file for file in home.rglob("*") if file.is_file() and CANARY.encode() in file.read_bytes()]
    assert {file.name.removesuffix("-wal") for file in holding} <= {"state.db"}
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in home.glob("state.db*"))
    assert home.stat().st_mode & 0o777 == 0o700


async def _in_thread(call: Any, *words: Any, **named: Any) -> Any:
    return await asyncio.to_thread(call, *words, **named)


# What a key of one scope may do; 404 and 4xx that blame the body have passed the door.
SCOPES = {
    "observe": ("GET /api/servers/", "GET /api/models/servers", "GET /api/route?model=tiny", "GET {server}",
                "GET {server}/models", "GET {model}", "GET /api/models/server/models?server_url=x",
                "POST {model}/check-availability"),
    "manage": ("POST {model}/unload", "POST {model}/unload-from-gpu"),
    "admin": ("POST /api/servers/", "PUT {server}", "DELETE {server}", "POST {server}/discover", "PUT {model}"),
}  # fmt: skip


def test_each_route_asks_for_its_scope(far: Served, tmp_path: Path) -> None:
    with serve("--require-key", *QUIET, home=tmp_path, log=tmp_path / "log") as served:
        texts = {scope: made(tmp_path, scope, "--scopes", scope) for scope in ("infer", "list", "observe", "manage")}
        texts["admin"] = made(tmp_path, "root", "--admin")
        admin = Fleet(served, texts["admin"])
        eventually(lambda: admin.ask("GET", "/api/servers/").status_code == 200, "the key counts")
        server = f"/api/servers/{uuid4()}"
        model = f"/api/models/{uuid4()}"
        for needed, routes in SCOPES.items():
            for route in routes:
                method, path = route.format(server=server, model=model).split(" ")
                body: object = {} if method in {"POST", "PUT"} else None
                assert Fleet(served).ask(method, path, body).status_code == 401, route
                for scope, text in texts.items():
                    status = Fleet(served, text).ask(method, path, body).status_code
                    assert (status == 403) == (scope not in {needed, "admin"}), f"{route} with {scope}: {status}"


@pytest.mark.parametrize("kind", ["ollama", "openai"])
@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/v1/messages", "/chat"])
def test_every_answer_says_who_gave_it_and_why(fleet: Fleet, far: Served, path: str, kind: str) -> None:
    fleet.add("far", far.url, kind=kind)
    for stream in (False, True):
        for model, reason in (("tiny", "auto; "), ("far/tiny", "")):
            body = {"model": model, "messages": PROMPT, "stream": stream, "max_tokens": 4}
            if path == "/chat":
                body = {"model": model, "message": "Hello!", "stream": stream, "max_tokens": 4}
            answer = fleet.ask("POST", path, body)
            assert answer.status_code == 200, answer.text
            assert answer.headers["x-localmodels-server"] == "far"
            assert answer.headers.get("x-localmodels-route", "").startswith(reason)
    assert fleet.chat("near").headers["x-localmodels-server"] == "local"


@awaited
async def test_a_conversation_stays_where_it_is_at_home(fleet: Fleet) -> None:
    async with FakeServer(names=("twin:latest",)) as one, FakeServer(names=("twin:latest",)) as other:
        for name, server in (("one", one), ("other", other)):
            await _in_thread(fleet.add, name, server.url)

        async def asked(number: int, **headers: str) -> str:
            message = {"role": "user", "content": f"Question {number} has nothing to do with any other."}
            body = {"model": "twin", "messages": [message]}
            answer = await _in_thread(fleet.ask, "POST", "/v1/chat/completions", body, **headers)
            assert answer.status_code == 200, answer.text
            return str(answer.headers["x-localmodels-server"])

        assert {await asked(number) for number in range(6)} == {"one", "other"}
        for session in ("a", "b", "c"):
            header = {"X-LocalModels-Session": session}
            assert len({await asked(number, **header) for number in range(10, 16)}) == 1


@awaited
async def test_nobody_gets_more_at_once_than_he_may(fleet: Fleet) -> None:
    """Two places and a line of three: of twelve that come together, whatever their dialect, five are answered."""
    go_on = asyncio.Event()

    async def sleep(seconds: float) -> None:
        await go_on.wait()

    async with FakeServer(Script(first=1.0), names=("narrow:latest",), sleep=sleep) as server:
        await _in_thread(fleet.add, "tight", server.url, max_concurrent=2, max_queue=3)
        async with httpx2.AsyncClient(base_url=fleet.served.url, timeout=PATIENCE, trust_env=False) as client:

            async def ask(number: int) -> httpx2.Response:
                path = ("/api/chat", "/v1/chat/completions", "/v1/messages")[number % 3]
                model = ("narrow", "tight/narrow")[number % 2]
                fields = {"model": model, "messages": PROMPT, "stream": number % 4 == 0, "max_tokens": 4}
                return await client.post(path, json=fields)

            tasks = [asyncio.create_task(ask(number)) for number in range(12)]
            pending = set(tasks)
            while len(pending) > 5:
                _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            await server.book.nth(1)  # who has a place may still be on his way
            row = next(row for row in (await client.get("/api/servers/")).json()["servers"] if row["name"] == "tight")
            assert (row["in_flight"], server.book.open) == (2, 2)
            go_on.set()
            answers = [await task for task in tasks]
        good, refused = ([one for one in answers if (one.status_code == 200) == well] for well in (True, False))
        assert (len(good), len(server.book.visits), server.book.most) == (5, 5, 2)
        for one in refused:
            assert one.status_code in {503, 529}  # which is what Anthropic's clients know
            assert int(one.headers["retry-after"]) >= 1
            assert "tight" in one.text


def test_auto_finds_who_can_do_it(fleet: Fleet, far: Served) -> None:
    fleet.add("coder", far.url, capabilities=["code"])
    chat = fleet.chat("auto:code")
    assert (chat.status_code, chat.headers["x-localmodels-server"]) == (200, "coder")
    chosen = fleet.good("GET", "/api/route?model=auto:code")["model"]
    assert chat.headers["x-localmodels-route"].startswith(f"auto; {chosen}, ")
    assert fleet.chat("auto").status_code == 200
    vectors = fleet.good("POST", "/api/embed", {"model": "auto:embedding", "input": "Hello"})
    assert len(vectors["embeddings"]) == 1
    assert len(fleet.good("POST", "/v1/embeddings", {"model": "auto", "input": "Hello"})["data"]) == 1
    assert fleet.chat("auto:painting").status_code == 404
    route = fleet.good("GET", "/api/route?model=auto:code")
    assert [target["server"] for target in route["targets"]] == ["coder"]
    assert [one["server"] for one in route["left_out"] if one["reason"]] == ["local"]


def test_the_dry_run_says_where_and_why_and_asks_nobody(fleet: Fleet, far: Served, behind: dict[str, Any]) -> None:
    route = fleet.good("GET", "/api/route?model=both")
    assert {target["server"] for target in route["targets"]} == {"local", "far-one"}
    assert (route["policy"], route["model"].removesuffix(":latest")) == ("auto", "both")
    assert all(target["reason"] for target in route["targets"])
    assert [one["server"] for one in fleet.good("GET", "/api/route?model=tiny")["targets"]] == ["far-one"]
    assert fleet.ask("GET", "/api/route?model=nobodys").status_code == 404
    left_to_us = [fleet.good("GET", f"/api/route{query}")["model"] for query in ("", "?model=auto")]
    assert left_to_us[0] == left_to_us[1]
    first = fleet.good("GET", "/api/route?model=tiny")["targets"][0]
    assert first["server"] == fleet.chat("tiny").headers["x-localmodels-server"]


def test_lists_show_who_has_what_and_where_they_differ(fleet: Fleet, far: Served, behind: dict[str, Any]) -> None:
    rows = {row["name"]: row for row in fleet.good("GET", "/api/tags")["models"]}
    assert rows["tiny:latest"]["servers"] == ["far-one"]
    assert rows["near:latest"]["servers"] == ["local"]
    both = rows["both:latest"]
    assert (sorted(both["servers"]), both["conflict"]) == (["far-one", "local"], True)
    digests = {tag["digest"] for tag in far.get("/api/tags").json()["models"] if tag["name"] == "both:latest"}
    assert digests < set(both["digests"].values())
    entries = {row["id"]: row for row in fleet.good("GET", "/v1/models")["data"]}
    assert entries["tiny:latest"]["servers"] == ["far-one"]
    assert entries["both:latest"]["conflict"] is True
    assert "conflict" not in entries["tiny:latest"]
    assert fleet.chat("tiny").status_code == 200
    running = {row["name"]: row for row in fleet.good("GET", "/api/ps")["models"]}
    assert running["tiny:latest"]["server"] == "far-one"


def test_what_was_registered_outlives_a_new_configuration_and_a_new_start(far: Served, tmp_path: Path) -> None:
    table = '[[servers]]\nname = "{}"\nurl = "http://127.0.0.1:9"\nkind = "ollama"\n'
    file, log = tmp_path / "localmodels.toml", tmp_path / "log"
    file.write_text(table.format("before"))
    with serve(*QUIET, home=tmp_path, log=log) as served:
        fleet = Fleet(served)
        row = fleet.add("kept", far.url, priority=2, max_concurrent=9)
        tiny = fleet.models(row)["tiny:latest"]
        fleet.good("PUT", f"/api/models/{tiny['id']}", {"priority": 7})
        local = fleet.row("local")
        fleet.good("PUT", f"/api/servers/{local['id']}", {"description": "mine"})
        file.write_text(table.format("after"))
        served.signal(signal.SIGHUP)
        eventually(lambda: "after" in fleet.ask("GET", "/api/servers/").text, "the configuration is adopted")
        names = {one["name"]: one for one in fleet.good("GET", "/api/servers/")["servers"]}
        assert set(names) == {"local", "kept", "after"}
        assert fleet.chat("tiny").headers["x-localmodels-server"] == "kept"
    with serve(*QUIET, home=tmp_path, log=log) as served:
        fleet = Fleet(served)
        eventually(lambda: fleet.row("kept")["available"], "it was asked")
        again = fleet.row("kept")
        same = ("id", "name", "url", "priority", "max_concurrent", "created_at", "updated_at")
        assert {field: again[field] for field in same} == {field: row[field] for field in same}
        assert (fleet.row("local")["id"], fleet.row("local")["description"]) == (local["id"], "mine")
        assert fleet.good("GET", f"/api/models/{tiny['id']}")["priority"] == 7
        assert fleet.chat("tiny").headers["x-localmodels-server"] == "kept"


def _events(body: str) -> list[dict[str, Any]]:
    lines = (line.removeprefix("data: ") for line in body.splitlines())
    return [json.loads(line) for line in lines if line.startswith("{")]


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/api/chat", {"messages": PROMPT, "options": GREEDY}),
        ("/api/generate", {"prompt": "Hello!", "options": GREEDY}),
        ("/v1/chat/completions", {"messages": PROMPT, "max_tokens": 4}),
        ("/v1/chat/completions", {"messages": PROMPT, "max_tokens": 4, "n": 2}),
        ("/v1/completions", {"prompt": "Hello!", "max_tokens": 4}),
        ("/v1/responses", {"input": "Hello!", "max_output_tokens": 16}),
        ("/v1/messages", {"messages": PROMPT, "max_tokens": 4}),
        ("/chat", {"message": "Hello!", "max_tokens": 4}),
    ],
)
def test_an_answer_to_auto_names_the_model_that_gave_it(
    fleet: Fleet, far: Served, path: str, fields: dict[str, Any]
) -> None:
    fleet.add("coder", far.url, capabilities=["code"])
    # The one that answers is the one in memory; the third of these is on the other server alone.
    assert fleet.chat("coder/tiny").status_code == 200
    answer = fleet.ask("POST", path, {"model": "auto:code", "stream": False, **fields})
    assert answer.headers["x-localmodels-server"] == "coder"
    chosen = answer.headers["x-localmodels-route"].removeprefix("auto; ").partition(", ")[0]
    assert chosen in {"tiny:latest", "both:latest", "endless:latest", "localmodels:latest"}
    assert answer.json()["model"] in {chosen, chosen.removesuffix(":latest")}
    streamed = fleet.ask("POST", path, {"model": "auto:code", "stream": True, **fields})
    told = [event for event in _events(streamed.text) if "error" not in event or event["error"] is None]
    named = {one["model"] for event in told for one in (event, *map(event.get, ("response", "message")))
             if isinstance(one, dict) and "model" in one}  # fmt: skip
    assert named == {answer.json()["model"]}


def test_auto_is_listed_for_clients_that_ask_by_what_they_read(
    fleet: Fleet, far: Served, front: Served, tmp_path: Path
) -> None:
    def ids(path: str = "/v1/models", **headers: str) -> list[str]:
        told = fleet.ask("GET", path, **headers).json()
        return [row.get("id") or row["name"] for row in told.get("data") or told["models"]]

    fleet.add("coder", far.url, capabilities=["code"])
    assert [name for name in ids() if name.startswith("auto")][:2] == ["auto", "auto:code"]
    assert ids()[-1].startswith("auto"), "whoever takes the first gets a model"
    entry = fleet.good("GET", "/v1/models/auto:code")
    assert (entry["id"], entry["owned_by"]) == ("auto:code", "localmodels")
    assert "auto" in ids("/v1/models?limit=100", **{"anthropic-version": "2023-06-01"})
    assert fleet.good("GET", "/v1/models/auto")["context_length"] > 0
    for path in ("/api/tags", "/models"):
        assert not [name for name in ids(path) if name.startswith("auto")], "they would show, copy and delete it"
    assert not [name for name in ids(**{"x-localmodels-via": "another"}) if name.startswith("auto")]


def test_a_key_for_one_server_sees_its_models(fleet: Fleet, far: Served, home: Path) -> None:
    fleet.add("s2", far.url)
    assert fleet.chat("s2/tiny").status_code == 200
    key = Fleet(fleet.served, made(home, "s2-alone", "--only", "s2/*"))
    own = Fleet(fleet.served, made(home, "own-alone", "--only", "local/*"))
    eventually(lambda: {one.ask("GET", "/api/version").status_code for one in (key, own)} == {200}, "the keys count")
    names = {"s2/tiny:latest", "s2/endless:latest", "s2/embedder:latest", "s2/both:latest", "s2/localmodels:latest"}
    for asked, expected in (
        (key, names),
        (own, {"local/near:latest", "local/both:latest", "local/localmodels:latest"}),
    ):
        listed = [
            {row["name"] for row in asked.good("GET", "/api/tags")["models"]},
            {row["name"] for row in asked.good("GET", "/models")["models"]},
            {row["id"] for row in asked.good("GET", "/v1/models")["data"]},
            {row["id"] for row in asked.ask("GET", "/v1/models", **{"anthropic-version": "1"}).json()["data"]},
        ]
        assert listed == [expected] * 4
        for name in expected:
            assert asked.good("GET", f"/v1/models/{name}")["id"] == name
            assert asked.good("POST", "/api/show", {"model": name})["name"] == name
    for query in ("", "?server=s2"):  # `both` is the same file
        names = {row["name"] for row in key.good("GET", f"/api/ps{query}")["models"]}
        assert names & {"s2/tiny:latest", "s2/both:latest"}
        assert all(name.startswith("s2/") for name in names)
    assert key.chat("s2/tiny:latest").status_code == own.chat("local/near:latest").status_code == 200
    assert key.chat("tiny").status_code == own.chat("near").status_code == 403


@awaited
async def test_a_server_that_refuses_a_request_is_in_no_list_after_it(fleet: Fleet) -> None:
    def holders() -> set[str]:
        return {name for row in fleet.good("GET", "/api/tags")["models"] for name in row.get("servers", ())}

    for number in range(5):
        async with FakeServer(names=("gone:latest",)) as server:
            await _in_thread(fleet.add, f"gone{number}", server.url)
            assert f"gone{number}" in await _in_thread(holders)
        assert (await _in_thread(fleet.chat, f"gone{number}/gone")).status_code == 502
        if number % 2:
            assert f"gone{number}" not in await _in_thread(holders)
        else:
            assert (await _in_thread(fleet.row, f"gone{number}"))["state"] == "down"
