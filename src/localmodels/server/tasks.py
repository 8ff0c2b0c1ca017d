"""``/api/tasks``: long work, seen, followed, cancelled, forgotten and repeated; and how a task is an answer.

The rule: a task is its owner's and the administrator's; to everybody else it is not there.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial

from starlette.types import Receive, Scope, Send

from localmodels.core.tasks import ENDED, HISTORY, Event, Task
from localmodels.dialects import tasks as wire
from localmodels.dialects.framing import NDJSON
from localmodels.flows.tasks.tasks import Tasks
from localmodels.server.streaming import Form, respond_stream
from localmodels.server.wire import MOST_BLOCKED, attended, query_of, read_body, visit_of, whole_of

# Tasks of a list, where nobody says how many.
LIMIT = 100
# Bytes of a body that says nothing.
SMALL = 2**16


class TaskRoutes:
    """The routes.

    Args:
        tasks: all of them.
        most_blocked: seconds that a watcher may take nothing before it is given up.
    """

    def __init__(self, tasks: Tasks, *, most_blocked: float = MOST_BLOCKED) -> None:
        self._tasks = tasks
        self._most_blocked = most_blocked

    async def list(self, scope: Scope, body: bytes) -> bytes:
        """``GET /api/tasks``; ``?state=`` and ``?limit=`` narrow it."""
        query = query_of(scope)
        state = wire.read_state(query["state"]) if "state" in query else None
        most = whole_of(query, "limit", LIMIT, 1, HISTORY)
        return wire.write_tasks(await self._tasks.all(owner=owner_for(scope), state=state, most=most))

    async def one(self, scope: Scope, body: bytes) -> bytes:
        """``/api/tasks/{uuid}``, by its method."""
        return await (self.delete if scope["method"] == "DELETE" else self.get)(scope)

    async def get(self, scope: Scope) -> bytes:
        """``GET``."""
        return wire.write_task(await self._tasks.get(id_in(scope), owner_for(scope)))

    async def delete(self, scope: Scope) -> bytes:
        """``DELETE``: cancels one that goes on, forgets one that has ended."""
        owner = owner_for(scope)
        task = await self._tasks.get(id_in(scope), owner)
        end = self._tasks.remove if task.state in ENDED else self._tasks.cancel
        return wire.write_task(await end(task.id, owner))

    async def events(self, scope: Scope, receive: Receive, send: Send) -> None:
        """``GET /api/tasks/{uuid}/events``: those after ``?after=``, and those to come, until the task has ended."""
        await read_body(receive, SMALL)
        after = whole_of(query_of(scope), "after", -1, -1, 2**53)
        task = await self._tasks.get(id_in(scope), owner_for(scope))
        await attended(scope, receive, self._followed(task, after, scope, send))

    async def retry(self, scope: Scope, receive: Receive, send: Send) -> None:
        """``POST /api/tasks/{uuid}/retry``: begins it once more; the events are those of the new task."""
        await read_body(receive, SMALL)
        task = await self._tasks.retry(id_in(scope), owner_for(scope))
        await attended(scope, receive, answered(self._tasks, task, scope, send, most_blocked=self._most_blocked))

    async def _followed(self, task: Task, after: int, scope: Scope, send: Send) -> None:
        async with aclosing(self._tasks.follow(task.id, after)) as events, aclosing(_lines(task, events)) as lines:
            # The head goes out before the first event, which may be an hour away.
            await respond_stream(scope, send, b"", lines, _WRITTEN, most_blocked=self._most_blocked)


async def answered(tasks: Tasks, task: Task, scope: Scope, send: Send, *, most_blocked: float = MOST_BLOCKED) -> None:
    """Answers a request with the task that it has begun: its events, as they come. A client that leaves stops nothing.

    Raises:
        LocalModelsError: it failed before it said anything; nothing has been sent.
    """
    async with aclosing(tasks.follow(task.id)) as events:
        first = await anext(events)
        if first.status >= wire.AT_FAULT:
            raise wire.error_in(first)
        form = Form(NDJSON, partial(wire.write_event, task.id), None)
        await respond_stream(scope, send, first, events, form, most_blocked=most_blocked)


def owner_for(scope: Scope) -> str | None:
    """Whose tasks this caller may see: his own, or an administrator everybody's."""
    caller = visit_of(scope).caller
    return None if caller.may("admin") else caller.id


def id_in(scope: Scope) -> str:
    """The id in the address."""
    found: str = scope["path_params"]["uuid"]
    return found


async def _lines(task: Task, events: AsyncGenerator[Event, None]) -> AsyncGenerator[bytes, None]:
    async for event in events:
        yield wire.write_event(task.id, event)


_WRITTEN: Form[bytes] = Form(NDJSON, bytes, None)
