"""Tasks on the wire: seed 001's streams of steps, and the JSON of ``/api/tasks``, in both roles.

A line of a stream is ``{"status": 200, "message": {"action", "task_uuid", "progress_ratio", "progress", "details"}}``,
with the ratio under both of the seed's names, and with the number of the event beside the message. The rule of the
streams: ``status`` from 400 on ends one, with ``details`` that say what was wrong; a ratio of 1 ends one too, and is
said only when everything is done; one that ends without either was cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, get_args

import msgspec
from msgspec import Struct

from localmodels.core.errors import Garbled, InvalidValue, LocalModelsError, StreamCut
from localmodels.core.library import Outcome, PartlyDone, partly_done
from localmodels.core.moment import nanoseconds, rfc3339
from localmodels.core.tasks import Event, Failure, Task, TaskKind, TaskState
from localmodels.dialects.failures import Complaint, mapped, sayable
from localmodels.dialects.framing import JsonLines, json_line
from localmodels.dialects.plain import Plain
from localmodels.dialects.strict_json import encode

T = TypeVar("T")
AT_FAULT = 400
"""The least status of an event that ends its task without success."""


class Message(Struct, frozen=True, kw_only=True):
    """What a line says; readers take the ratio under either name."""

    action: str
    task_uuid: str
    progress_ratio: float | None = None
    progress: float | None = None
    details: dict[str, Any] = {}


class Line(Struct, frozen=True):
    """One line of a stream; ``number`` is for ``?after=``, and beside the message, which is the seed's."""

    status: int
    message: Message
    number: int = -1


class ShownFailure(Struct, frozen=True):
    """Why a task did not succeed: ``type`` is the code of the error, ``loc`` the field at fault."""

    status: int
    type: str
    loc: tuple[str, ...]
    msg: str


class ShownTask(Struct, frozen=True, kw_only=True):
    """A task as it is shown: all but what was asked. Moments are RFC 3339, null for what has not happened.

    Attributes:
        model: name of the model or artifact that it is about.
        reached: the last thing that is done for good, which a retry need not repeat.
        retry_of: the task that this one repeats.
    """

    task_uuid: str
    kind: TaskKind
    model: str
    state: TaskState
    owner: str
    action: str
    progress_ratio: float
    progress: float
    reached: str
    error: ShownFailure | None
    retry_of: str | None
    origin: str
    created_at: str
    started_at: str | None
    ended_at: str | None


class ShownTasks(Struct, frozen=True):
    """Some of them, the newest first."""

    tasks: tuple[ShownTask, ...]


_LINE = msgspec.json.Decoder(Line)
_STATES: Mapping[str, TaskState] = {state: state for state in get_args(TaskState)}


def write_event(task_id: str, event: Event) -> bytes:
    """An event as a line."""
    message = Message(
        action=event.action,
        task_uuid=task_id,
        progress_ratio=event.ratio,
        progress=event.ratio,
        details=dict(event.details),
    )
    return json_line(Line(event.status, message, event.number))


def read_event(line: bytes) -> tuple[str, Event]:
    """The task's id and the event in a line.

    Raises:
        Garbled: it is no such line.
    """
    try:
        read = _LINE.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Garbled(f"the server's line is not what it should be: {error}") from error
    said = read.message
    ratio = said.progress_ratio if said.progress_ratio is not None else said.progress
    return said.task_uuid, Event(read.number, said.action, ratio or 0.0, said.details, read.status)


class EventLines:
    """Reads a stream of events, in whatever pieces its bytes come.

    Attributes:
        task_id: of the task, once a line has come.
    """

    def __init__(self) -> None:
        self.task_id = ""
        self._lines = JsonLines()
        self._error: LocalModelsError | None = None
        self._done = False
        self._rows: tuple[Outcome, ...] = ()  # of the servers, where the model is made on several

    def feed(self, data: bytes) -> list[Event]:
        """The events that these bytes complete; what ended the task without success is raised after them.

        Raises:
            PartlyDone: it failed on some of several servers.
            LocalModelsError: the task failed, was cancelled, or its server ended.
            Garbled: the bytes are no such stream.
        """
        self._raise()
        events: list[Event] = []
        for line in self._lines.feed(data):
            if self._done:
                break
            self.task_id, event = read_event(line)
            if event.status >= AT_FAULT:
                self._done, self._error = True, self._ended_by(error_in(event))
                break
            self._rows = rows_in(event) or self._rows
            self._done = event.ratio >= 1
            events.append(event)
        if not events:
            self._raise()
        return events

    def close(self) -> None:
        """Tells that the connection ended.

        Raises:
            StreamCut: the task's end has not come; it goes on.
            LocalModelsError: as :meth:`feed`.
        """
        self._raise()
        if not self._done:
            raise StreamCut("the stream ended before its task did")

    def _ended_by(self, error: LocalModelsError) -> LocalModelsError:
        partly = partly_done(self._rows) if error.code == PartlyDone.code else None
        return partly or error

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error


def rows_in(event: Event) -> tuple[Outcome, ...]:
    """How far each of several servers is, of an event that tells of them."""
    told = event.details.get("servers")
    rows = told if isinstance(told, list | tuple) else ()
    return tuple(
        Outcome(str(row.get("server", "")), str(row.get("status", "")), str(row.get("failure", "")))
        for row in rows
        if isinstance(row, Mapping)
    )


def failure_of(error: LocalModelsError) -> Failure:
    """What is kept of an error."""
    return Failure(sayable(error.message), error.code, error.status, error.param or "")


def error_of(failure: Failure) -> LocalModelsError:
    """The error that it was, by its code; of the root's class where the code is none of ours."""
    complaint = Complaint(failure.message, failure.code, failure.status, failure.param or None)
    return mapped(complaint, failure.status, None)


def failure_details(failure: Failure) -> dict[str, Any]:
    """The same as the details of the event that ends a task."""
    return {"type": failure.code, "loc": _loc(failure), "msg": failure.message}


def error_in(event: Event) -> LocalModelsError:
    """The error that ended a task, from its last event."""
    details = event.details
    loc, msg = details.get("loc"), details.get("msg")
    param = str(loc[-1]) if isinstance(loc, (list, tuple)) and loc else ""
    message = msg if isinstance(msg, str) and msg else f"the task ended with status {event.status}"
    return error_of(Failure(message, str(details.get("type", "")), event.status, param))


def shown(task: Task) -> ShownTask:
    """A task as it is shown."""
    failure = task.failure
    return ShownTask(
        task_uuid=task.id,
        kind=task.kind,
        model=task.subject,
        state=task.state,
        owner=task.owner,
        action=task.action,
        progress_ratio=task.ratio,
        progress=task.ratio,
        reached=task.reached,
        error=None
        if failure is None
        else ShownFailure(failure.status, failure.code, tuple(_loc(failure)), failure.message),
        retry_of=task.retry_of or None,
        origin=task.origin,
        created_at=rfc3339(task.created_at),
        started_at=rfc3339(task.started_at) if task.started_at else None,
        ended_at=rfc3339(task.ended_at) if task.ended_at else None,
    )


def write_task(task: Task) -> bytes:
    """One task."""
    return encode(shown(task))


def write_tasks(tasks: Iterable[Task]) -> bytes:
    """Some of them."""
    return encode(ShownTasks(tuple(map(shown, tasks))))


def read_task(body: bytes) -> Task:
    """One task, as a client reads it: without what was asked, and moments to the microsecond."""
    return _task(_read(body, ShownTask))


def read_tasks(body: bytes) -> tuple[Task, ...]:
    """Some of them."""
    return tuple(map(_task, _read(body, ShownTasks).tasks))


def read_state(text: str) -> TaskState:
    """A state as a query names it.

    Raises:
        InvalidValue: there is none of this name.
    """
    if text not in _STATES:
        raise InvalidValue(f"state must be one of {', '.join(_STATES)}", param="state")
    return _STATES[text]


class TaskDialect(Plain):
    """The dialect of these routes before their streams begin; its errors are those of all paths of our own."""

    name: str = "tasks"
    title: str = "Tasks"
    roots: tuple[str, ...] = ("/api/tasks",)


def _task(read: ShownTask) -> Task:
    error = read.error
    try:
        return Task(
            id=read.task_uuid,
            kind=read.kind,
            subject=read.model,
            owner=read.owner,
            state=read.state,
            reached=read.reached,
            action=read.action,
            ratio=read.progress_ratio,
            failure=None if error is None else Failure(error.msg, error.type, error.status, "".join(error.loc[-1:])),
            retry_of=read.retry_of or "",
            origin=read.origin,
            created_at=nanoseconds(read.created_at),
            started_at=nanoseconds(read.started_at) if read.started_at else 0,
            ended_at=nanoseconds(read.ended_at) if read.ended_at else 0,
        )
    except ValueError as wrong:
        raise Garbled(f"the server's answer holds what is no moment: {wrong}") from wrong


def _loc(failure: Failure) -> list[str]:
    return [failure.param] if failure.param else []


def _read(body: bytes, shape: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Garbled(f"the server's answer is not what it should be: {error}") from error
