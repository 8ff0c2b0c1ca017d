"""Figures as they are printed and kept."""

from __future__ import annotations

from dataclasses import dataclass

_MARKS = {True: "ok  ", False: "MISS", None: "–   "}
_WORDS = {True: "yes", False: "**no**", None: "not measured"}


@dataclass(frozen=True)
class Figure:
    """One measured value beside its bar.

    Attributes:
        value: None where it could not be measured; then ``met`` is None too, and the note says why.
    """

    name: str
    value: float | None
    unit: str
    bar: str
    met: bool | None
    note: str = ""

    def __str__(self) -> str:
        return f"{_MARKS[self.met]} {self.name:<42} {self.shown:>10}   bar {self.bar:<8} {self.note}".rstrip()

    @property
    def shown(self) -> str:
        """The value and its unit."""
        return "" if self.value is None else f"{self.value:.3g} {self.unit}".strip()

    @property
    def row(self) -> str:
        """As a row of a Markdown table."""
        return f"| {self.name} | {self.shown} | {self.bar} | {_WORDS[self.met]} | {self.note} |"
