"""Figures as they are printed and kept."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One measured value beside its bar."""

    name: str
    value: float
    unit: str
    bar: str
    met: bool
    note: str = ""

    def __str__(self) -> str:
        mark = "ok  " if self.met else "MISS"
        value = f"{self.value:.3g} {self.unit}".strip()
        return f"{mark} {self.name:<42} {value:>10}   bar {self.bar:<8} {self.note}".rstrip()

    @property
    def row(self) -> str:
        """As a row of a Markdown table."""
        value = f"{self.value:.3g} {self.unit}".strip()
        return f"| {self.name} | {value} | {self.bar} | {'yes' if self.met else '**no**'} | {self.note} |"
