"""How far a model is on its way to several servers, as one task tells it: a row for each, and one ratio for all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from localmodels.core.library import FAILED, SUCCESS, Progress
from localmodels.core.tasks import Step

MOST = 0.99  # of the ratio: 1 is said when all is done


class Told(Protocol):
    """Tells how far one of them is."""

    def told(self, progress: Progress) -> Step: ...


class Placing:
    """The servers, each with its own course; every step says how all of them are.

    Args:
        course: makes the course of one server.
        details: of every step.
    """

    def __init__(self, course: Callable[[], Told], details: Mapping[str, Any]) -> None:
        self._course = course
        self._details = details
        self._courses: dict[str, Told] = {}
        self._rows: dict[str, dict[str, Any]] = {}
        self._ratios: dict[str, float] = {}
        self._at = 0.0

    def told(self, progress: Progress) -> Step:
        """What the task says next of a step of one server.

        A server that has failed stays where it was. That the ratio never falls is true of each server, and so of all.
        """
        server = progress.server
        course = self._courses.setdefault(server, self._course())
        step = course.told(progress)
        row: dict[str, Any] = {"server": server, "status": progress.status}
        if progress.total:
            row |= {"total": progress.total, "completed": progress.completed}
        if progress.failure:
            row |= {"failure": progress.failure}
        self._rows[server] = row
        if progress.status != FAILED:
            self._ratios[server] = 1.0 if progress.status == SUCCESS else step.ratio
        self._at = max(self._at, min(MOST, sum(self._ratios.values()) / len(self._rows)))
        return Step(step.action, self._at, {**self._details, **row, "servers": list(self._rows.values())})
