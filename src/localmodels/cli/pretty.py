"""Tables on a terminal, by rich. Imported only when there is one to look at them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

NARROW = 12  # characters; as many as are shown of a digest


def write_table(header: Sequence[str], rows: Sequence[Sequence[str]], out: TextIO) -> None:
    """A header and its rows, without a frame, so that a name can be copied; the first column is never cut.

    Where a terminal is too narrow, wide columns give way before narrow ones do.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 4, 0, 0), header_style="bold")
    for number, title in enumerate(header):
        widest = max(len(cell) for cell in (title, *(row[number] for row in rows)))
        kept = widest if widest <= NARROW else None
        table.add_column(title, no_wrap=True, overflow="fold" if number == 0 else "ellipsis", min_width=kept)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # Text: brackets in a name are no markup
    Console(file=out).print(table)
