"""Progress as lines of text, for pipes, files and tests: one at the start of a blob and one at each tenth of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from localmodels.cli import words
from localmodels.core.library import Progress, Watcher

STEPS = 10


@contextmanager
def shower(out: TextIO) -> Iterator[Watcher]:
    """Writes lines for the steps as they come."""
    lines = Lines()

    def show(step: Progress) -> None:
        for line in lines.of(step):
            out.write(line + "\n")
            out.flush()

    yield show


class Lines:
    """Which steps are worth a line; a status that repeats itself is said once."""

    def __init__(self) -> None:
        self._last = ""
        self._tenths: dict[str, int] = {}

    def of(self, step: Progress) -> Iterator[str]:
        """The lines of a step: one or none."""
        if not step.total:
            if step.status != self._last:
                yield words.printable(step.status)
            self._last = step.status
            return
        tenth = STEPS * min(step.completed, step.total) // step.total
        if tenth > self._tenths.get(step.status, -1):
            self._tenths[step.status] = tenth
            yield f"{words.printable(step.status)} {100 * tenth // STEPS}% of {words.size(step.total)}"
