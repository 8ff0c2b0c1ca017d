"""What can be seen of a server from outside: metrics, log lines and traces, and that none of them tells a secret."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families
from tests.acceptance.serving import PATIENCE, Served, serve

CANARY = "CANARY-8f2b"
TOKENS = 5
MEMORY = 3 * 2**30  # bytes that all models may take


class Collector:
    """Takes spans, as OTLP's receiver does."""

    def __init__(self) -> None:
        self.spans: list[ExportTraceServiceRequest] = []

    @contextmanager
    def listening(self) -> Iterator[str]:
        spans = self.spans

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                spans.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


@pytest.fixture(scope="module")
def seen(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, float], str, Collector]:
    """The metrics, the log and the spans of a server that was asked three things with a secret in each."""
    collector = Collector()
    home = tmp_path_factory.mktemp("home")
    flags = ["--model", f"endless={models['endless']}", "--memory-limit", str(MEMORY)]
    flags += ["--log-format", "json", "--log-level", "debug"]
    file = home / "log"
    with collector.listening() as url, serve(*flags, "--traces", url, home=home, log=file) as served:
        ask(served, "/api/chat", stream=True)
        ask(served, "/v1/chat/completions", stream=False)
        refused = httpx2.post(f"{served.url}/api/chat", json={"model": CANARY, "messages": []}, timeout=PATIENCE)
        assert refused.status_code == 404
        httpx2.get(f"{served.url}/{CANARY}?q={CANARY}", headers={"authorization": f"Bearer {CANARY}"}, timeout=PATIENCE)
        page = httpx2.get(f"{served.url}/metrics", timeout=PATIENCE).text
    log = file.read_text()
    assert CANARY not in page
    read = {
        sample.name + json.dumps(sample.labels, sort_keys=True): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }
    return read, log, collector


def ask(served: Served, path: str, *, stream: bool) -> None:
    body = {
        "model": "endless",
        "stream": stream,
        "messages": [{"role": "user", "content": f"my secret is {CANARY}"}],
        "options": {"num_predict": TOKENS},
    }
    answer = httpx2.post(f"{served.url}{path}", json=body, timeout=PATIENCE, headers={"x-request-id": f"id{len(path)}"})
    assert answer.status_code == 200
    assert answer.headers["x-request-id"] == f"id{len(path)}"
    assert answer.headers["x-localmodels-server"] == "local"


def test_metrics_are_what_was_done(seen: tuple[dict[str, float], str, Collector], models: dict[str, Path]) -> None:
    metrics, _, _ = seen
    answered = {"dialect": "ollama", "method": "POST", "route": "/api/chat", "status": "200"}
    assert metrics["localmodels_requests_total" + json.dumps(answered)] == 1
    assert metrics["localmodels_requests_total" + json.dumps(answered | {"status": "404"})] == 1
    tokens = {"model": "endless:latest", "server": "local", "type": "completion"}
    assert metrics["localmodels_tokens_total" + json.dumps(tokens)] == 2 * TOKENS
    assert metrics['localmodels_runners{"model": "endless:latest", "state": "ready"}'] == 1
    assert metrics['localmodels_errors_total{"code": "model_not_found"}'] == 1
    assert metrics["localmodels_queue_waiting{}"] == 0
    taken = metrics['localmodels_model_memory_bytes{"model": "endless:latest"}']
    assert taken > models["endless"].stat().st_size  # its weights, and what it computes with
    assert metrics['localmodels_memory_bytes{"what": "models"}'] == taken
    assert metrics['localmodels_memory_bytes{"what": "limit"}'] == MEMORY > taken


def test_the_log_has_a_line_for_each_request_and_no_secret(seen: tuple[dict[str, float], str, Collector]) -> None:
    _, log, _ = seen
    assert CANARY not in log
    lines = [json.loads(line)["request"] for line in log.splitlines() if '"request"' in line]
    told = [(line["method"], line["route"], line["status"]) for line in lines]
    assert told == [
        ("POST", "/api/chat", 200),
        ("POST", "/v1/chat/completions", 200),
        ("POST", "/api/chat", 404),
        ("-", "", 404),
        ("GET", "/metrics", 200),
    ]
    assert [line.get("completion_tokens") for line in lines] == [TOKENS, TOKENS, None, None, None]
    assert lines[0]["id"] == "id9"
    assert 0 < lines[0]["queue_ms"] <= lines[0]["first_ms"] <= lines[0]["ms"]


def test_a_collector_gets_the_spans_and_no_secret(seen: tuple[dict[str, float], str, Collector]) -> None:
    _, _, collector = seen
    spans = [
        span for one in collector.spans for of in one.resource_spans for some in of.scope_spans for span in some.spans
    ]
    assert [span.name for span in spans] == ["chat endless:latest", "chat endless:latest", "chat"]
    assert CANARY.encode() not in b"".join(one.SerializeToString() for one in collector.spans)
