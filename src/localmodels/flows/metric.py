"""One figure of how things stand, as every part of the system tells it to the metrics."""

from __future__ import annotations

from msgspec import Struct


class Reading(Struct, frozen=True):
    """A figure.

    Attributes:
        doc: what it says, in one sentence; the same for all of one name.
        labels: names and texts, the same names in the same order for all of one name.
        counts: does it only ever grow? The name that a scraper sees ends with ``_total`` then.
    """

    name: str
    doc: str
    value: float
    labels: tuple[tuple[str, str], ...] = ()
    counts: bool = False
