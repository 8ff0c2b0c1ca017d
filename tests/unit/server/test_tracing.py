"""What a span tells of a request."""

from __future__ import annotations

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from starlette.types import Receive, Scope, Send

from localmodels.core.chat import Usage
from localmodels.core.errors import QueueFull
from localmodels.flows.visit import Visit
from localmodels.server.app import Outcome
from localmodels.server.routes import Row
from localmodels.server.tracing import Traces

SECOND = 10**9


async def nobody(scope: Scope, receive: Receive, send: Send) -> None: ...


CHAT = Row(("POST",), "/api/chat", "ollama", "", nobody, "chat")


def visited() -> Visit:
    visit = Visit("req_1", started=10 * SECOND)
    visit.operation, visit.model, visit.reason = "chat", "m:latest", "stop"
    visit.first, visit.usage = 12 * SECOND, Usage(7, 3, 5)
    return visit


def spans(visit: Visit, row: Row = CHAT, status: int = 200) -> tuple[ReadableSpan, ...]:
    kept = InMemorySpanExporter()
    # The wall clock says 1,000 s when the other says 15.
    traces = Traces(kept, clock=lambda: 15 * SECOND, wall=lambda: 1000 * SECOND)
    traces(Outcome(row, "POST", "/api/chat", status, visit))
    traces.close()
    return kept.get_finished_spans()


def test_a_span_has_the_times_and_figures_of_its_request() -> None:
    (span,) = spans(visited())
    assert (span.name, span.kind) == ("chat m:latest", SpanKind.SERVER)
    assert (span.start_time, span.end_time) == (995 * SECOND, 1000 * SECOND)
    assert span.parent is None
    assert span.attributes is not None
    assert dict(span.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "localmodels",
        "gen_ai.request.model": "m:latest",
        "gen_ai.response.model": "m:latest",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.response.time_to_first_chunk": 2.0,
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 3,
        "gen_ai.usage.cache_read.input_tokens": 5,
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "http.route": "/api/chat",
        "localmodels.request.id": "req_1",
    }


def test_a_span_belongs_to_the_caller_s_trace() -> None:
    visit = visited()
    visit.trace = f"00-{'ab' * 16}-{'cd' * 8}-01"
    (span,) = spans(visit)
    assert span.parent is not None
    assert span.context is not None
    assert (span.context.trace_id, span.parent.span_id) == (int("ab" * 16, 16), int("cd" * 8, 16))


def test_nonsense_for_a_parent_is_none() -> None:
    visit = visited()
    visit.trace = "00-zz"
    assert spans(visit)[0].parent is None


def test_an_error_is_told_by_its_code() -> None:
    visit = visited()
    visit.error, visit.usage = QueueFull("the words of an error may name a stranger's things"), None
    (span,) = spans(visit, status=503)
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == "queue_full"
    assert span.attributes is not None
    assert span.attributes["error.type"] == "queue_full"


def test_what_asks_no_model_is_not_traced() -> None:
    visit = visited()
    visit.operation = ""
    assert spans(visit) == ()
