"""Tasks and their events as rows and back: what SQLite and SQLAlchemy are both handed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec

from localmodels.core.tasks import Event, Failure, Task, TaskKind, TaskState

_FAILURE = msgspec.json.Decoder(Failure)
_DETAILS = msgspec.json.Decoder(dict[str, Any])


def row_of_task(task: Task) -> dict[str, Any]:
    """The columns of a task."""
    failure = None if task.failure is None else msgspec.json.encode(task.failure)
    return {name: getattr(task, name) for name in Task.__struct_fields__} | {"failure": failure}


def task_of(row: Mapping[str, Any]) -> Task:
    """The task in these columns."""
    return Task(
        id=row["id"],
        kind=cast("TaskKind", row["kind"]),
        subject=row["subject"],
        owner=row["owner"],
        request=row["request"],
        state=cast("TaskState", row["state"]),
        reached=row["reached"],
        action=row["action"],
        ratio=row["ratio"],
        failure=None if row["failure"] is None else _FAILURE.decode(row["failure"]),
        retry_of=row["retry_of"],
        origin=row["origin"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
    )


def listed_task_of(row: Mapping[str, Any]) -> Task:
    """The task in these columns, among which is not what was asked: in a list that may be a megabyte of each."""
    return task_of({**row, "request": b""})


def row_of_event(task_id: str, event: Event) -> dict[str, Any]:
    """The columns of an event."""
    return {
        "task_id": task_id,
        "number": event.number,
        "action": event.action,
        "ratio": event.ratio,
        "details": msgspec.json.encode(event.details),
        "status": event.status,
    }


def event_of(row: Mapping[str, Any]) -> Event:
    """The event in these columns."""
    return Event(row["number"], row["action"], row["ratio"], _DETAILS.decode(row["details"]), row["status"])
