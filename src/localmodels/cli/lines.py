"""Progress as lines of text, for pipes, files and tests: one at the start of a blob and one at each tenth of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO

from localmodels.cli import words
from localmodels.core.library import Progress

STEPS = 10


def show(steps: Iterator[Progress], out: TextIO) -> None:
    """Writes them as they come."""
    for line in lines(steps):
        out.write(line + "\n")
        out.flush()


def lines(steps: Iterator[Progress]) -> Iterator[str]:
    """The lines; a status that repeats itself is said once."""
    last = ""
    tenths: dict[str, int] = {}
    for step in steps:
        if not (step.digest and step.total):
            if step.status != last:
                yield words.printable(step.status)
            last = step.status
            continue
        tenth = STEPS * min(step.completed, step.total) // step.total
        if tenth > tenths.get(step.digest, -1):
            tenths[step.digest] = tenth
            percent = 100 * tenth // STEPS
            yield f"{words.printable(step.status)} {percent}% of {words.size(step.total)}"
