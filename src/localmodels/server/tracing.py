"""Traces, in OpenTelemetry's words for generative AI: one span for each request that asked a model.

The span is made when the request has ended, with the times that were noted on the way, so that tracing costs the way of
an answer nothing. It names the model, the figures and the error; never what was said, and never who asked. This module
is loaded only where traces are wanted, since its library costs half a second.

Names are those of the GenAI semantic conventions, which are not final yet:
https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic_ns, time_ns

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

import localmodels
from localmodels.flows.visit import HERE
from localmodels.server.app import Outcome

SECOND = 1e9
PROVIDER = "localmodels"
Attributes = dict[str, str | int | float | list[str]]


class Traces:
    """A :data:`~localmodels.server.app.Watcher` that makes spans, sent in batches by a thread of its own.

    Args:
        exporter: sends them.
        clock, wall: nanoseconds, monotonic and since 1970.
    """

    def __init__(
        self, exporter: SpanExporter, *, clock: Callable[[], int] = monotonic_ns, wall: Callable[[], int] = time_ns
    ) -> None:
        resource = Resource.create({SERVICE_NAME: PROVIDER, SERVICE_VERSION: localmodels.__version__})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer(PROVIDER, localmodels.__version__)
        self._propagator = TraceContextTextMapPropagator()
        self._clock = clock
        self._wall = wall

    def __call__(self, outcome: Outcome) -> None:
        """One request ended."""
        visit = outcome.visit
        if not visit.operation:
            return
        epoch = self._wall() - self._clock()
        parent = self._propagator.extract({"traceparent": visit.trace}, Context()) if visit.trace else Context()
        span = self._tracer.start_span(
            f"{visit.operation} {visit.label}".rstrip(),
            context=parent,
            kind=SpanKind.SERVER,
            attributes=attributes(outcome),
            start_time=epoch + visit.started,
        )
        if visit.error is not None:
            span.set_status(Status(StatusCode.ERROR, visit.error.code))
        span.end(end_time=epoch + self._clock())

    def close(self) -> None:
        """Sends what is left."""
        self._provider.shutdown()


def attributes(outcome: Outcome) -> Attributes:
    """What a span tells of a request."""
    row, visit = outcome.row, outcome.visit
    told: Attributes = {
        "gen_ai.operation.name": visit.operation,
        "gen_ai.provider.name": PROVIDER if visit.server in ("", HERE) else visit.server,
        "http.request.method": outcome.method,
        "http.response.status_code": outcome.status,
        "http.route": row.path if row else "",
        "localmodels.request.id": visit.id,
    }
    if visit.model:
        told |= {"gen_ai.request.model": visit.label, "gen_ai.response.model": visit.label}
    if visit.reason:
        told["gen_ai.response.finish_reasons"] = [visit.reason]
    if visit.first:
        told["gen_ai.response.time_to_first_chunk"] = (visit.first - visit.started) / SECOND
    if visit.usage is not None:
        told |= {
            "gen_ai.usage.input_tokens": visit.usage.prompt_tokens,
            "gen_ai.usage.output_tokens": visit.usage.completion_tokens,
            "gen_ai.usage.cache_read.input_tokens": visit.usage.cached_tokens,
        }
    if visit.error is not None:
        told["error.type"] = visit.error.code
    return told


def exporter(endpoint: str) -> SpanExporter:
    """Sends to a collector's OTLP door by HTTP."""
    return OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
