"""The rows of tasks."""

from __future__ import annotations

from localmodels.dialects.tasks import TaskDialect
from localmodels.server.inference import WholeRoute
from localmodels.server.parts import Parts
from localmodels.server.routes import Row
from localmodels.server.tasks import SMALL, TaskRoutes

NAME = TaskDialect.name


def rows(parts: Parts) -> tuple[Row, ...]:
    """All of them."""
    return of(TaskRoutes(parts.tasks))


def of(routes: TaskRoutes) -> tuple[Row, ...]:
    """All of them, over these routes."""
    path = "/api/tasks/{uuid}"
    some, one = WholeRoute(routes.list, most=SMALL), WholeRoute(routes.one, most=SMALL)
    told = "What a task has said and says, one JSON object a line, until it ends; `?after=`."
    again = "Repeats a task from its last whole step; one JSON object a line."
    return (
        Row(("GET",), "/api/tasks", NAME, "Long work, the newest first; `?state=`, `?limit=`.", some),
        Row(("GET", "DELETE"), path, NAME, "How far a task is; cancels it, or forgets it when it has ended.", one),
        Row(("GET",), f"{path}/events", NAME, told, routes.events),
        Row(("POST",), f"{path}/retry", NAME, again, routes.retry),
    )
