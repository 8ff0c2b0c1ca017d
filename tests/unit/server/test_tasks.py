"""``/api/tasks`` through the application: what is shown to whom, streams and their ends, in seed 001's shapes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send
from tests.awaited import awaited
from tests.tasks_at_work import Worker, ended, error, unhurried, work_of
from tools.reference import rows

from localmodels.core.access import LOCAL, Caller
from localmodels.core.errors import Conflict
from localmodels.core.tasks import Step, Task
from localmodels.flows.tasks.tasks import Tasks
from localmodels.flows.visit import Visit
from localmodels.server.app import Application
from localmodels.server.gate import Gate
from localmodels.server.routes import Row
from localmodels.server.rows import tasks as task_rows
from localmodels.server.tasks import TaskRoutes, answered
from localmodels.server.wire import Headers
from localmodels.state.memory import MemoryTasks

CALLERS = {
    "admin": LOCAL,
    **{name: Caller(name, name, frozenset({"manage"})) for name in ("bob", "eve")},
    "reader": Caller("reader", "reader", frozenset({"list", "infer", "observe"})),
}
SEED_KEYS = {"action", "task_uuid", "progress_ratio", "progress", "details"}


class Named:
    """Access by a header that names the caller."""

    def caller(self, scope: Scope) -> Caller:
        return CALLERS[dict(scope["headers"])[b"x-who"].decode()]

    def admit(self, visit: Visit) -> None: ...

    def told(self, visit: Visit) -> Headers:
        return ()


class Site:
    """A server that has tasks."""

    def __init__(self, *workers: Worker) -> None:
        rest = iter(workers)
        self.tasks = Tasks(MemoryTasks(), pause=unhurried)
        self.tasks.register("create", lambda ticket: next(rest)(ticket))  # noqa: PLW0108 - one after the other
        routes = TaskRoutes(self.tasks)
        mine = {row.path: row for row in task_rows.of(routes)}
        mine["/models"] = Row(("GET",), "/models", "plain", "", self._begins)  # stands for what begins tasks
        self._application = Application([mine.get(row.path, row) for row in rows()], Gate(), Named())

    async def _begins(self, scope: Scope, receive: Receive, send: Send) -> None:
        task = await self.tasks.start("create", "m")
        await answered(self.tasks, task, scope, send)

    async def ask(self, path: str, method: str = "GET", who: str = "admin") -> tuple[int, list[Any], dict[str, str]]:
        """The status, the lines of the answer, and its head."""
        call = Call(self._application, path, method, who)
        await call.ended
        return call.status, [json.loads(line) for line in call.body.splitlines()], call.head

    def call(self, path: str, who: str = "admin") -> Call:
        """A request that is under way."""
        return Call(self._application, path, "GET", who)


class Call:
    """One request."""

    def __init__(self, application: Application, path: str, method: str, who: str) -> None:
        self.status = 0
        self.head: dict[str, str] = {}
        self.body = b""
        self.began = asyncio.Event()
        self._gone = asyncio.Event()
        self._asked = False
        path, _, query = path.partition("?")
        scope = {
            "type": "http", "method": method, "path": path, "query_string": query.encode(),
            "headers": [(b"host", b"localhost"), (b"x-who", who.encode())], "server": ("127.0.0.1", 8000),
        }  # fmt: skip
        self.ended = asyncio.ensure_future(application(scope, self._receive, self._send))

    def leave(self) -> None:
        """The client closes its connection."""
        self._gone.set()

    async def _receive(self) -> Message:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b""}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.head = {name.decode(): value.decode() for name, value in message["headers"]}
            self.began.set()
        self.body += message.get("body", b"")


async def begun(site: Site, owner: str = "bob") -> Task:
    return await site.tasks.start("create", "m", b'{"secret": 1}', owner)


@awaited
async def test_a_task_is_shown_while_it_runs_and_when_it_has_ended() -> None:
    site = Site(worker := Worker(Step("Save.", 0.25, {"model": "m"}, "saved")))
    task = await begun(site)
    watcher = site.call(f"/api/tasks/{task.id}/events")
    await watcher.began.wait()
    status, (shown,), _ = await site.ask(f"/api/tasks/{task.id}")
    assert status == 200
    assert [shown[name] for name in ("state", "kind", "model", "owner")] == ["running", "create", "m", "bob"]
    assert (shown["ended_at"], shown["error"], shown["retry_of"]) == (None, None, None)
    assert "secret" not in str(shown)
    worker.order(*work_of("m"))
    await watcher.ended
    assert watcher.head["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in watcher.body.splitlines()]
    assert [set(line) for line in lines] == [{"status", "message", "number"}] * 3
    assert {*map(frozenset, (line["message"] for line in lines))} == {frozenset(SEED_KEYS)}
    assert [line["message"]["progress_ratio"] for line in lines] == [0.25, 0.25, 1.0]
    assert all(line["message"]["progress_ratio"] == line["message"]["progress"] for line in lines)
    assert all(line["message"]["task_uuid"] == task.id for line in lines)
    assert lines[-1]["message"]["action"] == "Success."
    _, again, _ = await site.ask(f"/api/tasks/{task.id}/events?after=0")
    assert again == lines[1:]
    _, (listed,), _ = await site.ask("/api/tasks?state=succeeded&limit=1")
    assert [one["task_uuid"] for one in listed["tasks"]] == [task.id]
    assert (await site.ask("/api/tasks?state=failed"))[1] == [{"tasks": []}]


@awaited
async def test_to_everybody_but_its_owner_and_the_administrator_it_is_not_there() -> None:
    site = Site(Worker())
    task = await begun(site)
    for path, method in (("", "GET"), ("", "DELETE"), ("/events", "GET"), ("/retry", "POST")):
        status, (said,), _ = await site.ask(f"/api/tasks/{task.id}{path}", method, "eve")
        assert (status, said) == (404, {"detail": f"task '{task.id}' not found"})
        status, (said,), _ = await site.ask(f"/api/tasks/{task.id}{path}", method, "reader")
        assert status == 403
        assert "manage" in said["detail"]
    assert (await site.ask("/api/tasks", who="eve"))[1] == [{"tasks": []}]
    assert [len((await site.ask("/api/tasks", who=who))[1][0]["tasks"]) for who in ("bob", "admin")] == [1, 1]
    assert (await site.ask(f"/api/tasks/{task.id}", "DELETE", "bob"))[1][0]["state"] == "cancelled"


@awaited
async def test_deleting_cancels_and_then_forgets() -> None:
    site = Site(worker := Worker(Step("Begin.", 0.5)))
    task = await begun(site)
    await worker.began.wait()
    watcher = site.call(f"/api/tasks/{task.id}/events")
    await watcher.began.wait()
    status, (shown,), _ = await site.ask(f"/api/tasks/{task.id}", "DELETE")
    assert (status, shown["state"], worker.left) == (200, "cancelled", 1)
    assert shown["error"] == {"status": 499, "type": "cancelled", "loc": [], "msg": "the task was cancelled"}
    await watcher.ended
    last = json.loads(watcher.body.splitlines()[-1])
    assert last["status"] == 499
    assert {"type", "loc", "msg"} <= set(last["message"]["details"])
    assert (await site.ask(f"/api/tasks/{task.id}", "DELETE"))[1][0]["state"] == "cancelled"
    assert (await site.ask(f"/api/tasks/{task.id}"))[0] == 404


@awaited
async def test_a_client_that_leaves_stops_nothing() -> None:
    site = Site(worker := Worker(Step("Begin.", 0.5)))
    task = await begun(site)
    watchers = [site.call(f"/api/tasks/{task.id}/events") for _ in range(2)]
    for watcher in watchers:
        await watcher.began.wait()
        watcher.leave()
        await watcher.ended
    assert (await site.tasks.get(task.id)).state == "running"
    worker.order(None)
    assert (await ended(site.tasks, task.id)).state == "succeeded"


@awaited
async def test_a_retry_is_a_new_task_and_its_stream() -> None:
    site = Site(worker := Worker(Step("Save.", 0.5, whole="saved")), Worker(*work_of("m")))
    task = await begun(site)
    status, (said,), _ = await site.ask(f"/api/tasks/{task.id}/retry", "POST")
    assert (status, said["detail"].startswith(f"task '{task.id}' is ")) == (409, True)
    worker.order(error(Conflict, "in use", "model"))
    await ended(site.tasks, task.id)
    _, (shown,), _ = await site.ask(f"/api/tasks/{task.id}")
    assert shown["error"] == {"status": 409, "type": "conflict", "loc": ["model"], "msg": "in use"}
    status, lines, _ = await site.ask(f"/api/tasks/{task.id}/retry", "POST", "bob")
    assert (status, lines[-1]["message"]["progress"]) == (200, 1.0)
    again = await site.tasks.get(lines[0]["message"]["task_uuid"])
    assert (again.retry_of, again.owner, again.state) == (task.id, "bob", "succeeded")


@awaited
async def test_what_fails_before_it_says_anything_is_a_status() -> None:
    site = Site(Worker(error(Conflict, "in use", "model")), Worker(Step("Begin.", 0.1), error(Conflict, "in use")))
    status, (said,), _ = await site.ask("/models")
    assert (status, said) == (409, {"detail": "in use"})
    status, lines, _ = await site.ask("/models")
    assert (status, [line["status"] for line in lines]) == (200, [200, 409])
    assert "progress_ratio" in lines[-1]["message"]


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/api/tasks?limit=0", 422, "limit must be a whole number between 1 and 1000"),
        ("/api/tasks?limit=x", 422, "limit must be"),
        ("/api/tasks?state=gone", 422, "state must be one of queued, running, succeeded"),
        ("/api/tasks/none", 404, "task 'none' not found"),
        ("/api/tasks/none/events", 404, "task 'none' not found"),
        ("/api/tasks/none/events?after=-2", 422, "after must be"),
        ("/api/tasks/a/b", 404, "nothing at"),
    ],
)
def test_what_is_wrong_is_said_in_the_words_of_our_own_paths(path: str, status: int, words: str) -> None:
    found, (said,), _ = asyncio.run(Site().ask(path))
    assert found == status
    assert [*said] == ["detail"]
    assert words in said["detail"]
