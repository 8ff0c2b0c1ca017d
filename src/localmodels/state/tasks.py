"""The tables of tasks, as they are written; they are read by :mod:`~localmodels.state.glance`."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Engine, delete, select
from sqlalchemy.dialects.sqlite import insert

from localmodels.core.tasks import ENDED, Event, Task
from localmodels.state.tables import TASK, TASK_EVENT
from localmodels.state.task_rows import row_of_event, row_of_task


class Tasks:
    """Writes tasks; an event belongs to its task and goes with it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def put(self, task: Task, events: Sequence[Event]) -> None:
        """Keeps it in place of what was kept of it, and adds the events that are not there yet."""
        row = row_of_task(task)
        rest = {name: value for name, value in row.items() if name != "id"}
        new = insert(TASK).values(row).on_conflict_do_update(index_elements=["id"], set_=rest)
        with self._engine.begin() as connection:
            connection.execute(new)
            if events:
                rows = [row_of_event(task.id, event) for event in events]
                connection.execute(insert(TASK_EVENT).on_conflict_do_nothing(), rows)

    def remove(self, id: str) -> bool:  # noqa: A002
        """Forgets one; was it there?"""
        with self._engine.begin() as connection:
            return connection.execute(delete(TASK).where(TASK.c.id == id)).rowcount > 0

    def sweep(self, most: int) -> tuple[str, ...]:
        """Forgets the oldest ended ones above so many; the origins of those that were forgotten."""
        latest = select(TASK.c.id).where(TASK.c.state.in_(ENDED)).order_by(TASK.c.ended_at.desc(), TASK.c.id)
        old = latest.offset(most).subquery()
        with self._engine.begin() as connection:
            gone = delete(TASK).where(TASK.c.id.in_(select(old.c.id))).returning(TASK.c.origin)
            return tuple(connection.execute(gone).scalars())
