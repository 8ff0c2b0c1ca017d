"""Artifacts and tasks of the fake server: the dialect's server role, and the server's own reader of forms."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx2
import msgspec
from msgspec.structs import replace

from localmodels.core.artifact_names import FIELD, name_of
from localmodels.core.artifacts import Artifact, ArtifactFile
from localmodels.core.errors import NotFound
from localmodels.core.tasks import ENDED, Event, Failure, Task
from localmodels.dialects import deploys
from localmodels.dialects import tasks as wire
from localmodels.server.forms import boundary_of, read_form

T = TypeVar("T")

TUNED = Artifact(
    name="tuned",
    kind="model",
    size=151_000,
    architecture="LlamaForCausalLM",
    dtype="BF16",
    tokenizer="bpe",
    files=(ArtifactFile("config.json", 1000), ArtifactFile("model.safetensors", 150_000)),
    source="tuned.tar",
    created_at=1_767_265_200_000_000_000,  # 2026-01-01T11:00Z
)
STYLE = Artifact(name="style", kind="adapter", size=900, base="someone/tiny", created_at=1_767_261_600_000_000_000)
DONE = Task(
    id="0b1e6a2c-1111-4a3b-8c4d-000000000001",
    kind="deploy",
    subject="mine",
    owner="local",
    state="succeeded",
    reached="created",
    action="Success create model",
    ratio=1.0,
    origin="0b1e6a2c-1111-4a3b-8c4d-000000000001",
    created_at=1_767_265_200_000_000_000,
    started_at=1_767_265_201_000_000_000,
    ended_at=1_767_265_260_000_000_000,
)
FAILED = replace(
    DONE,
    id="0b1e6a2c-2222-4a3b-8c4d-000000000002",
    state="failed",
    reached="uploaded",
    action="Verify model.",
    ratio=0.9,
    failure=Failure("the model gave no token", "engine_error", 500),
    created_at=1_767_261_600_000_000_000,
)
RUNNING = replace(
    DONE,
    id="c0ffee00-3333-4a3b-8c4d-000000000003",
    kind="upload",
    subject="tuned",
    state="running",
    reached="saved",
    action="Start extracted model.",
    ratio=0.66,
    ended_at=0,
    created_at=1_767_268_740_000_000_000,
)
STORY = (
    Event(0, "Start save model.", 0.0, {"model": "tuned.tar"}),
    Event(1, "Extract model.", 0.4, {"model": "tuned.tar", "total": 2000, "completed": 500}),
    Event(2, "Success upload model file.", 0.5, {"model": "tuned.tar", "artifact": "tuned", "notes": ["It is tiny."]}),
    Event(3, "Note.", 0.6, {"model": "tuned", "status": "the license is not known"}),
    Event(4, "Convert model.", 0.7, {"model": "tuned", "status": "converting", "total": 1000, "completed": 100}),
    Event(5, "Verify model.", 0.9, {"model": "tuned"}),
    Event(6, "Success create model", 1.0, {"model": "tuned", "model_name_on_ollama": "mine"}),
)


@dataclass
class FakeTasks:
    """What the server has and tells; ``wanted`` keeps what was asked, ``files`` what came, by its name."""

    artifacts: tuple[Artifact, ...] = (TUNED, STYLE)
    tasks: tuple[Task, ...] = (RUNNING, DONE, FAILED)
    story: Iterable[Event] = STORY
    fails: Mapping[str, Failure] = field(default_factory=dict)
    wanted: list[object] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)

    def answer(self, request: httpx2.Request) -> bytes | None:
        """The body of the answer; None if it is none of our paths.

        Raises:
            LocalModelsError: what the server would refuse it with.
        """
        path, method = request.url.path, request.method
        if path.startswith("/models/"):
            return PLACES[method, path](self, request)
        if path == "/api/tasks":
            state = request.url.params.get("state")
            return wire.write_tasks(task for task in self.tasks if state in {None, task.state})
        if path.startswith("/api/tasks/"):
            id_, _, action = path.removeprefix("/api/tasks/").partition("/")
            return self._task(id_, action or method, int(request.url.params.get("after", -1)))
        return None

    @staticmethod
    def streams(request: httpx2.Request) -> bool:
        """Is the answer one that may be cut?"""
        return request.url.path.startswith("/models/") or request.url.path.endswith(("/events", "/retry"))

    def list(self, request: httpx2.Request) -> bytes:
        told = ({"model": one.name, **msgspec.to_builtins(one)} for one in self.artifacts)
        return b"".join(wire.write_event("x", Event(place, "Get model.", 1.0, one)) for place, one in enumerate(told))

    def delete(self, request: httpx2.Request) -> bytes:
        wanted = deploys.read_delete(request.content)
        self.wanted.append(wanted)
        if wanted.artifact not in {one.name for one in self.artifacts}:
            raise NotFound(f"there is no artifact '{wanted.artifact}'")
        return self._told("delete")

    def create(self, request: httpx2.Request) -> bytes:
        self.wanted.append(deploys.read_create(request.content))
        return self._told("create")

    def upload(self, request: httpx2.Request) -> bytes:
        self.wanted.append(self._form(request)[0])
        return self._told("upload")

    def deploy(self, request: httpx2.Request) -> bytes:
        filename, fields = self._form(request)
        self.wanted.append(deploys.read_form(fields, name_of(filename)))
        return self._told("deploy")

    def _told(self, kind: str, after: int = -1) -> bytes:
        lines = [wire.write_event("x", event) for event in self.story if event.number > after]
        if (failure := self.fails.get(kind)) is not None:
            last = Event(len(lines), "Error.", 0.0, wire.failure_details(failure), failure.status)
            lines[-1:] = [wire.write_event("x", last)]
        return b"".join(lines)

    def _task(self, id_: str, action: str, after: int) -> bytes:
        task = next((one for one in self.tasks if one.id == id_), None)
        if task is None:
            raise NotFound(f"task '{id_}' not found")
        if action == "events":
            return self._told("follow", after)
        if action == "retry":
            self.wanted.append(("retry", id_))
            return self._told("retry")
        if action == "DELETE":
            self.wanted.append(("DELETE", id_))
            task = task if task.state in ENDED else replace(task, state="cancelled")
        return wire.write_task(task)

    def _form(self, request: httpx2.Request) -> tuple[str, Mapping[str, str]]:
        boundary, body, names = boundary_of(request.headers["content-type"]), request.content, list[str]()
        assert int(request.headers["content-length"]) == len(body)

        async def take(filename: str, fields: Mapping[str, str], pieces: AsyncIterator[bytes]) -> None:
            assert fields or request.url.path.endswith("/upload/")  # they come first, so that they are looked at first
            names.append(filename)
            self.files[filename] = b"".join([piece async for piece in pieces])

        async def whole() -> AsyncIterator[bytes]:
            yield body

        fields = finished(read_form(boundary, whole(), len(body), {FIELD}, take))
        return names[0], fields


PLACES: Mapping[tuple[str, str], Callable[[FakeTasks, httpx2.Request], bytes]] = {
    ("GET", "/models/"): FakeTasks.list,
    ("DELETE", "/models/"): FakeTasks.delete,
    ("POST", "/models/create/"): FakeTasks.create,
    ("POST", "/models/upload/"): FakeTasks.upload,
    ("POST", "/models/deploy/"): FakeTasks.deploy,
}


def finished(work: Coroutine[Any, Any, T]) -> T:
    """What a coroutine gives that waits for nothing, so that it needs no loop of its own."""
    try:
        work.send(None)
    except StopIteration as end:
        value: T = end.value
        return value
    raise AssertionError("it waits")
