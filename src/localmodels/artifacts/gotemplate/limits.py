"""What a template may cost, counted in steps and bytes. The rule: a template ends because of a count, never of a clock.

Whoever makes a model writes its template (threats V-13, V-14), so its loops, its texts and its depth are bounded: a
step is at most half a microsecond of work here, and everything that takes longer in proportion to a text is paid for by
that text's length. The defaults keep the worst template known below an eighth of a second (a quarter is what is due).
"""

from __future__ import annotations

from typing import NoReturn

from msgspec import Struct

from localmodels.core.errors import InvalidRequest, ModelDamaged

LONGEST_TEMPLATE = 2**18  # bytes; the longest that Ollama's library has are about 20 KB
MOST_TOKENS = 20_000  # such a template has 2,000
DEEPEST_NESTING = 50  # of blocks and brackets; the library needs 8
DEEPEST_CALLS = 100  # levels of everything that is under way at once: some 400 frames of Python's 1,000
WIDEST = 10_000  # characters that a number in a format may ask for


class Limits(Struct, frozen=True):
    """What one rendering may cost.

    Attributes:
        steps: pieces of work: a node, an item of a loop, some bytes of a text that is looked through.
        output: bytes of what is printed, and of any one text on the way.
    """

    steps: int = 200_000
    output: int = 2**20


class Meter:
    """Counts what one rendering has cost. ``line`` is where it is in the template, for the error."""

    __slots__ = ("limits", "line", "room", "steps")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.steps = limits.steps
        self.room = limits.output
        self.line = 0

    def pay(self, steps: int) -> None:
        """Counts work.

        Raises:
            ModelDamaged: it is more than was left.
        """
        self.steps -= steps
        if self.steps < 0:
            self.fail(f"takes more than {self.limits.steps} steps")

    def check(self, size: int) -> None:
        """Refuses a text of more bytes than a whole rendering may have."""
        if size > self.limits.output:
            self.fail(f"makes a text of more than {self.limits.output} bytes")

    def print(self, size: int) -> None:
        """Counts bytes that are printed."""
        self.room -= size
        if self.room < 0:
            self.fail(f"prints more than {self.limits.output} bytes")

    def fail(self, what: str) -> NoReturn:
        """Ends the rendering.

        Raises:
            ModelDamaged: always.
        """
        raise ModelDamaged(f"template, line {self.line}: {what}")


class Mistake(Exception):
    """What Go calls an execution error. Never leaves this package: the rendering adds the line and the type."""


def refuse(line: int, what: str) -> NoReturn:
    """Ends the parsing.

    Raises:
        InvalidRequest: always.
    """
    raise InvalidRequest(f"template, line {line}: {what}", param="template")
