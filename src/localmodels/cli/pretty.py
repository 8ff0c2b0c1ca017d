"""Tables on a terminal, by rich. Imported only when there is one to look at them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text


def write_table(header: Sequence[str], rows: Sequence[Sequence[str]], out: TextIO) -> None:
    """A header and its rows, without a frame, so that a name can be copied; the first column is never cut."""
    table = Table(box=None, pad_edge=False, padding=(0, 4, 0, 0), header_style="bold")
    for number, title in enumerate(header):
        table.add_column(title, no_wrap=True, overflow="fold" if number == 0 else "ellipsis")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # Text: brackets in a name are no markup
    Console(file=out).print(table)
