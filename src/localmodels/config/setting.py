"""What a row of the table says of a setting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from msgspec import Struct

PREFIX = "LOCALMODELS_"
DAY = 86_400.0  # seconds

Source = Literal["flag", "environment", "file"]


class Machine(Struct, frozen=True):
    """What defaults depend on: the environment, ``sys.platform`` and the working directory."""

    environ: Mapping[str, str]
    platform: str
    directory: Path

    @property
    def home(self) -> Path | None:
        """The user's home directory."""
        return Path(self.environ["HOME"]) if self.environ.get("HOME") else None


class Setting(Struct, frozen=True):
    """One row of the table.

    Attributes:
        name: in the file; with ``LOCALMODELS_`` before it and in capitals, in the environment.
        kind: how its texts are read, a row of ``KINDS``.
        default: as a text that ``kind`` reads, or a function where it depends on the machine.
        doc: one line.
        flag: on the command line; empty where it cannot be set there.
        metavar: what stands for the value in the help text.
        environ: further names in the environment.
        many: may it be given more than once? Then texts in the environment are split at ``separator``.
        low, high: the range of a number, inclusive.
        choices: the words of a choice.
        sources: where it may be set.
        default_doc: what the reference says of a default that depends on the machine.
        hot: does a running server change it when it is told to read its configuration again?
    """

    name: str
    kind: str
    default: str | Callable[[Machine], str]
    doc: str
    flag: str
    metavar: str = ""
    environ: tuple[str, ...] = ()
    many: bool = False
    separator: str = ","
    low: float = 0
    high: float = 0
    choices: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ("flag", "environment", "file")
    default_doc: str = ""
    hot: bool = False

    @property
    def environment(self) -> tuple[str, ...]:
        """Its names in the environment, the first one that is set counts."""
        own = (PREFIX + self.name.upper(),)
        return own + self.environ if "environment" in self.sources else ()
