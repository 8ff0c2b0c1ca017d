"""One rendering under way: what its parts share. The rule: it lives as long as the rendering and is nobody else's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from localmodels.artifacts.gotemplate.functions import Context
from localmodels.artifacts.gotemplate.printing import size_of
from localmodels.artifacts.gotemplate.values import Value


class Definition(Protocol):
    """A template that can be called."""

    def run(self, run: Run, dot: Value) -> None: ...


class Run:
    """One rendering: the variables of the template at hand, what was printed, and what it cost."""

    __slots__ = ("context", "definitions", "depth", "meter", "out", "slots")

    def __init__(self, context: Context, definitions: Mapping[str, Definition]) -> None:
        self.context = context
        self.definitions = definitions
        self.meter = context.meter
        self.out: list[str] = []
        self.slots: list[Value] = []
        self.depth = 0

    def write(self, text: str) -> None:
        self.meter.print(size_of(text))
        self.out.append(text)


Evaluate = Callable[[Run, Value], Value]
Perform = Callable[[Run, Value], None]
