"""Long work that outlives whoever asked for it: what it is, how far it is, and how it ended.

The rule: a task that has ended never changes; what it said last is what became of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

from msgspec import Struct

TaskState = Literal["queued", "running", "succeeded", "failed", "cancelled", "interrupted"]
"""``interrupted``: the server ended before the task did."""

TaskKind = Literal["upload", "create", "deploy", "delete"]

ENDED: frozenset[TaskState] = frozenset({"succeeded", "failed", "cancelled", "interrupted"})


HISTORY = 1_000
"""Tasks that have ended and are still remembered."""


class Step(Struct, frozen=True):
    """What a task says of itself.

    Attributes:
        action: in seed 001's words where it has some: ``Start extracted model.``
        ratio: of all the work, from 0 to 1; never falls.
        details: what the step is about, as JSON; ``model`` at least.
        whole: name of what is durable from now on, so that a retry need not repeat it; empty where nothing is.
    """

    action: str
    ratio: float
    details: Mapping[str, Any] = {}
    whole: str = ""


class Event(Struct, frozen=True):
    """A step as watchers get it, with its place among all of the task's.

    Attributes:
        number: from 0, and growing; those of ticks that nobody saw in time are left out.
        ratio: 1 is said once, last, and only when all is done and durable.
        status: 200, or the status of the error that ended the task; then ``details`` say which.
    """

    number: int
    action: str
    ratio: float
    details: Mapping[str, Any] = {}
    status: int = 200


class Failure(Struct, frozen=True):
    """Why a task did not succeed: ``code`` and ``status`` of the error's class, ``param`` the field at fault."""

    message: str
    code: str
    status: int
    param: str = ""


class Task(Struct, frozen=True, kw_only=True):
    """A task.

    Attributes:
        id: UUID, as text.
        subject: name of the model or artifact that it is about.
        owner: id of the caller who asked: of a key, or the word for those who need none.
        request: what was asked, for a retry; JSON of the kind's own.
        reached: name of the last whole step; see :class:`Step`.
        action, ratio: of the last event.
        failure: why it did not succeed; None while it may, and when it did.
        retry_of: id of the task that this one repeats.
        origin: id of the first of its line, in which each repeats the one before; its own if it repeats none. What
            they leave for each other lies under this id.
        created_at, started_at, ended_at: nanoseconds since 1970, UTC; 0 where that has not happened.
    """

    id: str
    kind: TaskKind
    subject: str
    owner: str = ""
    request: bytes = b"{}"
    state: TaskState = "queued"
    reached: str = ""
    action: str = ""
    ratio: float = 0.0
    failure: Failure | None = None
    retry_of: str = ""
    origin: str = ""
    created_at: int = 0
    started_at: int = 0
    ended_at: int = 0


class TaskStore(Protocol):
    """Where tasks are kept. Each method raises ``LocalModelsError`` if it cannot be done."""

    async def put(self, task: Task, events: Sequence[Event] = ()) -> None:
        """Keeps it in place of what was kept of it, and adds these events, all or nothing.

        An event whose number is there stays as it was, so that a write may be repeated.
        """

    async def get(self, id: str) -> Task | None:  # noqa: A002
        """The task."""

    async def all(
        self, *, owner: str | None = None, state: TaskState | None = None, most: int = HISTORY
    ) -> tuple[Task, ...]:
        """The newest first, with an empty ``request``; None means every owner, and every state."""

    async def line(self, origin: str) -> tuple[Task, ...]:
        """All tasks of this origin, the newest first, with an empty ``request``."""

    async def events(self, id: str, after: int = -1) -> tuple[Event, ...]:  # noqa: A002
        """Its events after this number, in order."""

    async def unfinished(self) -> tuple[Task, ...]:
        """All that have not ended, the oldest first."""

    async def keeper(self, id: str) -> str:  # noqa: A002
        """Id of the gateway whose task this is, if that is another one than who asks; empty otherwise.

        What tasks leave for each other lies in the home of the gateway that began them.
        """

    async def silent(self) -> Mapping[str, tuple[Task, ...]]:
        """Tasks that have not ended, by their gateways: other ones, of which nothing has been heard for a minute."""

    async def remove(self, id: str) -> bool:  # noqa: A002
        """Forgets a task and its events; was it there?"""

    async def sweep(self, *, most: int = HISTORY) -> tuple[str, ...]:
        """Forgets the oldest ended ones above so many; the origins of those that were forgotten."""
