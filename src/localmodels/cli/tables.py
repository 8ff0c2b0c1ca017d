"""Prints rows: rich's table for people, aligned columns for pipes and files, and JSON for programs.

rich is imported only for a terminal: it takes half as long as all the rest of ``localmodels list``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TextIO, cast

import msgspec

from localmodels.cli import lazy
from localmodels.cli.words import printable

Rows = Sequence[Sequence[str]]


class Printer(Protocol):
    """What the modules in ``PRINTERS`` have."""

    def write_table(self, header: Sequence[str], rows: Rows, out: TextIO, spare: Sequence[str]) -> None:
        """Prints a header and its rows."""
        ...


# By the answer to: is there a terminal?
PRINTERS: Mapping[bool, str] = {True: "pretty", False: "plain"}


def write_json(value: Any, out: TextIO) -> None:
    """One line of JSON."""
    out.write(msgspec.json.encode(value, enc_hook=str).decode() + "\n")


def write_table(header: Sequence[str], rows: Rows, out: TextIO, spare: Sequence[str] = ()) -> None:
    """A header and its rows; ``spare`` are titles of columns that a narrow terminal can do without."""
    printer = cast("Printer", lazy.module(PRINTERS[out.isatty()]))
    printer.write_table(header, [[printable(cell) for cell in row] for row in rows], out, spare)
