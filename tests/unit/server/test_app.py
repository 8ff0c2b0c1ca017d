"""The ASGI application: who answers, in which dialect it refuses, and what becomes of what nobody foresaw."""

import asyncio
import json
import logging
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send
from tests.everybody import Everybody
from tests.garbage import left_over

from localmodels.core.access import STRANGER, Caller, Withheld
from localmodels.core.errors import (
    LocalModelsError,
    MethodNotAllowed,
    ModelDamaged,
    NotFound,
    RateLimited,
    RequestTimeout,
    ShuttingDown,
)
from localmodels.flows.fleet_library.target_servers import NoSuchServer
from localmodels.flows.visit import Visit
from localmodels.server.app import Application, Outcome, dialect_of
from localmodels.server.edge.seam import EDGE
from localmodels.server.gate import Gate
from localmodels.server.permissions import Grants
from localmodels.server.routes import Directory, Row
from localmodels.server.wire import Headers, begin, header, respond


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    await respond(send, 200, json.dumps([scope["method"], scope["path_params"]]).encode())


async def fails(scope: Scope, receive: Receive, send: Send) -> None:
    raise ZeroDivisionError


async def fails_late(scope: Scope, receive: Receive, send: Send) -> None:
    await begin(send, 200, "text/plain")
    raise ZeroDivisionError


async def refuses(scope: Scope, receive: Receive, send: Send) -> None:
    raise NotFound("there is nothing at x")


async def tells(scope: Scope, receive: Receive, send: Send) -> None:
    head = [(b"x-ratelimit-limit-requests", b"3"), (b"x-localmodels-truncated", b"1"), (b"retry-after", b"1")]
    await respond(send, 200, b"", headers=head)


ROWS = (
    Row(("GET", "POST"), "/api/show", "ollama", "", echo),
    Row(("GET",), "/v1/models/{id:path}", "openai", "", echo),
    Row(("GET",), "/v1/fails", "openai", "", fails),
    Row(("GET",), "/fails-late", "plain", "", fails_late),
    Row(("GET",), "/v1/told", "openai", "", tells),
    Row(("GET",), "/v1/plainly", "plain", "", refuses),
    Row(("GET",), "/keys", "management", "", refuses),
    Row(("GET",), "/elsewhere", "openai", "", refuses),
)
GRANTS: Grants = {row.path: dict.fromkeys(row.methods, "open") for row in ROWS}


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
    application = Application(ROWS, Gate(origins=["https://ok.example"]), Everybody(), permissions=GRANTS, gateway="us")
    asyncio.run(application(scope, receive, send))
    start = sent[0]
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return start["status"], {name.decode(): value.decode() for name, value in start["headers"]}, body


@pytest.mark.parametrize(
    ("via", "method", "status"),
    [
        ("them", "POST", 200),
        ("them, others", "POST", 200),
        ("us", "POST", 508),
        ("them,us,others", "POST", 508),
        ("them, us", "GET", 200),
        ("a, b, c, d", "POST", 508),
        ("a, b, c, d", "GET", 508),
        ("no gateway", "POST", 400),
    ],
)
def test_what_was_here_before_goes_no_further(via: str, method: str, status: int) -> None:
    """Looks are answered all the same: two gateways may show each other what they have."""
    assert ask("/api/show", method, x_localmodels_via=via)[0] == status


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
        ("/api/show/", "GET", 404, {"error": "there is nothing at /api/show/; did you mean /api/show?"}),
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
    sent = set(headers["access-control-allow-headers"].split(", "))
    assert sent == {
        "authorization", "content-type", "x-api-key", "x-request-id", "anthropic-version", "anthropic-beta",
        "x-localmodels-session", "x-localmodels-once",
    }  # fmt: skip


def test_a_preflight_allows_what_clients_of_the_dialects_add() -> None:
    asked = "Authorization, OpenAI-Organization,x-stainless-os, anthropic-dangerous-direct-browser-access, cookie, x-b"
    headers = ask("/v1/models/x", "OPTIONS", origin="https://ok.example", access_control_request_headers=asked)[1]
    sent = headers["access-control-allow-headers"].split(", ")
    assert sent[8:] == ["openai-organization", "x-stainless-os", "anthropic-dangerous-direct-browser-access"]


def test_a_page_of_an_allowed_origin_may_read_what_a_head_tells() -> None:
    headers = ask("/v1/told", origin="https://ok.example")[1]
    assert headers["access-control-expose-headers"].split(", ") == [
        "x-ratelimit-limit-requests", "x-localmodels-truncated", "retry-after", "x-request-id", "request-id",
    ]  # fmt: skip
    assert "access-control-expose-headers" not in ask("/v1/told")[1]


def test_an_error_of_a_row_is_written_by_its_dialect() -> None:
    assert json.loads(ask("/v1/plainly")[2]) == {"detail": "there is nothing at x"}
    assert json.loads(ask("/keys")[2]) == {"error": "there is nothing at x"}
    assert json.loads(ask("/elsewhere")[2])["error"]["message"] == "there is nothing at x"


def test_the_directory_names_what_would_be_right() -> None:
    directory = Directory(ROWS, GRANTS)
    with pytest.raises(NotFound):
        directory.find("GET", "/api/show/x")
    with pytest.raises(MethodNotAllowed, match="GET, POST"):
        directory.find("PUT", "/api/show")


def test_every_path_has_a_dialect() -> None:
    assert dialect_of("/v1/chat/completions") is not dialect_of("/api/chat")
    assert dialect_of("/ollama/api/chat") is dialect_of("/api/chat")
    assert dialect_of("/v1") is dialect_of("/metrics")


def test_a_row_without_a_permission_does_not_start() -> None:
    with pytest.raises(LookupError, match="GET /api/show has no row"):
        Directory(ROWS, {**GRANTS, "/api/show": {"POST": "open"}})


def test_a_permission_without_a_row_does_not_start() -> None:
    with pytest.raises(LookupError, match="/api/gone"):
        Directory(ROWS, {**GRANTS, "/api/gone": {"GET": "open"}})


class Doors:
    """Lets in by a header that names scopes."""

    def caller(self, scope: Scope) -> Caller:
        scopes = header(scope, b"x-scopes")
        return Caller("k", "k", frozenset(scopes.split())) if scopes else STRANGER  # type: ignore[arg-type]

    def admit(self, visit: Visit) -> None:
        if visit.caller.id == "k" and visit.operation == "chat":
            raise RateLimited("slow down", retry_after=3)

    def told(self, visit: Visit) -> Headers:
        return [(b"x-left", b"0" if visit.error else b"1")]


CLOSED: Grants = {**GRANTS, "/api/show": {"GET": "list", "POST": "infer"}}


def ask_closed(path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], list[Outcome]]:
    seen: list[Outcome] = []
    rows = (*ROWS[:1], *ROWS[1:], Row(("GET",), "/api/chat", "ollama", "", echo, "chat"))
    application = Application(rows, Gate(), Doors(), [seen.append], {**CLOSED, "/api/chat": {"GET": "infer"}})
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    lines = {"host": "localhost", **headers}
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in lines.items()],
    }
    asyncio.run(application(scope, receive, send))
    return sent[0]["status"], {name.decode(): value.decode() for name, value in sent[0]["headers"]}, seen


@pytest.mark.parametrize(
    ("path", "method", "scopes", "status"),
    [
        ("/api/show", "GET", "", 401),
        ("/api/nothing", "GET", "", 401),  # a stranger learns nothing of what is where
        ("/api/show", "DELETE", "", 401),
        ("/api/show", "GET", "list", 200),
        ("/api/show", "POST", "list", 403),
        ("/api/show", "POST", "admin", 200),
        ("/api/nothing", "GET", "list", 404),
        ("/v1/models/x", "GET", "", 200),
        ("/api/chat", "GET", "infer", 429),
    ],
)
def test_a_caller_may_what_his_scopes_say(path: str, method: str, scopes: str, status: int) -> None:
    answered, headers, seen = ask_closed(path, method, x_scopes=scopes)
    assert answered == status
    assert [(outcome.status, outcome.visit.id) for outcome in seen] == [(status, headers["x-request-id"])]
    assert headers.get("x-left") == {200: "1", 429: "0"}.get(status)
    assert headers.get("retry-after") == ("3" if status == 429 else None)


def test_a_request_keeps_the_id_that_it_was_given_if_logs_can_carry_it() -> None:
    assert ask_closed("/v1/models/x", x_request_id="abc-1.2_3")[1]["x-request-id"] == "abc-1.2_3"
    for odd in ("a b", "a\nb", "é", "x" * 129, ""):
        made = ask_closed("/v1/models/x", x_request_id=odd)[1]["x-request-id"]
        assert made.startswith("req_")
        assert len(made) == 36


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/a", "there is nothing at /a; did you mean /a/?"),
        ("/b/", "there is nothing at /b/; did you mean /b?"),
        ("/c/x/", "there is nothing at /c/x/; did you mean /c/x?"),
        ("/b//", "there is nothing at /b//"),
        ("/", "there is nothing at /"),
    ],
)
def test_a_slash_too_few_or_too_many_is_told_and_not_followed(path: str, said: str) -> None:
    paths = ("/a/", "/b", "/c/{id}")
    rows = [Row(("POST",), one, "ollama", "", ROWS[0].answers) for one in paths]
    directory = Directory(rows, {one: {"POST": "open"} for one in paths})
    with pytest.raises(NotFound) as caught:
        directory.find("POST", path)
    assert caught.value.message == said


def test_a_request_that_failed_is_held_by_nobody() -> None:
    with left_over(Visit, Outcome) as found:
        assert ask("/v1/plainly")[0] == 404
        assert ask("/v1/nothing")[0] == 404
        assert ask("/v1/fails")[0] == 500
    assert found == []


class SomeModels(Everybody):
    """Whoever asks may ask these models, and has these scopes."""

    def __init__(self, models: str, scope: str) -> None:
        self._caller = Caller("k", "k", frozenset({scope}), tuple(models.split()))  # type: ignore[arg-type]

    def caller(self, scope: Scope) -> Caller:
        return self._caller


LOST = NoSuchServer("x", ["b", "a"])
CUT = Withheld(ModelDamaged("its blob sha256:ab is cut"), "m:latest", "alias")


@pytest.mark.parametrize(
    ("error", "models", "scope", "status", "said"),
    [
        (CUT, "m", "infer", 500, "its blob sha256:ab is cut"),
        (CUT, "n", "infer", 403, "this key may not use model 'alias'"),
        (LOST, "*", "observe", 400, "there is no server 'x'; there are: a, b"),
        (LOST, "*", "manage", 400, "there is no server 'x'"),
    ],
)
def test_an_error_that_knows_more_than_everybody_may_hear_is_told_by_who_asks(
    error: LocalModelsError, models: str, scope: str, status: int, said: str
) -> None:
    sent: list[dict[str, Any]] = []
    seen: list[Outcome] = []

    async def withheld(scope: Scope, receive: Receive, send: Send) -> None:
        raise error

    async def send(message: Any) -> None:
        sent.append(message)

    row = Row(("GET",), "/api/show", "ollama", "", withheld)
    access = SomeModels(models, scope)
    application = Application((row,), Gate(), access, [seen.append], {"/api/show": {"GET": "open"}})
    asked = {"type": "http", "method": "GET", "path": "/api/show", "headers": [(b"host", b"localhost")]}
    asyncio.run(application(asked, None, send))  # type: ignore[arg-type]
    assert (sent[0]["status"], json.loads(sent[1]["body"])) == (status, {"error": said})
    assert str(seen[0].visit.error) == said, "what is logged is what was told"


class Ended:
    """An edge that has cancelled the request's task."""

    def __init__(self, refusal: LocalModelsError | None) -> None:
        self.refusal = refusal


@pytest.mark.parametrize(
    ("refusal", "begins", "status", "code"),
    [
        (ShuttingDown("x"), False, 503, "shutting_down"),
        (RequestTimeout("x"), False, 408, "request_timeout"),
        (ShuttingDown("x"), True, 200, "shutting_down"),
        (None, False, 0, None),
        (None, True, 200, None),
    ],
)
def test_who_was_cut_is_told_from_who_has_left(
    refusal: LocalModelsError | None, begins: bool, status: int, code: str | None
) -> None:
    seen: list[Outcome] = []

    async def waits(scope: Scope, receive: Receive, send: Send) -> None:
        if begins:
            await begin(send, 200, "text/plain")
        raise asyncio.CancelledError

    async def send(message: Any) -> None:
        pass

    rows = [Row(("GET",), "/api/show", "ollama", "", waits)]
    application = Application(rows, Gate(), Everybody(), [seen.append], {"/api/show": {"GET": "open"}})
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/api/show",
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
        "extensions": {EDGE: Ended(refusal)},
    }
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(application(scope, send, send))  # type: ignore[arg-type]
    (outcome,) = seen
    error = outcome.visit.error
    assert (outcome.status, error and error.code) == (status, code)
