"""Progress on a terminal, by rich: a bar for each blob with bytes, rate and time left. Imported only for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO

from rich import progress
from rich.console import Console
from rich.text import Text

from localmodels.cli.words import printable
from localmodels.core.library import Progress


def show(steps: Iterator[Progress], out: TextIO) -> None:
    """Draws them as they come; what is no blob is a line above the bars."""
    columns = (
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=Console(file=out)) as bars:
        tasks: dict[str, progress.TaskID] = {}
        last = ""
        for step in steps:
            if step.digest and step.total:
                task = tasks.get(step.digest)
                if task is None:
                    task = tasks[step.digest] = bars.add_task(printable(step.status), total=step.total)
                bars.update(task, completed=step.completed, total=step.total)
            elif step.status != last:
                last = step.status
                bars.console.print(Text(printable(step.status)))
