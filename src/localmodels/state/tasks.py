"""The tables of tasks, as they are written; they are read by ``glance`` and ``selects``."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, delete, select

from localmodels.core.tasks import ENDED, Event, Task
from localmodels.state.tables import TASK, TASK_EVENT
from localmodels.state.task_rows import row_of_event, row_of_task
from localmodels.state.writing import insert_into


class Tasks:
    """Writes tasks, in the transaction of a connection; an event belongs to its task and goes with it.

    Args:
        connection: to the database.
        gateway: whose tasks these are; what they leave lies in its home, so that only it forgets them.
    """

    def __init__(self, connection: Connection, gateway: str) -> None:
        self._connection = connection
        self._gateway = gateway

    def put(self, task: Task, events: Sequence[Event]) -> None:
        """Keeps it in place of what was kept of it, and adds the events that are not there yet."""
        row = row_of_task(task)
        rest = {name: value for name, value in row.items() if name != "id"}
        new = insert_into(self._connection, TASK).values(row | {"gateway": self._gateway})
        self._connection.execute(new.on_conflict_do_update(index_elements=["id"], set_=rest))
        if events:
            rows = [row_of_event(task.id, event) for event in events]
            self._connection.execute(insert_into(self._connection, TASK_EVENT).on_conflict_do_nothing(), rows)

    def remove(self, id: str) -> bool:  # noqa: A002
        """Forgets one; was it there?"""
        return self._connection.execute(delete(TASK).where(TASK.c.id == id)).rowcount > 0

    def sweep(self, most: int) -> tuple[str, ...]:
        """Forgets the oldest ended ones above so many; the origins of those that were forgotten."""
        ours = (TASK.c.state.in_(ENDED), TASK.c.gateway == self._gateway)
        latest = select(TASK.c.id).where(*ours).order_by(TASK.c.ended_at.desc(), TASK.c.id)
        old = latest.offset(most).subquery()
        gone = delete(TASK).where(TASK.c.id.in_(select(old.c.id))).returning(TASK.c.origin)
        return tuple(self._connection.execute(gone).scalars())
