"""Every streamed answer is written by one loop: the head, the values, and an error in-band that no success follows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from starlette.types import Message

from localmodels.core.errors import LocalModelsError, RunnerDied, unforeseen
from localmodels.flows.visit import Visit
from localmodels.server.streaming import Form, respond_stream
from localmodels.server.wire import VISIT


class Line:
    """A client's end."""

    def __init__(self) -> None:
        self.visit = Visit("r")
        self.messages: list[Message] = []

    @property
    def scope(self) -> dict[str, Any]:
        return {VISIT: self.visit}

    @property
    def bodies(self) -> list[tuple[bytes, bool]]:
        return [(one["body"], one.get("more_body", False)) for one in self.messages[1:]]

    async def send(self, message: Message) -> None:
        self.messages.append(message)


def fail(error: LocalModelsError) -> bytes:
    return f"failed: {error.message}\n".encode()


def write(number: int) -> bytes:
    return b"%d\n" % number


TOLD = Form("text/x", write, fail)
SILENT = Form("text/x", write, None)


async def numbers(error: Exception | None = None) -> AsyncGenerator[int, None]:
    yield 1
    yield 2
    if error is not None:
        raise error


def answered(form: Form[int], error: Exception | None = None) -> Line:
    """The answer with two numbers, and then perhaps an error."""
    line = Line()

    async def run() -> None:
        stream = numbers(error)
        first = await anext(stream)
        assert not line.messages
        await respond_stream(line.scope, line.send, first, stream, form, headers=[(b"x", b"y")])

    asyncio.run(run())
    return line


def test_values_are_written_as_they_come_and_the_end_is_said_once() -> None:
    line = answered(TOLD)
    head = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/x"), (b"x", b"y")]}
    assert line.messages[0] == head
    assert line.bodies == [(b"1\n", True), (b"2\n", True), (b"", False)]
    assert line.visit.error is None


def test_an_error_is_the_last_piece_and_noted() -> None:
    error = RunnerDied("it died")
    line = answered(TOLD, error)
    assert line.bodies == [(b"1\n", True), (b"2\n", True), (b"failed: it died\n", False)]
    assert line.visit.error is error


@pytest.mark.parametrize(
    ("form", "bodies"),
    [
        pytest.param(TOLD, [(b"1\n", True), (b"2\n", True), (fail(unforeseen()), True)], id="told"),
        pytest.param(SILENT, [(b"1\n", True), (b"2\n", True)], id="by the values"),
    ],
)
def test_a_defect_of_ours_is_told_and_then_cuts_the_answer(form: Form[int], bodies: list[tuple[bytes, bool]]) -> None:
    line = Line()

    async def run() -> None:
        stream = numbers(ZeroDivisionError("ours"))
        await respond_stream(line.scope, line.send, await anext(stream), stream, form)

    with pytest.raises(ZeroDivisionError):
        asyncio.run(run())
    assert line.bodies == bodies


def test_where_the_values_tell_of_errors_one_that_is_raised_cuts_the_answer() -> None:
    with pytest.raises(RunnerDied):
        answered(SILENT, RunnerDied("it died"))
