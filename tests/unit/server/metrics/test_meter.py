"""What the figures say of requests, judged by the reader that Prometheus' own library has."""

from __future__ import annotations

import tracemalloc

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text
from starlette.types import Message, Receive, Scope, Send
from tests.awaited import awaited

from localmodels.core.chat import Usage
from localmodels.core.errors import LocalModelsError, ModelNotFound, QueueFull
from localmodels.core.tasks import Task
from localmodels.flows.metric import Reading
from localmodels.flows.visit import Visit
from localmodels.server.app import Outcome
from localmodels.server.metrics.exposition import PORTION, exposition
from localmodels.server.metrics.meter import Histogram, Meter
from localmodels.server.metrics.scrape import Scrape
from localmodels.server.routes import Row

SECOND = 10**9


async def nobody(scope: Scope, receive: Receive, send: Send) -> None: ...


CHAT = Row(("POST",), "/api/chat", "ollama", "", nobody, "chat")
TAGS = Row(("GET",), "/api/tags", "ollama", "", nobody)


def outcome(
    row: Row | None = CHAT,
    *,
    status: int = 200,
    model: str = "m:latest",
    error: LocalModelsError | None = None,
    server: str = "local",
    times: tuple[int, int, int] = (1, 2, 5),
    usage: Usage | None = Usage(100, 4, 60),  # noqa: B008
) -> Outcome:
    visit = Visit("r", started=0)
    visit.dialect, visit.operation = (row.dialect, row.operation) if row else ("", "")
    visit.model, visit.server, visit.error, visit.usage = model, server, error, usage
    visit.admitted, visit.first, visit.last = (second * SECOND for second in times)
    return Outcome(row, "POST", "/whatever", status, visit)


def figures(meter: Meter, *readings: Reading, accept: str = "") -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    page, content_type = exposition(meter, readings, accept)
    read = read_openmetrics if "openmetrics" in content_type else read_text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in read(page.decode())
        for sample in family.samples
    }


ASKED = (
    ("gen_ai_operation_name", "chat"),
    ("gen_ai_provider_name", "local"),
    ("gen_ai_request_model", "m:latest"),
)


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0"])
def test_requests_tokens_and_times_are_what_happened(accept: str) -> None:
    meter = Meter(clock=lambda: 6 * SECOND)
    meter(outcome())
    meter(outcome(usage=Usage(10, 2, 0)))
    read = figures(meter, accept=accept)
    route = (("dialect", "ollama"), ("method", "POST"), ("route", "/api/chat"), ("status", "200"))
    assert read["localmodels_requests_total", route] == 2
    kinds = {
        kind: read["localmodels_tokens_total", (*TOKENS, ("type", kind))] for kind in ("prompt", "cached", "completion")
    }
    assert kinds == {"prompt": 110, "cached": 60, "completion": 6}
    assert read["gen_ai_server_request_duration_seconds_sum", (("error_type", ""), *ASKED)] == 12
    assert read["gen_ai_server_time_to_first_token_seconds_sum", ASKED] == 4
    assert read["gen_ai_server_time_to_first_token_seconds_count", ASKED] == 2
    assert read["localmodels_queue_wait_seconds_sum", ASKED] == 2
    # Three seconds for three tokens after the first, and for one.
    assert read["gen_ai_server_time_per_output_token_seconds_sum", ASKED] == 1 + 3


TOKENS = (("model", "m:latest"), ("server", "local"))


def test_names_that_only_callers_said_make_one_series() -> None:
    meter = Meter(clock=lambda: 6 * SECOND)
    for number in range(9):
        made_up = outcome(model=f"far/{number}", error=ModelNotFound("no"), usage=None)
        made_up.visit.listed = False
        meter(made_up)
    assert [asked.model for asked in meter.models] == ["unknown"]


def test_an_error_is_counted_by_its_code_and_takes_no_tokens() -> None:
    meter = Meter(clock=lambda: 6 * SECOND)
    meter(outcome(status=503, error=QueueFull("full"), times=(0, 0, 0), usage=None))
    read = figures(meter)
    assert read["localmodels_errors_total", (("code", "queue_full"),)] == 1
    assert read["gen_ai_server_request_duration_seconds_count", (("error_type", "queue_full"), *ASKED)] == 1
    assert not any(name.startswith("gen_ai_server_time_to_first") for name, _ in read)
    assert read["localmodels_tokens_total", (*TOKENS, ("type", "completion"))] == 0


def test_what_asks_no_model_has_no_model_s_figures() -> None:
    meter = Meter()
    meter(outcome(TAGS, model=""))
    assert not meter.models


def test_nothing_that_a_stranger_wrote_is_a_label() -> None:
    meter = Meter()
    visit = Visit("stranger-id")
    meter(Outcome(None, "EVIL\n", "/evil-path", 404, visit))
    meter(outcome(model="", status=404, error=ModelNotFound("evil-model"), usage=None))
    page, _ = exposition(meter, (), "")
    assert b"evil" not in page.lower()
    assert b"stranger-id" not in page
    assert b'gen_ai_request_model="unknown"' in page


def test_tasks_are_counted_by_kind_and_end() -> None:
    meter = Meter()
    for state in ("failed", "succeeded", "succeeded"):
        meter.task_ended(Task(id="1", kind="create", subject="secret-name", state=state))
    read = figures(meter)
    assert read["localmodels_tasks_total", (("kind", "create"), ("state", "succeeded"))] == 2
    assert read["localmodels_tasks_total", (("kind", "create"), ("state", "failed"))] == 1
    assert "secret-name" not in str(read)


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0"])
@pytest.mark.parametrize("models", [0, 1, PORTION - 1, PORTION, PORTION + 1, 3 * PORTION])
def test_a_family_that_is_written_in_portions_is_one(models: int, accept: str) -> None:
    meter = Meter(clock=lambda: 6 * SECOND)
    for number in range(models):
        meter(outcome(model=f"#{number}"))
    page, _ = exposition(meter, (), accept)
    kinds = [line for line in page.decode().splitlines() if line.startswith("# TYPE")]
    assert len(kinds) == len(set(kinds))
    read = figures(meter, accept=accept)
    for name in ("request_duration", "time_to_first_token", "time_per_output_token"):
        assert sum(label == f"gen_ai_server_{name}_seconds_count" for label, _ in read) == models


def test_a_long_page_is_never_all_small_things_at_once() -> None:
    meter = Meter(clock=lambda: 6 * SECOND)
    for number in range(200):
        meter(outcome(model=f"m{number}"))
    page, _ = exposition(meter, (), "")
    tracemalloc.start()
    exposition(meter, (), "")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2.2 * len(page) + 2**19, "the page, once more where it grows, and a portion of what it is made of"


def test_how_things_stand() -> None:
    one = Reading("localmodels_places", "Places.", 4, (("model", "a"),))
    two = Reading("localmodels_places", "Places.", 2, (("model", 'b"\n'),))
    waits = Reading("localmodels_queue_waiting", "Waiting.", 7)
    read = figures(Meter(), one, waits, two)
    assert read["localmodels_places", (("model", "a"),)] == 4
    assert read["localmodels_places", (("model", 'b"\n'),)] == 2
    assert read["localmodels_queue_waiting", ()] == 7


@pytest.mark.parametrize(("value", "place"), [(0.0, 0), (1.0, 0), (1.5, 1), (2.0, 1), (3.0, 2)])
def test_a_bound_belongs_to_what_lies_below_it(value: float, place: int) -> None:
    histogram = Histogram((1.0, 2.0))
    histogram.add(value)
    assert histogram.counts[place] == 1
    assert histogram.total == value


def test_a_copy_is_what_was_and_stays_so() -> None:
    meter = Meter(clock=lambda: 6 * SECOND)
    meter(outcome())
    meter(outcome(error=QueueFull("no"), status=503))
    meter.task_ended(Task(id="1", kind="upload", subject="m", state="failed"))
    before = figures(meter)
    still = meter.copy()
    assert figures(still) == before
    meter(outcome())
    meter(outcome(model="other:latest"))
    meter.task_ended(Task(id="2", kind="upload", subject="m", state="failed"))
    assert figures(still) == before
    assert figures(meter) != before


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0"])
def test_what_only_grows_is_a_counter(accept: str) -> None:
    by = (("server", "a"), ("reason", "unreachable"))
    read = figures(Meter(), Reading("localmodels_failovers", "Failed over.", 3, by, counts=True), accept=accept)
    assert read["localmodels_failovers_total", tuple(sorted(by))] == 3
    assert not any(name == "localmodels_failovers" for name, _ in read)


def test_servers_that_left_are_forgotten() -> None:
    meter = Meter(clock=lambda: 6 * SECOND)
    for server in ("local", "far", "gone", ""):
        meter(outcome(server=server))
    meter.keep({"local", "far"})
    read = figures(meter)
    servers = {dict(labels)["server"] for name, labels in read if name == "localmodels_tokens_total"}
    assert servers == {"local", "far", ""}, "what nobody answered stays"
    assert "gone" not in str(read)


async def scraped(meter: Meter, servers: set[str] | None) -> bytes:
    bodies: list[bytes] = []

    async def send(message: Message) -> None:
        bodies.append(message.get("body", b""))

    async def receive() -> Message:
        raise AssertionError("it has no body")

    page = Scrape(meter, [], None if servers is None else lambda: servers)
    await page({"type": "http", "method": "GET", "headers": []}, receive, send)
    return b"".join(bodies)


@awaited
async def test_a_scrape_shows_those_who_are_there() -> None:
    meter = Meter(clock=lambda: 6 * SECOND)
    asked = outcome()
    asked.visit.server = "renamed"
    meter(asked)
    assert b'"renamed"' in await scraped(meter, None)
    assert b'"renamed"' in await scraped(meter, {"renamed"})
    assert b'"renamed"' not in await scraped(meter, {"local"})
    assert not meter.models, "and nothing is kept of the others"
