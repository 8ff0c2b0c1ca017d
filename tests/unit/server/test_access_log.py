"""What the log tells of a request, and what it never tells."""

from __future__ import annotations

import json
import logging

import pytest
from starlette.types import Receive, Scope, Send

from localmodels.core.access import Caller
from localmodels.core.chat import Usage
from localmodels.core.errors import ModelNotFound
from localmodels.flows.visit import Visit
from localmodels.server.access_log import LOGGER, AccessLog
from localmodels.server.app import Outcome
from localmodels.server.logs import JsonFormatter, TextFormatter
from localmodels.server.routes import Row


async def nobody(scope: Scope, receive: Receive, send: Send) -> None: ...


ROW = Row(("GET",), "/v1/models/{id:path}", "openai", "", nobody)


def logged(caplog: pytest.LogCaptureFixture, outcome: Outcome) -> logging.LogRecord:
    with caplog.at_level(logging.INFO, LOGGER):
        AccessLog(clock=lambda: 5_000_000)(outcome)
    return caplog.records[-1]


def visited() -> Visit:
    visit = Visit("req_1", Caller("key_a", "a name"), started=1_000_000)
    visit.model, visit.operation, visit.dialect, visit.server = "m:latest", "chat", "openai", "local"
    visit.admitted, visit.first, visit.last = 2_000_000, 3_500_000, 4_000_000
    visit.usage, visit.reason = Usage(10, 3, 7), "stop"
    return visit


def test_a_name_that_only_a_caller_said_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    visit = visited()
    visit.model, visit.listed = "far/made-up", False
    line = JsonFormatter().format(logged(caplog, Outcome(ROW, "GET", "/v1/models/x", 404, visit)))
    assert json.loads(line)["request"]["model"] == "unknown"
    assert "made-up" not in line


def test_a_line_of_json_has_fields(caplog: pytest.LogCaptureFixture) -> None:
    record = logged(caplog, Outcome(ROW, "GET", "/v1/models/secret-name", 200, visited()))
    line = json.loads(JsonFormatter().format(record))
    assert line["logger"] == LOGGER
    assert line["request"] == {
        "id": "req_1", "method": "GET", "route": "/v1/models/{id:path}", "status": 200, "ms": 4.0, "dialect": "openai",
        "operation": "chat", "model": "m:latest", "server": "local", "key": "key_a", "queue_ms": 1.0, "first_ms": 2.5,
        "prompt_tokens": 10, "cached_tokens": 7, "completion_tokens": 3, "reason": "stop",
    }  # fmt: skip


def test_a_line_for_people(caplog: pytest.LogCaptureFixture) -> None:
    record = logged(caplog, Outcome(ROW, "GET", "/v1/models/secret-name", 200, visited()))
    assert (
        TextFormatter().format(record).endswith("info    GET  /v1/models/{id:path}  200  4 ms  m:latest  10 + 3 tokens")
    )


def test_a_line_for_people_names_another_server(caplog: pytest.LogCaptureFixture) -> None:
    visit = visited()
    visit.server = "big-box"
    record = logged(caplog, Outcome(ROW, "GET", "/v1/models/secret-name", 200, visit))
    assert "  m:latest at big-box  10 + 3 tokens" in TextFormatter().format(record)


def test_what_a_stranger_wrote_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    visit = Visit("req_2", started=1_000_000)
    visit.error = ModelNotFound("secret\nname")
    record = logged(caplog, Outcome(None, "SECRET", "/secret", 404, visit))
    text = JsonFormatter().format(record) + TextFormatter().format(record)
    assert "secret" not in text.lower()
    assert "model_not_found" in text


def test_nothing_is_made_for_a_log_that_nobody_reads(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, LOGGER):
        AccessLog()(Outcome(ROW, "GET", "/", 200, visited()))
    assert not caplog.records
