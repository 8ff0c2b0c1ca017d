"""Tables as aligned columns, for pipes, files and tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO


def write_table(header: Sequence[str], rows: Sequence[Sequence[str]], out: TextIO, spare: Sequence[str] = ()) -> None:
    """A header and its rows: four spaces between columns and none at the end of a line. Nothing is spared."""
    lines = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True))
        out.write("    ".join(cells).rstrip() + "\n")
