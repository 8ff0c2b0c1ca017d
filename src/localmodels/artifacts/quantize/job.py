"""What is said between the child that quantises and whoever started it."""

from __future__ import annotations

from msgspec import Struct


class Job(Struct, frozen=True):
    """What is to be done.

    Attributes:
        source: path of a GGUF file.
        target: name of a file type.
        threads: how many compute at once.
        requantize: weights that are quantised already may be quantised again.
        nice: how far the child gives way to others, from 0 (not at all) to 19.
    """

    source: str
    target: str
    threads: int
    requantize: bool = False
    nice: int = 0
