"""The whole matrix, against the application with its own routes and echoes for endpoints (threat V-25, F21)."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from msgspec.structs import replace
from starlette.types import Receive, Scope, Send
from tests.matrix import grid
from tools.reference import rows

from localmodels.flows.access.ledger import Ledger
from localmodels.flows.access.limits import Limiter
from localmodels.server.app import Application
from localmodels.server.gate import Gate
from localmodels.server.identify import Doorkeeper
from localmodels.server.permissions import PERMISSIONS
from localmodels.server.routes import OLLAMA_PREFIX
from localmodels.server.wire import respond
from localmodels.state.memory import MemoryUsage


async def reached(scope: Scope, receive: Receive, send: Send) -> None:
    """Stands where an endpoint is: whoever gets here got in."""
    await respond(send, 200, b"in")


def application(doorkeeper: Doorkeeper | None = None, permissions: Any = PERMISSIONS) -> Application:
    keys = grid.ring()
    ledger = Ledger(MemoryUsage(), keys)
    door = doorkeeper or Doorkeeper(keys, Limiter(ledger), ledger)
    gate = Gate(["models.example.org", "10.0.0.5"])
    return Application([replace(row, answers=reached) for row in rows()], gate, door, permissions=permissions)


def scope_of(case: grid.Case) -> dict[str, Any]:
    text = case.credential.text
    shown = [(name, value.format(text, text)) for name, value in grid.CARRIERS[case.carrier]] if text else []
    query = f"api_key={text}&key={text}&authorization=Bearer {text}" if case.carrier == "query" else ""
    headers = [("host", case.place.host), *shown]
    return {
        "type": "http",
        "method": case.method,
        "path": case.path,
        "query_string": query.encode(),
        "server": (case.place.reached, 8000),
        "headers": [(name.encode(), value.encode()) for name, value in headers],
    }


async def nothing() -> Any:
    return {"type": "http.request", "body": b""}


async def status_of(program: Application, case: grid.Case) -> int:
    statuses: list[int] = []

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])
            assert case.credential.text not in str(message["headers"]) or not case.credential.text
        elif case.credential.text:
            assert case.credential.text.encode() not in message.get("body", b"")

    await program(scope_of(case), nothing, send)
    (status,) = statuses
    return status


def matched(path: str) -> str | None:
    """The pattern that a path belongs to, by their texts alone: exact ones first, then in the order of the table."""
    if path in grid.patterns():
        return path
    for pattern in grid.patterns():
        before, brace, rest = pattern.partition("{")
        name, _, after = rest.partition("}")
        if brace and path.startswith(before) and path.endswith(after) and len(path) >= len(before) + len(after):
            value = path[len(before) : len(path) - len(after)]
            if name.endswith(":path") or (value and "/" not in value):  # a rest of the path may be empty
                return pattern
    return None


@pytest.mark.parametrize("place", grid.PLACES, ids=lambda place: place.name)
def test_every_request_of_the_matrix_ends_as_the_table_says(place: grid.Place) -> None:
    async def story() -> tuple[int, list[tuple[grid.Case, int, int]]]:
        program = application()
        wrong, count = [], 0
        for case in grid.cases(place):
            count += 1
            status, right = await status_of(program, case), grid.expected(case, matched(case.path))
            if status != right:
                wrong.append((case, status, right))
        return count, wrong

    count, wrong = asyncio.run(story())
    assert wrong[:5] == []
    assert count > 15_000


def test_every_row_and_every_answer_is_in_the_matrix() -> None:
    """A matrix that says 401 everywhere would prove little."""
    seen: Counter[int] = Counter()
    for place in grid.PLACES:
        for case in grid.cases(place):
            seen[grid.expected(case, matched(case.path))] += 1
    assert set(seen) == {200, 204, 400, 401, 403, 404, 405}
    assert min(seen.values()) > 100
    asked = {(path, method) for path, methods in PERMISSIONS.items() for method in methods}
    held = {(pattern.removeprefix(OLLAMA_PREFIX), method) for pattern in grid.patterns() for method in grid.METHODS}
    assert asked <= held


@pytest.mark.parametrize("hole", ["open", "infer"])
def test_one_wrong_row_is_found(hole: str) -> None:
    """The proof fails when the program is broken: here by a route that lets in more than the table says."""

    async def story() -> int:
        broken = {path: dict(methods) for path, methods in PERMISSIONS.items()}
        broken["/api/pull"]["POST"] = hole  # type: ignore[assignment]
        program = application(permissions=broken)
        found = 0
        for case in grid.cases(grid.PLACES[1]):
            if case.pattern == "/api/pull" and case.spelling == "plain":
                found += await status_of(program, case) != grid.expected(case, matched(case.path))
        return found

    assert asyncio.run(story()) > 0


def test_a_server_that_requires_keys_lets_nobody_in_without_one() -> None:
    async def story() -> list[tuple[grid.Case, int]]:
        keys = grid.ring()
        ledger = Ledger(MemoryUsage(), keys)
        program = application(Doorkeeper(keys, Limiter(ledger), ledger, require_key=True))
        here, elsewhere = grid.PLACES[:2]
        wrong = []
        for case in grid.cases(here):
            # What holds elsewhere without this switch, holds here with it.
            status = await status_of(program, case)
            if status != grid.expected(replace(case, place=elsewhere), matched(case.path)):
                wrong.append((case, status))
        return wrong

    assert asyncio.run(story())[:5] == []
