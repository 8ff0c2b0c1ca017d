"""Progress on a terminal, by rich: a bar for each blob with bytes, rate and time left. Imported only for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich import progress
from rich.console import Console
from rich.text import Text

from localmodels.cli import words
from localmodels.core.library import Progress, Watcher


@contextmanager
def shower(out: TextIO) -> Iterator[Watcher]:
    """Draws steps as they come, until the context is left."""
    columns = (
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=Console(file=out)) as bars:
        yield Bars(bars).show


class Bars:
    """A bar for each thing of a known size, under the words that name it; the rest are lines above the bars."""

    def __init__(self, bars: progress.Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, progress.TaskID] = {}
        self._last: dict[str, str] = {}  # by server

    def show(self, step: Progress) -> None:
        """Shows a step."""
        text = words.step(step)
        if step.total:
            task = self._tasks.get(text)
            if task is None:
                task = self._tasks[text] = self._bars.add_task(words.printable(text), total=step.total)
            self._bars.update(task, completed=step.completed, total=step.total)
        elif text != self._last.get(step.server):
            self._last[step.server] = text
            self._bars.console.print(Text(words.printable(text)))
