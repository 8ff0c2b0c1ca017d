"""Seed 001's routes: artifacts are uploaded, listed, taken away, and become models. Every change is a task.

The rule: what can be told to be wrong is told by a status, before a task begins and, where the fields come before the
file, before the file does; that no more tasks may wait is told before anything is read. From then on the answer is the
story of the task, which goes on if its client leaves.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Protocol
from uuid import uuid4

import msgspec
from starlette.types import Receive, Scope, Send

from localmodels.core.access import Caller
from localmodels.core.artifact_names import name_of
from localmodels.core.artifacts import Artifact
from localmodels.core.deploys import Deployment, Upload
from localmodels.core.tasks import Event
from localmodels.dialects import deploys as dialect
from localmodels.dialects.framing import NDJSON
from localmodels.dialects.tasks import write_event
from localmodels.flows.concurrency.threads import in_thread
from localmodels.flows.deploy.deploys import request_of
from localmodels.flows.tasks.tasks import Tasks
from localmodels.server.edge.seam import edge_of
from localmodels.server.forms import boundary_of, read_form
from localmodels.server.library import announced, creation, pieces
from localmodels.server.tasks import answered
from localmodels.server.wire import attended, begin, header, read_body, visit_of

SMALL = 2**20  # bytes of a request without a file: a template may be in it


class Artifacts(Protocol):
    """What the routes need of them."""

    async def all(self) -> Sequence[Artifact]:
        """The newest first."""
        ...

    async def save(self, job: str, filename: str, pieces: AsyncIterator[bytes], size: int | None) -> None:
        """Keeps an uploaded file in a draft."""
        ...

    async def discard(self, job: str) -> None:
        """Throws a draft away."""
        ...


Check = Callable[[Deployment], None]
"""Looks whether something can be made so, as far as that can be known now; in a thread."""


class Deploying:
    """The endpoints.

    Args:
        artifacts: where uploads go.
        tasks: do the work.
        check: looks at what is asked before a task begins.
    """

    def __init__(self, artifacts: Artifacts, tasks: Tasks, check: Check) -> None:
        self._artifacts = artifacts
        self._tasks = tasks
        self._check = check

    async def list(self, scope: Scope, receive: Receive, send: Send) -> None:
        """``GET /models/``. The seed gives a task to each listing; here it is a number that nothing is kept under."""
        found = await self._artifacts.all()
        task_id = str(uuid4())
        await begin(send, 200, NDJSON)
        for place, one in enumerate(found):
            line = await in_thread(_listed, task_id, one, place, len(found))
            await send({"type": "http.response.body", "body": line, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def delete(self, scope: Scope, receive: Receive, send: Send) -> None:
        """``DELETE /models/``."""
        wanted = dialect.read_delete(await read_body(receive, SMALL))
        caller = visit_of(scope).caller
        task = await self._tasks.start("delete", wanted.artifact, request_of(wanted), caller.id, waits=False)
        await attended(scope, receive, answered(self._tasks, task, scope, send))

    async def upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        """``POST /models/upload/``."""
        job, file, _ = await self._saved(scope, receive, checked=False)
        caller = visit_of(scope).caller
        async with self._owed(job):
            task = await self._tasks.start("upload", name_of(file), request_of(Upload(file)), caller.id, id=job)
        await attended(scope, receive, answered(self._tasks, task, scope, send))

    async def create(self, scope: Scope, receive: Receive, send: Send) -> None:
        """``POST /models/create/``."""
        caller = visit_of(scope).caller
        self._tasks.require_place(caller.id)
        wanted = dialect.read_create(await read_body(receive, SMALL))
        allowed(wanted, caller)
        await in_thread(self._check, wanted)
        task = await self._tasks.start("create", wanted.create.model, request_of(wanted), caller.id)
        await attended(scope, receive, answered(self._tasks, task, scope, send))

    async def deploy(self, scope: Scope, receive: Receive, send: Send) -> None:
        """``POST /models/deploy/``."""
        job, file, fields = await self._saved(scope, receive, checked=True)
        caller = visit_of(scope).caller
        async with self._owed(job):
            wanted = await self._wanted(file, fields, caller)
            task = await self._tasks.start("deploy", wanted.create.model, request_of(wanted), caller.id, id=job)
        await attended(scope, receive, answered(self._tasks, task, scope, send))

    async def _saved(self, scope: Scope, receive: Receive, *, checked: bool) -> tuple[str, str, dict[str, str]]:
        """Takes a form in; the id of the draft in which its file lies, the file's name, and the fields."""
        boundary = boundary_of(header(scope, b"content-type"))
        size = announced(scope)
        if (edge := edge_of(scope)) is not None:
            edge.stream_body()
        job = str(uuid4())
        caller = visit_of(scope).caller
        self._tasks.require_place(caller.id)  # before anything of the body is read
        name = ""

        async def take(filename: str, before: Mapping[str, str], body: AsyncIterator[bytes]) -> None:
            nonlocal name
            name = filename
            name_of(filename)
            if checked and dialect.NAME in before:
                await self._wanted(filename, before, caller)
            await self._artifacts.save(job, filename, body, size)

        async with self._owed(job):
            fields = await read_form(boundary, pieces(receive), size, dialect.FILES, take)
        return job, name, fields

    @asynccontextmanager
    async def _owed(self, job: str) -> AsyncIterator[None]:
        """A draft that goes if this does not end well; from then on it is its task's."""
        try:
            yield
        except BaseException:  # also when the client leaves: there is no task yet that would clear it away
            await self._artifacts.discard(job)
            raise

    async def _wanted(self, file: str, fields: Mapping[str, str], caller: Caller) -> Deployment:
        """What a form asks for, once it is known that it may and can be had."""
        read = dialect.read_form(fields, name_of(file))
        wanted = msgspec.structs.replace(read, upload=Upload(file))
        allowed(wanted, caller)
        await in_thread(self._check, wanted)
        return wanted


def _listed(task_id: str, artifact: Artifact, place: int, of: int) -> bytes:
    """An artifact's line; in a thread, since it may name ten thousand files."""
    details = {"model": artifact.name, **msgspec.to_builtins(artifact)}
    return write_event(task_id, Event(place, "Get model.", (place + 1) / of, details))


def allowed(wanted: Deployment, caller: Caller) -> None:
    """Looks whether a caller's key is for the model that is made, and for what it is made of.

    Raises:
        Forbidden: it is not.
    """
    creation(wanted.create, caller)
