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
        self._last: dict[str, str] = {}  # by server
        self._tenths: dict[str, int] = {}

    def of(self, step: Progress) -> Iterator[str]:
        """The lines of a step: one or none."""
        text = words.step(step)
        if not step.total:
            if text != self._last.get(step.server):
                yield words.printable(text)
            self._last[step.server] = text
            return
        tenth = STEPS * min(step.completed, step.total) // step.total
        if tenth > self._tenths.get(text, -1):
            self._tenths[text] = tenth
            yield f"{words.printable(text)} {100 * tenth // STEPS}% of {words.size(step.total)}"
