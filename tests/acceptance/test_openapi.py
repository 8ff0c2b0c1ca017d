"""The description at ``/openapi.json`` is true: what the server takes and gives is what it says."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import jsonschema
import pytest
from tests.acceptance.serving import PATIENCE, Served, eventually

FEW = {"num_predict": 3}
HI = [{"role": "user", "content": "Hi"}]
LONG = [{"role": role, "content": f"Turn {turn}."} for turn in range(40) for role in ("user", "assistant")]
ANTHROPIC = {"anthropic-version": "2023-06-01"}
RANKED = {"model": "reranker", "query": "a", "documents": ["a", "b"], "return_documents": True}
STREAM = "x-item-schema"
# Headers of answers that are said to programs, and not to browsers or to the connection.
TOLD = re.compile(r"(?:x-)?request-id|retry-after(?:-ms)?|x-should-retry|(?:x|anthropic)-ratelimit-.+|x-localmodels-.+")

Operation = tuple[str, str]

# Requests that are answered, by the route that they are for.
ASKED: list[tuple[str, str, str, Any]] = [
    ("get", "/", "/", None),
    ("head", "/", "/", None),
    ("get", "/metrics", "/metrics", None),
    ("get", "/openapi.json", "/openapi.json", None),
    ("get", "/docs", "/docs", None),
    ("get", "/health", "/health?verbose=1", None),
    ("post", "/api/chat", "/api/chat", {"model": "tiny", "messages": HI, "stream": False, "options": FEW}),
    ("post", "/api/generate", "/api/generate", {"model": "tiny", "prompt": "Hi", "stream": False, "options": FEW}),
    ("post", "/api/embed", "/api/embed", {"model": "embedder", "input": ["a", "b"]}),
    ("post", "/api/embeddings", "/api/embeddings", {"model": "embedder", "prompt": "a"}),
    ("get", "/api/tags", "/api/tags", None),
    ("head", "/api/tags", "/api/tags", None),
    ("get", "/api/show", "/api/show?name=tiny&verbose=1", None),
    ("post", "/api/show", "/api/show", {"model": "tiny"}),
    ("get", "/api/ps", "/api/ps", None),
    ("get", "/api/version", "/api/version", None),
    ("head", "/api/version", "/api/version", None),
    ("post", "/api/copy", "/api/copy", {"source": "localmodels", "destination": "described"}),
    ("delete", "/api/delete", "/api/delete", {"model": "described"}),
    ("get", "/api/keys", "/api/keys", None),
    ("get", "/api/usage", "/api/usage", None),
    ("get", "/api/tasks", "/api/tasks", None),
    *(
        ("get", path, path, None)
        for path in ("/api/servers", "/api/servers/", "/api/models/servers", "/api/models/servers/")
    ),
    *(("get", path, f"{path}?model=tiny", None) for path in ("/api/route", "/api/route/")),
    ("post", "/v1/chat/completions", "/v1/chat/completions", {"model": "tiny", "messages": HI, "max_tokens": 3}),
    ("post", "/v1/completions", "/v1/completions", {"model": "tiny", "prompt": "Hi", "max_tokens": 3}),
    ("post", "/v1/embeddings", "/v1/embeddings", {"model": "embedder", "input": "a"}),
    ("get", "/v1/models", "/v1/models", None),
    ("get", "/v1/models/{id}", "/v1/models/tiny", None),
    ("post", "/v1/responses", "/v1/responses", {"model": "tiny", "input": "Hi", "max_output_tokens": 3}),
    ("post", "/v1/responses/input_tokens", "/v1/responses/input_tokens", {"model": "tiny", "input": "Hi"}),
    ("post", "/v1/messages", "/v1/messages", {"model": "tiny", "messages": HI, "max_tokens": 3}),
    ("post", "/v1/messages/count_tokens", "/v1/messages/count_tokens", {"model": "tiny", "messages": HI}),
    *(("post", path, path, RANKED) for path in ("/v1/rerank", "/v2/rerank", "/rerank", "/api/rerank")),
    ("post", "/rerank", "/rerank", {"query": "a", "texts": ["a", "b"], "return_text": True}),
    ("get", "/models", "/models", None),
    ("post", "/chat", "/chat", {"model": "tiny", "message": "Hi", "max_tokens": 3}),
    ("post", "/chat/{model_name}", "/chat/tiny", {"message": "Hi", "max_tokens": 3}),
    ("post", "/tokenize", "/tokenize", {"model": "tiny", "content": "Hi"}),
    ("post", "/detokenize", "/detokenize", {"model": "tiny", "tokens": [1, 2]}),
]

# The others that are asked are asked in a row, since each needs what the one before it made.
KEPT: set[Operation] = {
    ("post", "/v1/responses"),
    ("get", "/v1/responses/{id}"),
    ("delete", "/v1/responses/{id}"),
    ("post", "/v1/responses/{id}/cancel"),
    ("get", "/v1/responses/{id}/input_items"),
    ("post", "/api/keys"),
    ("delete", "/api/keys/{id}"),
}
DEPLOYED: set[Operation] = {
    ("post", "/models/upload/"),
    ("post", "/models/create/"),
    ("post", "/models/deploy/"),
    ("get", "/models/"),
    ("delete", "/models/"),
    ("get", "/api/tasks/{uuid}"),
    ("get", "/api/tasks/{uuid}/events"),
    ("delete", "/api/tasks/{uuid}"),
}
CREATED: set[Operation] = {
    ("post", "/api/create"),
    ("head", "/api/blobs/{digest}"),
    ("post", "/api/blobs/{digest}"),
    ("delete", "/api/delete"),
}
REFUSED: set[Operation] = {("post", "/v1/responses/compact")}
FLEET: set[Operation] = {
    (method, path + slash)
    for path, methods in {
        "/api/servers": ("get", "post"),
        "/api/servers/{server_id}": ("get", "put", "delete"),
        "/api/servers/{server_id}/discover": ("post",),
        "/api/servers/{server_id}/models": ("get",),
        "/api/models/server/models": ("get",),
        "/api/models/{model_id}": ("get", "put"),
        "/api/models/{model_id}/check-availability": ("post",),
        "/api/models/{model_id}/unload": ("post",),
        "/api/models/{model_id}/unload-from-gpu": ("post",),
    }.items()
    for method in methods
    for slash in ("", "/")
}
# Whose answers are not compared here with the description, and why.
LEFT_OUT: Mapping[Operation, str] = {
    ("post", "/api/pull"): "needs a registry: test_pulls.py has one",
    ("post", "/api/push"): "needs a registry: test_registries.py has one",
    ("post", "/api/tasks/{uuid}/retry"): "needs a task that failed: test_deploy_ends.py has some",
    ("delete", "/api/models/{model_id}"): "forgets what is gone from another server: tests/unit/server/test_servers.py",
    ("delete", "/api/models/{model_id}/"): "likewise",
}


class Asker:
    """Asks the server, and compares what it takes and gives with what it says of itself.

    Attributes:
        met: the operations that were asked.
    """

    def __init__(self, served: Served, document: dict[str, Any]) -> None:
        self._served = served
        self._parts = document["components"]
        self._paths = document["paths"]
        self.met: set[Operation] = set()

    def check(self, schema: dict[str, Any], value: object) -> None:
        jsonschema.Draft202012Validator({**schema, "components": self._parts}).validate(value)

    def told(self, method: str, path: str, status: int) -> dict[str, Any]:
        """What an operation says of an answer with this status."""
        answers = self._paths[path][method]["responses"]
        answer = answers.get(str(status)) or answers[f"{status // 100}XX"]
        told: dict[str, Any] = answer
        return self._parts["responses"][told["$ref"].rpartition("/")[2]] if "$ref" in told else told

    def declared(self, method: str, path: str, status: int) -> set[str]:
        """The headers of such an answer."""
        headers = self.told(method, path, status)["headers"]
        assert set(headers) <= set(self._parts["headers"])
        return {name.lower() for name in headers}

    def ask(
        self, method: str, path: str, url: str = "", body: Any = None, status: int = 200, **more: Any
    ) -> httpx2.Response:
        """The answer, which is as described: its status, its head, its type, and what it holds."""
        if body is not None:
            taken = self._paths[path][method]["requestBody"]["content"]["application/json"]["schema"]
            self.check(taken, body)
            more["json"] = body
        answer = httpx2.request(method, self._served.url + (url or path), timeout=PATIENCE, **more)
        assert answer.status_code == status, answer.text
        self.compare(method, path, answer)
        self.met.add((method, path))
        return answer

    def compare(self, method: str, path: str, answer: httpx2.Response) -> None:
        headers = {name.lower() for name in answer.headers if TOLD.fullmatch(name.lower())}
        assert headers <= self.declared(method, path, answer.status_code)
        if method == "head" or not answer.content:
            return
        kind = answer.headers["content-type"].partition(";")[0]
        told = self.told(method, path, answer.status_code)["content"][kind]
        if STREAM not in told:
            self.check(told["schema"], answer.json() if kind == "application/json" else answer.text)
            return
        *pieces, last = pieces_of(kind, answer.text)
        if (end := re.search(r"; the last says `(.*)`", told["schema"]["description"])) is not None:
            assert last == end[1]
        else:
            pieces.append(last)
        assert pieces
        for piece in pieces:
            self.check(told[STREAM], json.loads(piece))


def pieces_of(kind: str, text: str) -> list[str]:
    """The lines, or the data of the events."""
    if kind == "application/x-ndjson":
        return text.splitlines()
    return [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]


@pytest.fixture(scope="module")
def document(served: Served) -> dict[str, Any]:
    described: dict[str, Any] = served.get("/openapi.json").json()
    return described


@pytest.fixture
def asker(served: Served, document: dict[str, Any]) -> Asker:
    return Asker(served, document)


@pytest.mark.parametrize(("method", "path", "url", "body"), ASKED, ids=[f"{one[0]} {one[2]}" for one in ASKED])
def test_a_request_and_its_answer_are_as_described(asker: Asker, method: str, path: str, url: str, body: Any) -> None:
    answer = asker.ask(method, path, url, body)
    # Who asks a model is told by whom it was answered, and nobody else is.
    assert ("x-localmodels-server" in answer.headers) == (
        "x-localmodels-server" in asker.declared(method, path, answer.status_code)
    )


def test_models_for_anthropic_s_clients_too(asker: Asker) -> None:
    for path, url in (("/v1/models", "/v1/models"), ("/v1/models/{id}", "/v1/models/tiny")):
        assert asker.ask("get", path, url, headers=ANTHROPIC).json() != asker.ask("get", path, url).json()


CONVERSING = [
    (method, path, url, body)
    for method, path, url, body in ASKED
    if method == "post" and body is not None and ("messages" in body or "prompt" in body or "message" in body)
    if "embeddings" not in path and "count" not in path
] + [("post", "/v1/responses", "/v1/responses", {"model": "tiny", "input": "Hi", "max_output_tokens": 3})]
IDS = [url for _, _, url, _ in CONVERSING]


@pytest.mark.parametrize(("method", "path", "url", "body"), CONVERSING, ids=IDS)
def test_every_piece_of_a_stream_is_as_described(asker: Asker, method: str, path: str, url: str, body: Any) -> None:
    answer = asker.ask(method, path, url, {**body, "stream": True})
    assert answer.headers["content-type"].partition(";")[0] != "application/json"


# What these let pass beside an option that nobody knows; others refuse it.
_NONSENSE = {"type": "nonsense_20990101", "name": "nonsense"}
ODD: Mapping[str, dict[str, Any]] = {
    "/v1/messages": {"tools": [_NONSENSE]},
    "/v1/responses": {"tools": [_NONSENSE], "input": [_NONSENSE, *HI]},
}


@pytest.mark.parametrize(("method", "path", "url", "body"), CONVERSING, ids=IDS)
def test_what_is_not_heeded_is_told_as_described(asker: Asker, method: str, path: str, url: str, body: Any) -> None:
    odd = {"options": {**body.get("options", {}), "nonsense": 1}, **ODD.get(path, {})}
    answer = asker.ask(method, path, url, {**body, **odd})
    ignored = {name.lower() for name in answer.headers if "-ignored-" in name.lower()}
    assert ignored == {name for name in asker.declared(method, path, 200) if "-ignored-" in name}
    assert "x-localmodels-ignored-options" in ignored


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/chat", {"messages": [*LONG, *HI], "options": FEW, "stream": False}),
        ("/v1/chat/completions", {"messages": [*LONG, *HI], "max_tokens": 3, "truncation": "auto"}),
        ("/v1/messages", {"messages": [*LONG, *HI], "max_tokens": 3}),
        ("/v1/responses", {"input": [*LONG, *HI], "max_output_tokens": 3, "truncation": "auto"}),
    ],
)
def test_what_was_left_out_is_told_as_described(asker: Asker, path: str, body: dict[str, Any]) -> None:
    answer = asker.ask("post", path, body={"model": "narrow", **body})
    assert int(answer.headers["x-localmodels-truncated"]) > 0


@pytest.mark.parametrize("headers", [{}, ANTHROPIC], ids=["", "anthropic-version"])
@pytest.mark.parametrize(
    ("method", "path"),
    [(method, path) for method, path, _, body in ASKED if body is not None],
)
def test_a_refusal_is_as_described(
    served: Served, asker: Asker, method: str, path: str, headers: dict[str, str]
) -> None:
    url = served.url + path.replace("{model_name}", "x")
    answer = httpx2.request(method, url, content=b"{", headers=headers, timeout=PATIENCE)
    assert 400 <= answer.status_code < 500
    asker.compare(method, path, answer)


def test_what_is_always_refused_is_refused_as_described(asker: Asker) -> None:
    asker.ask("post", "/v1/responses/compact", body={"model": "tiny", "input": "Hi"}, status=400)
    assert asker.met == REFUSED


def test_the_limits_of_a_key_are_told_as_described(served: Served, asker: Asker) -> None:
    made = asker.ask("post", "/api/keys", body={"name": "limited", "requests_per_minute": 1}).json()
    url, key = f"{served.url}/api/version", {"authorization": f"Bearer {made['key']}"}
    first, second = (httpx2.get(url, headers=key, timeout=PATIENCE) for _ in range(2))
    asker.ask("delete", "/api/keys/{id}", f"/api/keys/{made['id']}")
    for answer, status in ((first, 200), (second, 429)):
        assert answer.status_code == status
        assert "x-ratelimit-limit-requests" in answer.headers
        asker.compare("get", "/api/version", answer)
    assert {"retry-after", "retry-after-ms"} <= set(second.headers)


def test_what_is_kept_is_as_described(asker: Asker) -> None:
    long = {"model": "leaver", "input": "Hi", "background": True, "max_output_tokens": 100_000, "truncation": "auto"}
    made = asker.ask("post", "/v1/responses", body=long).json()
    path, url = "/v1/responses/{id}", f"/v1/responses/{made['id']}"
    assert made["status"] in {"queued", "in_progress"}

    def said() -> list[dict[str, Any]]:
        output: list[dict[str, Any]] = asker.ask("get", path, url).json()["output"]
        return output

    eventually(said, "it says something")
    assert asker.ask("get", f"{path}/input_items", f"{url}/input_items?limit=1").json()["data"]
    assert asker.ask("post", f"{path}/cancel", f"{url}/cancel").json()["status"] == "cancelled"
    asker.ask("get", path, f"{url}?stream=true")
    assert asker.ask("delete", path, url).json()["deleted"]
    asker.ask("get", path, url, status=404)

    key = asker.ask("post", "/api/keys", body={"name": "described", "expires_at": "2099-01-01T00:00:00Z"}).json()
    assert asker.ask("delete", "/api/keys/{id}", f"/api/keys/{key['id']}").json()["state"] == "revoked"
    assert asker.met == KEPT


def test_what_is_deployed_is_as_described(asker: Asker, models: dict[str, Path]) -> None:
    content, name = models["brief"].read_bytes(), {"model_name_on_ollama": "deployed"}
    story = asker.ask("post", "/models/upload/", files={"Model": ("described.gguf", content)}).text.splitlines()
    task = json.loads(story[-1])["message"]["task_uuid"]
    asker.ask("post", "/models/create/", body={"model": "described", **name})
    asker.ask("post", "/models/deploy/", files={"Model": ("deployed.gguf", content)}, data=name)
    asker.ask("get", "/models/")
    asker.ask("get", "/api/tasks/{uuid}", f"/api/tasks/{task}")
    asker.ask("get", "/api/tasks/{uuid}/events", f"/api/tasks/{task}/events")
    asker.ask("delete", "/api/tasks/{uuid}", f"/api/tasks/{task}")
    for artifact in ("described", "deployed"):
        asker.ask("delete", "/models/", body={"model": artifact})
    assert asker.met == DEPLOYED
    asker.ask("delete", "/api/delete", body={"model": "deployed"})


def test_what_is_created_is_as_described(asker: Asker, models: dict[str, Path]) -> None:
    content = models["brief"].read_bytes()
    digest = f"sha256:{sha256(content).hexdigest()}"
    path, url = "/api/blobs/{digest}", f"/api/blobs/{digest}"
    asker.ask("head", path, f"/api/blobs/sha256:{0:064}", status=404)
    asker.ask("post", path, url, content=content, status=201)
    asker.ask("head", path, url)
    for stream in (True, False):
        made = {"model": "described", "files": {"brief.gguf": digest}, "system": "x", "stream": stream}
        asker.ask("post", "/api/create", body=made)
    asker.ask("delete", "/api/delete", body={"model": "described"})
    assert asker.met == CREATED


# Requests of the fleet about a server, and then about one of its models: what they give has the status 200.
OF_A_SERVER: list[tuple[str, str, Any]] = [
    ("get", "", None),
    ("put", "", {"description": "described"}),
    ("post", "/discover", None),
    ("get", "/models", None),
]
OF_A_MODEL: list[tuple[str, str, Any]] = [
    ("get", "", None),
    ("put", "", {"name": "described", "priority": 1}),
    ("post", "/check-availability", None),
    ("post", "/unload", None),
    ("post", "/unload-from-gpu", {"keep_on_cpu": False}),
]


@pytest.mark.parametrize("slash", ["", "/"])
def test_the_fleet_s_routes_are_as_described(served: Served, asker: Asker, slash: str) -> None:
    def asked(method: str, path: str, at: str, body: Any, status: int = 200) -> dict[str, Any]:
        bare, mark, query = at.partition("?")
        told: dict[str, Any] = asker.ask(method, path + slash, f"{bare}{slash}{mark}{query}", body, status).json()
        return told

    dead = {"name": "described", "url": "http://127.0.0.1:9", "kind": "openai", "max_concurrent": 2}
    made = asked("post", "/api/servers", "/api/servers", dead, 201)
    local = next(one for one in asked("get", "/api/servers", "/api/servers", None)["servers"] if one["name"] == "local")
    for method, tail, body in OF_A_SERVER:
        asked(method, f"/api/servers/{{server_id}}{tail}", f"/api/servers/{local['id']}{tail}", body)
    asked("get", "/api/models/server/models", f"/api/models/server/models?server_url={local['url']}", None)

    models = served.get(f"/api/servers/{local['id']}/models").json()["models"]
    model = next(one for one in models if one["model"].startswith("tiny"))
    for method, tail, body in OF_A_MODEL:
        asked(method, f"/api/models/{{model_id}}{tail}", f"/api/models/{model['id']}{tail}", body)
    asked("delete", "/api/servers/{server_id}", f"/api/servers/{made['id']}", None)
    assert asker.met == {(method, path) for method, path in FLEET if path.endswith("/") == bool(slash)}


def test_the_page_is_for_people_and_runs_nothing(served: Served) -> None:
    answer = served.get("/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "/v1/chat/completions" in answer.text


def test_every_operation_was_asked_or_is_excused(document: dict[str, Any]) -> None:
    """A route that is new belongs into one of the tables above: into the last with a reason that is true."""
    every = {(method, path) for path, methods in document["paths"].items() for method in methods}
    own = {(method, path) for method, path in every if not path.startswith("/ollama/")}  # those are the same rows
    asked = {(method, path) for method, path, _, _ in ASKED} | KEPT | DEPLOYED | CREATED | REFUSED | FLEET
    assert own - asked == set(LEFT_OUT)
    assert asked <= own
