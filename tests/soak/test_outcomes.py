"""What became of a request: every end has a name, and no end has that of another."""

from __future__ import annotations

import pytest
from tests.hostile.attacker import Heard
from tests.soak.outcomes import DONE, FAILED, NOTHING, outcome
from tests.soak.questions import every

SSE, LINES, JSON = "text/event-stream", "application/x-ndjson", "application/json"
RESPONSE = b'event: %s\ndata: {"type":"%s"}\n\n'


def heard(status: int, kind: str = JSON, body: bytes = b"{}", *, whole: bool = True) -> Heard:
    return Heard(status, (("content-type", kind),), body, 0.0, whole)


@pytest.mark.parametrize(
    ("what", "came"),
    [
        (heard(0), NOTHING),
        (heard(200), "200"),
        (heard(404, body=b'{"error":"no"}'), "404"),
        (heard(200, whole=False), "200 cut"),
        (heard(500, body=b'{"error":"internal error"}'), "500 internal"),
        (heard(200, LINES, b'{"done":false}\n{"done":true}\n'), DONE),
        (heard(200, LINES, b'{"done":false}\n{"error":"cut"}\n'), FAILED),
        (heard(200, LINES, b'{"done":false}\n'), "200 open"),
        (heard(200, LINES, b'{"done":true}\n{"error":"cut"}\n'), "200 done+failed"),
        (heard(200, SSE, b'data: {"choices":[]}\n\ndata: [DONE]\n\n'), DONE),
        (heard(200, SSE, b'data: {"choices":[]}\n\ndata: {"error":{}}\n\n'), FAILED),
        (heard(200, SSE, b'event: message_stop\ndata: {"type":"message_stop"}\n\n'), DONE),
        (heard(200, SSE, b'event: error\ndata: {"type":"error"}\n\n'), FAILED),
        (heard(200, SSE, RESPONSE % ((b"response.completed",) * 2)), DONE),
        (heard(200, SSE, RESPONSE % ((b"response.failed",) * 2)), FAILED),
    ],
)
def test_each_end_has_its_name(what: Heard, came: str) -> None:
    assert outcome(what) == came


@pytest.mark.parametrize("what", [heard(200, JSON, b"{"), heard(200, SSE, b"nonsense\n\n"), heard(200, LINES, b"{\n")])
def test_what_cannot_be_read_is_no_answer(what: Heard) -> None:
    assert outcome(what).startswith("200 unreadable")


def test_every_question_expects_something_and_never_an_end_that_says_two_things() -> None:
    asked = list(every("key"))
    assert len(asked) > 500
    ends = {end for one in asked for end in one.wanted}
    assert ends == {"200", DONE, FAILED, "400", "429", "502", "503", "504", "529"}
