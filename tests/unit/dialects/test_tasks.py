"""Tasks on the wire: what is written is read back, in whatever pieces, and an end is an end of its own kind."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from localmodels.core.errors import (
    Cancelled,
    Conflict,
    Garbled,
    InvalidValue,
    LocalModelsError,
    ShuttingDown,
    StreamCut,
)
from localmodels.core.tasks import Event, Failure, Task
from localmodels.dialects import tasks as wire
from localmodels.dialects.tasks import EventLines

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
DETAILS = st.dictionaries(TEXT, st.one_of(TEXT, st.integers(-(2**53), 2**53), st.booleans(), st.none()), max_size=3)
EVENTS = st.lists(
    st.builds(Event, st.integers(0, 2**53), TEXT, st.floats(0, 0.999), DETAILS),
    max_size=6,
    unique_by=lambda one: one.number,
)


@given(EVENTS, st.lists(st.integers(1, 40), min_size=1))
def test_a_stream_is_read_back_under_any_split(events: list[Event], sizes: list[int]) -> None:
    last = Event(2**53, "Success.", 1.0, {"model": "m"})
    data = b"".join(wire.write_event("t", event) for event in (*events, last)) + b'{"not": "read"}\n'
    reader, read, place = EventLines(), [], 0
    while place < len(data):
        for size in sizes:
            read += reader.feed(data[place : place + size])
            place += size
    reader.close()
    assert read == [*events, last]
    assert reader.task_id == "t"


def test_a_line_is_as_the_seed_has_it() -> None:
    line = wire.write_event("603de8f5", Event(3, "Start extracted model.", 0.66, {"model": "lora.zip"}))
    assert line.endswith(b"\n")
    message = {"action": "Start extracted model.", "task_uuid": "603de8f5", "details": {"model": "lora.zip"}}
    both = {"progress_ratio": 0.66, "progress": 0.66}
    assert json.loads(line) == {"status": 200, "message": message | both, "number": 3}


@pytest.mark.parametrize("name", ["progress_ratio", "progress"])
def test_the_seed_s_own_lines_are_read(name: str) -> None:
    message: dict[str, Any] = {"action": "Get model.", "task_uuid": "e3fd", name: 0.5, "details": {"model": "custom"}}
    line = json.dumps({"status": 200, "message": message}).encode()
    assert wire.read_event(line) == ("e3fd", Event(-1, "Get model.", 0.5, {"model": "custom"}))


@pytest.mark.parametrize(
    "error", [Conflict("in use", param="model"), Cancelled("over"), ShuttingDown("gone"), LocalModelsError("internal")]
)
def test_an_error_comes_back_as_itself_after_all_before_it(error: LocalModelsError) -> None:
    failure = wire.failure_of(error)
    event = Event(1, "Failed.", 0.5, wire.failure_details(failure), failure.status)
    first = Event(0, "Begin.", 0.1, {})
    reader = EventLines()
    assert reader.feed(wire.write_event("t", first) + wire.write_event("t", event)) == [first]
    for way in (lambda: reader.feed(b""), reader.close):
        with pytest.raises(type(error), match=error.message) as caught:
            way()
        assert type(caught.value) is type(error)
        assert (caught.value.param, caught.value.status) == (error.param, error.status)


def test_an_error_that_says_nothing_of_itself_is_one_all_the_same() -> None:
    with pytest.raises(LocalModelsError, match="status 418"):
        EventLines().feed(b'{"status": 418, "message": {"action": "Failed.", "task_uuid": "t"}}\n')


def test_a_stream_that_ends_before_its_task_was_cut() -> None:
    reader = EventLines()
    reader.feed(wire.write_event("t", Event(0, "Begin.", 0.999)))
    with pytest.raises(StreamCut):
        reader.close()


@pytest.mark.parametrize(
    "line", [b"{}", b"[]", b"nonsense", b"\xff", b'{"status": "x"}', b"[" * 100_000, b'{"status": 200, "message": {}}']
)
def test_what_is_no_line_is_garbled(line: bytes) -> None:
    with pytest.raises(Garbled):
        EventLines().feed(line + b"\n")


TASK = Task(
    id="t", kind="deploy", subject="m", owner="bob", state="failed", reached="saved", action="Failed.", ratio=0.5,
    failure=Failure("no", "conflict", 409, "model"), retry_of="r", origin="o", created_at=10**18,
    started_at=10**18 + 1000,
    ended_at=10**18 + 2000,
)  # fmt: skip


@pytest.mark.parametrize(
    "task", [TASK, replace(TASK, failure=None, retry_of="", started_at=0, ended_at=0, state="queued")]
)
def test_a_task_is_read_back_but_for_what_was_asked(task: Task) -> None:
    secret = replace(task, request=b'{"secret": 1}')
    assert b"secret" not in wire.write_task(secret)
    assert wire.read_task(wire.write_task(secret)) == task
    assert wire.read_tasks(wire.write_tasks([secret, secret])) == (task, task)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"tasks": [{}]}', wire.write_task(TASK).replace(b"2001-", b"now-")])
def test_an_answer_that_is_none_is_garbled(body: bytes) -> None:
    with pytest.raises(Garbled):
        wire.read_task(body)
    with pytest.raises(Garbled):
        wire.read_tasks(body)


def test_a_state_has_a_word() -> None:
    assert wire.read_state("interrupted") == "interrupted"
    with pytest.raises(InvalidValue, match="queued, running"):
        wire.read_state("gone")
