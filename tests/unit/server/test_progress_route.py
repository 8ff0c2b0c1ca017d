"""A stream of progress that breaks off says so in its own words, whoever is at fault."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator

from starlette.types import Message

from localmodels.core.errors import DiskFull
from localmodels.core.library import Progress, PullRequest
from localmodels.dialects.ollama import library
from localmodels.dialects.table import DIALECTS
from localmodels.flows.visit import Visit
from localmodels.server.library import Operation, ProgressRoute, transfer
from localmodels.server.wire import VISIT

OLLAMA = DIALECTS["ollama"]


def lines_of(failure: Exception) -> tuple[list[dict[str, str]], Exception | None]:
    """What a client reads of a pull that fails so, and what the application hears."""

    async def pull(_request: PullRequest) -> AsyncGenerator[Progress, None]:
        yield Progress("pulling manifest")
        raise failure

    received = [{"type": "http.request", "body": b'{"model": "m"}', "more_body": False}]
    sent: list[Message] = []

    async def receive() -> Message:
        return received.pop() if received else await asyncio.Future()

    async def send(message: Message) -> None:
        sent.append(message)

    async def main() -> Exception | None:
        route = ProgressRoute(OLLAMA, Operation(library.read_pull, pull, transfer))
        try:
            await route({"type": "http", "method": "POST", "headers": [], VISIT: Visit()}, receive, send)
        except RuntimeError as error:
            return error
        return None

    heard = asyncio.run(main())
    body = b"".join(message.get("body", b"") for message in sent)
    return [json.loads(line) for line in body.splitlines()], heard


def test_an_error_is_the_last_line() -> None:
    lines, heard = lines_of(DiskFull("disk full"))
    assert lines == [{"status": "pulling manifest"}, {"error": "disk full"}]
    assert heard is None


def test_a_defect_is_told_without_its_trace_and_goes_on_to_the_log() -> None:
    defect = RuntimeError("secret path")
    lines, heard = lines_of(defect)
    assert [*lines[0]] == ["status"]
    assert "internal error" in lines[1]["error"]
    assert "secret" not in lines[1]["error"]
    assert heard is defect
