"""The ASGI application: who answers, in which dialect it refuses, and what becomes of what nobody foresaw."""

import asyncio
import json
import logging
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from localmodels.core.errors import MethodNotAllowed, NotFound
from localmodels.server.app import Application, dialect_of
from localmodels.server.gate import Gate
from localmodels.server.routes import Directory, Row
from localmodels.server.wire import begin, respond


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    await respond(send, 200, json.dumps([scope["method"], scope["path_params"]]).encode())


async def fails(scope: Scope, receive: Receive, send: Send) -> None:
    raise ZeroDivisionError


async def fails_late(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send, 200, "text/plain")
    raise ZeroDivisionError


ROWS = (
    Row(("GET", "POST"), "/api/show", "ollama", "", echo),
    Row(("GET",), "/v1/models/{id:path}", "openai", "", echo),
    Row(("GET",), "/v1/fails", "openai", "", fails),
    Row(("GET",), "/fails-late", "plain", "", fails_late),
)


def ask(path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
    }
    if "host" not in headers:
        scope["headers"].append((b"host", b"localhost"))  # type: ignore[attr-defined]
    asyncio.run(Application(ROWS, Gate(origins=["https://ok.example"]))(scope, receive, send))
    start = sent[0]
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return start["status"], {name.decode(): value.decode() for name, value in start["headers"]}, body


def test_an_exact_path_and_a_pattern() -> None:
    assert ask("/api/show", "POST")[2] == b'["POST", {}]'
    assert ask("/v1/models/hf.co/a/b:c")[2] == b'["GET", {"id": "hf.co/a/b:c"}]'


@pytest.mark.parametrize(
    ("path", "method", "status", "body"),
    [
        ("/v1/nothing", "GET", 404, {"error": {"message": "there is nothing at /v1/nothing"}}),
        ("/api/nothing", "GET", 404, {"error": "there is nothing at /api/nothing"}),
        ("/ollama/api/nothing", "GET", 404, {"error": "there is nothing at /ollama/api/nothing"}),
        ("/nothing", "GET", 404, {"detail": "there is nothing at /nothing"}),
        ("/api/show/", "GET", 404, {"error": "there is nothing at /api/show/"}),
        ("/api/show", "DELETE", 405, {"error": "DELETE is not allowed here; GET, POST is"}),
        ("/v1/fails", "GET", 500, {"error": {"message": "internal error; the server's log has the details"}}),
    ],
)
def test_a_refusal_is_in_the_dialect_of_the_path(
    path: str, method: str, status: int, body: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.CRITICAL):
        answered, _, data = ask(path, method)
    told = json.loads(data)
    if isinstance(body.get("error"), dict):
        told = {"error": {"message": told["error"]["message"]}}
    assert (answered, told) == (status, body)


def test_a_wrong_method_is_told_the_right_ones() -> None:
    assert ask("/api/show", "DELETE")[1]["allow"] == "GET, POST"


def test_a_defect_after_the_answer_began_ends_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.CRITICAL), pytest.raises(ZeroDivisionError):
        ask("/fails-late")


def test_a_stranger_s_host_gets_no_further() -> None:
    status, _, body = ask("/api/show", host="evil.example")
    assert status == 421
    assert b"evil.example" in body


def test_only_an_allowed_origin_may_read_the_answer() -> None:
    status, headers, _ = ask("/api/show", origin="https://ok.example")
    assert (status, headers["access-control-allow-origin"]) == (200, "https://ok.example")
    assert "access-control-allow-origin" not in ask("/api/show", origin="http://localhost")[1]
    assert ask("/api/show", origin="https://evil.example")[0] == 403


def test_a_preflight_of_an_allowed_origin() -> None:
    status, headers, _ = ask("/v1/models/x", "OPTIONS", origin="https://ok.example")
    assert status == 204
    assert headers["access-control-allow-origin"] == "https://ok.example"
    assert "POST" in headers["access-control-allow-methods"]


def test_the_directory_names_what_would_be_right() -> None:
    directory = Directory(ROWS)
    with pytest.raises(NotFound):
        directory.find("GET", "/api/show/x")
    with pytest.raises(MethodNotAllowed, match="GET, POST"):
        directory.find("PUT", "/api/show")


def test_every_path_has_a_dialect() -> None:
    assert dialect_of("/v1/chat/completions") is not dialect_of("/api/chat")
    assert dialect_of("/ollama/api/chat") is dialect_of("/api/chat")
    assert dialect_of("/v1") is dialect_of("/metrics")
