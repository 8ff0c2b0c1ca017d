"""The description at ``/openapi.json`` is true: what the server takes and gives is what it says."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import jsonschema
import pytest
from tests.acceptance.serving import PATIENCE, Served

FEW = {"num_predict": 3}
HI = [{"role": "user", "content": "Hi"}]
ANTHROPIC = {"anthropic-version": "2023-06-01"}

# Requests that are answered, by the route that they are for.
ASKED: list[tuple[str, str, str, Any]] = [
    ("get", "/", "/", None),
    ("get", "/health", "/health?verbose=1", None),
    ("post", "/api/chat", "/api/chat", {"model": "tiny", "messages": HI, "stream": False, "options": FEW}),
    ("post", "/api/generate", "/api/generate", {"model": "tiny", "prompt": "Hi", "stream": False, "options": FEW}),
    ("post", "/api/embed", "/api/embed", {"model": "embedder", "input": ["a", "b"]}),
    ("post", "/api/embeddings", "/api/embeddings", {"model": "embedder", "prompt": "a"}),
    ("get", "/api/tags", "/api/tags", None),
    ("get", "/api/show", "/api/show?name=tiny&verbose=1", None),
    ("post", "/api/show", "/api/show", {"model": "tiny"}),
    ("get", "/api/ps", "/api/ps", None),
    ("get", "/api/version", "/api/version", None),
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
    ("get", "/models", "/models", None),
    ("post", "/chat", "/chat", {"model": "tiny", "message": "Hi", "max_tokens": 3}),
    ("post", "/chat/{model_name}", "/chat/tiny", {"message": "Hi", "max_tokens": 3}),
    ("post", "/tokenize", "/tokenize", {"model": "tiny", "content": "Hi"}),
    ("post", "/detokenize", "/detokenize", {"model": "tiny", "tokens": [1, 2]}),
]

FLEET = (
    "/api/servers",
    "/api/servers/{server_id}",
    "/api/servers/{server_id}/discover",
    "/api/servers/{server_id}/models",
    "/api/models/server/models",
    "/api/models/{model_id}",
    "/api/models/{model_id}/check-availability",
    "/api/models/{model_id}/unload",
    "/api/models/{model_id}/unload-from-gpu",
)


@pytest.fixture(scope="module")
def document(served: Served) -> dict[str, Any]:
    described: dict[str, Any] = served.get("/openapi.json").json()
    return described


def check(document: dict[str, Any], schema: dict[str, Any], value: object) -> None:
    jsonschema.Draft202012Validator({**schema, "components": document["components"]}).validate(value)


@pytest.mark.parametrize(("method", "path", "url", "body"), ASKED, ids=[f"{one[0]} {one[2]}" for one in ASKED])
def test_a_request_and_its_answer_are_as_described(
    served: Served, document: dict[str, Any], method: str, path: str, url: str, body: Any
) -> None:
    operation = document["paths"][path][method]
    if body is not None:
        check(document, operation["requestBody"]["content"]["application/json"]["schema"], body)
    answer = httpx2.request(method, served.url + url, json=body, timeout=PATIENCE)
    assert answer.status_code == 200, answer.text
    check(document, operation["responses"]["200"]["content"]["application/json"]["schema"], answer.json())


def test_models_for_anthropic_s_clients_too(served: Served, document: dict[str, Any]) -> None:
    schema = document["paths"]["/v1/models"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    check(document, schema, served.get("/v1/models", headers=ANTHROPIC).json())


@pytest.mark.parametrize(
    ("method", "path"),
    [(method, path) for method, path, _, body in ASKED if body is not None],
)
def test_a_refusal_is_as_described(served: Served, document: dict[str, Any], method: str, path: str) -> None:
    answer = httpx2.request(method, served.url + path.replace("{model_name}", "x"), content=b"{", timeout=PATIENCE)
    assert 400 <= answer.status_code < 500
    schema = document["paths"][path][method]["responses"]["4XX"]["content"]["application/json"]["schema"]
    check(document, schema, answer.json())


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
def test_the_fleet_s_routes_are_as_described(served: Served, document: dict[str, Any], slash: str) -> None:
    def asked(method: str, path: str, at: str, body: Any, status: int = 200) -> dict[str, Any]:
        operation = document["paths"][path + slash][method]
        if body is not None:
            check(document, operation["requestBody"]["content"]["application/json"]["schema"], body)
        bare, mark, query = at.partition("?")
        answer = httpx2.request(method, f"{served.url}{bare}{slash}{mark}{query}", json=body, timeout=PATIENCE)
        assert answer.status_code == status, answer.text
        check(document, operation["responses"][str(status)]["content"]["application/json"]["schema"], answer.json())
        told: dict[str, Any] = answer.json()
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


def test_the_page_is_for_people_and_runs_nothing(served: Served) -> None:
    answer = served.get("/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "/v1/chat/completions" in answer.text


def test_every_route_but_those_that_need_more_was_asked(document: dict[str, Any]) -> None:
    every = {(method, path) for path, methods in document["paths"].items() for method in methods}
    asked = {(method, path) for method, path, _, _ in ASKED}
    left = {path for method, path in every - asked if method != "head" and not path.startswith("/ollama/")}
    assert left == {
        *("/openapi.json", "/docs", "/metrics"),  # asked above, or elsewhere
        *("/api/pull", "/api/push", "/api/create", "/api/blobs/{digest}"),  # lines of progress, bytes
        *("/models/", "/models/upload/", "/models/create/", "/models/deploy/"),  # likewise
        *("/api/tasks/{uuid}", "/api/tasks/{uuid}/events", "/api/tasks/{uuid}/retry"),  # need a task
        *("/api/keys/{id}", "/api/keys"),
        *("/v1/responses/compact", "/v1/responses/{id}", "/v1/responses/{id}/cancel", "/v1/responses/{id}/input_items"),
        *("/v1/rerank", "/v2/rerank", "/rerank", "/api/rerank"),  # need a model of their own
        # Asked above, each with and without its slash.
        *(path + slash for path in FLEET for slash in ("", "/")),
    }, json.dumps(sorted(left))
