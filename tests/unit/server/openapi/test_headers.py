"""Headers are declared where the application heeds and sends them, and nowhere else: it is asked on every row."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.types import Receive, Scope, Send
from tests.everybody import Everybody
from tools.reference import rows

from localmodels.core.access import Level, Standing
from localmodels.core.errors import LocalModelsError, NotFound, QuotaExceeded, RateLimited, Unavailable
from localmodels.dialects.allowances import write_standing
from localmodels.dialects.table import SPOKEN
from localmodels.flows.visit import Visit
from localmodels.server import own_headers
from localmodels.server.app import Application, exposed
from localmodels.server.gate import Gate
from localmodels.server.openapi.document import document
from localmodels.server.tracing import Traces
from localmodels.server.wire import Headers

ROWS = rows()
DOCUMENT = json.loads(msgspec.json.encode(document(ROWS)))
OPERATIONS = [(method, path) for path, methods in DOCUMENT["paths"].items() for method in methods]
TRACE = "0af7651916cd43dd8448eb211c80319c"


class Limited(Everybody):
    """Admits nobody, or everybody; tells of limits in any case."""

    def __init__(self, refusal: LocalModelsError | None = None) -> None:
        self._refusal = refusal

    def admit(self, visit: Visit) -> None:
        if self._refusal is not None:
            raise self._refusal

    def told(self, visit: Visit) -> Headers:
        standing = Standing(Level(3, 2, 1.0), Level(3, 2, 1.0))
        return write_standing(SPOKEN[visit.dialect].write_level, standing, visit.error, 0)


async def answers(scope: Scope, receive: Receive, send: Send) -> None:
    raise NotFound("there is nothing at x")


async def breaks(scope: Scope, receive: Receive, send: Send) -> None:
    raise Unavailable("not now", retry_after=2)


APPLICATION = [msgspec.structs.replace(row, answers=answers) for row in ROWS]
BROKEN = [msgspec.structs.replace(row, answers=breaks) for row in ROWS]


def ask(application: Application, method: str, path: str, **given: str) -> tuple[int, dict[str, str], bytes, set[str]]:
    """Status, head and body of an answer, and of its head what pages may read."""
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    scope = {
        "type": "http",
        "method": method.upper(),
        "path": path.replace("{", "").replace("}", ""),
        "query_string": b"",
        "headers": [
            (b"host", b"localhost"),
            *((name.replace("_", "-").encode(), value.encode()) for name, value in given.items()),
        ],
    }
    asyncio.run(application(scope, receive, send))
    head = sent[0]["headers"]
    told = {name.decode() for _, names in exposed(head) for name in names.split(b", ")}
    return sent[0]["status"], {name.decode(): value.decode() for name, value in head}, sent[1]["body"], told


def heeded(method: str, path: str) -> set[str]:
    """Names of the headers of requests that an operation declares."""
    parameters = DOCUMENT["paths"][path][method].get("parameters", [])
    some = [DOCUMENT["components"]["parameters"][one["$ref"].rpartition("/")[2]] for one in parameters if "$ref" in one]
    assert all(one["in"] == "header" for one in some)
    return {one["name"].lower() for one in some}


def sent(method: str, path: str, status: str) -> set[str]:
    """Names of the headers of its answers with this status."""
    answer = DOCUMENT["paths"][path][method]["responses"][status]
    if "$ref" in answer:
        answer = DOCUMENT["components"]["responses"][answer["$ref"].rpartition("/")[2]]
    assert set(answer["headers"]) <= set(DOCUMENT["components"]["headers"])
    return {name.lower() for name in answer["headers"]}


def served(refusal: LocalModelsError | None = None, made: Any = APPLICATION, **more: Any) -> Application:
    return Application(made, Gate(), Limited(refusal), **more)


@pytest.mark.parametrize(
    ("name", "nonsense"), [("x-localmodels-once", "perhaps"), ("x-localmodels-session", "x" * 257)]
)
def test_our_own_are_declared_where_nonsense_in_them_is_refused(name: str, nonsense: str) -> None:
    application = served()
    for method, path in OPERATIONS:
        status, *_ = ask(application, method, path, **{name: nonsense})
        assert (status == 400) == (name in heeded(method, path)), (method, path)


def test_a_version_of_anthropic_s_api_is_declared_where_it_changes_errors() -> None:
    application = served()
    for method, path in OPERATIONS:
        plain, versioned = (
            ask(application, method, path, x_request_id="r", **given)[2] for given in ({}, {"anthropic_version": "x"})
        )
        assert (plain != versioned) == ("anthropic-version" in heeded(method, path)), (method, path)


def test_the_id_is_heeded_everywhere() -> None:
    application = served()
    for method, path in OPERATIONS:
        assert ask(application, method, path, x_request_id="mine")[1]["x-request-id"] == "mine"
        assert "x-request-id" in heeded(method, path)


def test_the_trace_is_declared_where_spans_are_made_of_requests() -> None:
    kept = InMemorySpanExporter()
    traces = Traces(kept)
    application = served(watchers=(traces,))
    with_spans = []
    for method, path in OPERATIONS:
        ask(application, method, path, traceparent=f"00-{TRACE}-b7ad6b7169203331-01")
        if "traceparent" in heeded(method, path):
            with_spans.append((method.upper(), path))
    traces.close()
    spans = [span for span in kept.get_finished_spans() if span.attributes is not None]
    assert {format(span.parent.trace_id, "032x") for span in spans if span.parent} == {TRACE}
    told = [
        (span.attributes["http.request.method"], span.attributes["http.route"]) for span in spans if span.attributes
    ]
    assert [(method, str(path).replace(":path", "")) for method, path in told] == with_spans


def own() -> Iterator[str]:
    for value in vars(own_headers).values():
        if isinstance(value, bytes) and value.startswith(own_headers.PREFIX) and value != own_headers.PREFIX:
            yield value.decode()


def test_every_header_of_our_own_is_there() -> None:
    parts = DOCUMENT["components"]
    names = {name.lower() for kind in ("headers", "parameters") for name in parts[kind]}
    assert {name for name in names if name.startswith("x-localmodels-")} == set(own())


REFUSALS = {
    "too many": RateLimited("not so fast", retry_after=1),
    "used up": QuotaExceeded("nothing is left", retry_after=1),
}
# Of those that are declared beside the usual, who answered is told only by rows that got as far as that.
WHO = {"x-localmodels-server", "x-localmodels-route"}


def test_what_limits_tell_is_declared() -> None:
    both = [served(refusal) for refusal in REFUSALS.values()]
    for method, path in OPERATIONS:
        told: set[str] = set().union(*(ask(application, method, path)[3] for application in both))
        assert told == sent(method, path, "4XX") - WHO, (method, path)


def test_what_failures_tell_is_declared() -> None:
    application = served(made=BROKEN)
    for method, path in OPERATIONS:
        status, _, _, told = ask(application, method, path)
        assert status >= 500
        assert told == sent(method, path, "5XX") - WHO, (method, path)


def test_limits_are_told_of_what_went_well_too() -> None:
    application = served()
    for method, path in OPERATIONS:
        _, _, _, usual = ask(application, method, path)
        for status in DOCUMENT["paths"][path][method]["responses"]:
            if not status.endswith("XX"):
                declared = {name for name in sent(method, path, status) if not name.startswith("x-localmodels-")}
                assert declared == usual, (method, path)
