"""Every call about artifacts and tasks, beside those about models; ``_sync_task_calls.py`` is generated from it.

Apart from them, since most commands need none of these and must not wait until they are imported. The rule of tasks: a
server goes on with one whether or not somebody listens, so leaving a stream stops nothing but the listening.
"""

from __future__ import annotations

from asyncio import to_thread
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from pathlib import Path
from urllib.parse import quote

from localmodels.client._async_calls import GOOD, AsyncCalls, AsyncReply
from localmodels.client.parcels import Parcel
from localmodels.core.artifacts import Artifact
from localmodels.core.deploys import Deployment, Removal
from localmodels.core.library import Watcher, unwatched
from localmodels.core.tasks import Event, Task, TaskState
from localmodels.dialects import deploys, tasks

TaskWatcher = Callable[[Event], object]
"""Whoever wants to know how far a task is, called with each of its events."""


def nobody(event: Event) -> None:
    """Nobody wants to know."""


class AsyncTaskCalls(AsyncCalls):
    """Speaks with one LocalModels server; with an Ollama only where no artifact and no task is asked for.

    Methods that give events raise what ended the task, by the class that the server had for it; ``StreamCut`` where the
    connection ended first, and the task goes on.
    """

    async def artifacts(self) -> tuple[Artifact, ...]:
        """What was uploaded to become models, the newest first."""
        return deploys.read_artifacts(await self._get("/models/"))

    def upload_artifact(self, path: Path | str, progress: Watcher = unwatched) -> AsyncGenerator[Event, None]:
        """Uploads a folder of weights, an archive or a GGUF file; gives how far the server is once it has all of it.

        ``progress`` is told how far it is sent. Of a folder only what belongs to a model is sent
        (:func:`localmodels.client.parcels.contents` says what stays).

        Raises:
            OSError: a file cannot be read.
        """
        return self._sent("/models/upload/", path, {}, progress)

    def deploy(
        self, path: Path | str, wanted: Deployment, progress: Watcher = unwatched
    ) -> AsyncGenerator[Event, None]:
        """Uploads, and makes a model of it; gives how far it is. The model answers when the last event has come.

        Leaving the stream stops nothing: :meth:`tasks` has it. Raises as :meth:`upload_artifact`.
        """
        return self._sent("/models/deploy/", path, deploys.write_form(wanted), progress)

    def create_from_artifact(self, wanted: Deployment) -> AsyncGenerator[Event, None]:
        """Makes a model of an artifact that was uploaded; gives how far it is."""
        return self._events("POST", "/models/create/", deploys.write_create(wanted))

    def delete_artifact(self, name: str) -> AsyncGenerator[Event, None]:
        """Takes an artifact away; models that were made of it stay."""
        return self._events("DELETE", "/models/", deploys.write_delete(Removal(name)))

    async def tasks(self, state: TaskState | None = None) -> tuple[Task, ...]:
        """Uploads, creations and deployments, the newest first; of one state, or all."""
        return tasks.read_tasks(await self._get(f"/api/tasks?state={state}" if state else "/api/tasks"))

    async def task(self, id: str) -> Task:  # noqa: A002
        """One task."""
        return tasks.read_task(await self._get(f"/api/tasks/{quote(id, safe='')}"))

    def follow(self, id: str, after: int = -1) -> AsyncGenerator[Event, None]:  # noqa: A002
        """What a task has said after this number, and then what it says, until it ends; raises what ended it."""
        return self._events("GET", f"/api/tasks/{quote(id, safe='')}/events?after={after}", None)

    async def cancel_task(self, id: str) -> Task:  # noqa: A002
        """Ends a task, and returns when nothing is left of what it had begun; forgets one that has ended."""
        async with self._carrier.open("DELETE", f"/api/tasks/{quote(id, safe='')}", None) as reply:
            return tasks.read_task(await self._good(reply))

    def retry_task(self, id: str) -> AsyncGenerator[Event, None]:  # noqa: A002
        """Repeats a task that did not succeed, from its last whole step; gives how far the new one is."""
        return self._events("POST", f"/api/tasks/{quote(id, safe='')}/retry", b"{}")

    async def run_task(self, events: AsyncGenerator[Event, None], watch: TaskWatcher = nobody) -> None:
        """Follows a task to its end; ``watch`` is told each event.

        ::

            await client.run_task(client.deploy("./tuned", Deployment(CreateRequest("mine"))), print)
        """
        async with aclosing(events):
            async for event in events:
                watch(event)

    async def _sent(
        self, path: str, file: Path | str, fields: Mapping[str, str], progress: Watcher
    ) -> AsyncGenerator[Event, None]:
        with await to_thread(Parcel, file, fields) as parcel:
            body = self._packed(parcel, progress)
            sending = self._carrier.open("POST", path, body, size=parcel.size, content_type=parcel.content_type)
            async with sending as reply, aclosing(self._said(reply)) as events:
                async for event in events:
                    yield event

    @staticmethod
    async def _packed(parcel: Parcel, progress: Watcher) -> AsyncIterator[bytes]:
        while data := await to_thread(parcel.read):
            yield data
            progress(parcel.progress())

    async def _events(self, method: str, path: str, body: bytes | None) -> AsyncGenerator[Event, None]:
        async with self._carrier.open(method, path, body) as reply, aclosing(self._said(reply)) as events:
            async for event in events:
                yield event

    async def _said(self, reply: AsyncReply) -> AsyncGenerator[Event, None]:
        if reply.status not in GOOD:
            await self._good(reply)
        lines = tasks.EventLines()
        async for data in reply.pieces():
            for event in lines.feed(data):
                yield event
        lines.close()
