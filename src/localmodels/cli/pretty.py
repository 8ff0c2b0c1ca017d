"""Tables on a terminal, by rich. Imported only when there is one to look at them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from localmodels.cli.columns import fitted


def write_table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    out: TextIO,
    spare: Sequence[str] = (),
    room: int | None = None,
) -> None:
    """A header and its rows, without a frame, so that a name can be copied; see :mod:`localmodels.cli.columns`.

    Args:
        header: titles.
        rows: cells.
        out: the terminal.
        spare: titles of columns that fall away where it is narrow, the first one first.
        room: characters in a line; None asks the terminal, tests say it.
    """
    console = Console(file=out, width=room)
    widths = [max(map(cell_len, column)) for column in zip(header, *rows, strict=True)]
    fit = fitted(header, widths, console.width, spare)
    table = Table(box=None, pad_edge=False, padding=(0, fit.gap, 0, 0), header_style="bold")
    for place, width in zip(fit.places, fit.widths, strict=True):
        table.add_column(header[place], no_wrap=place > 0, overflow="ellipsis" if place else "fold", width=width)
    for row in rows:
        table.add_row(*(Text(row[place]) for place in fit.places))  # Text: brackets in a name are no markup
    console.print(table)
