"""What a template says, as a tree of frozen values. The rule: it is data; what it means is the evaluator's business.

A chain of ``else if`` is one :class:`Branch` with several arms, so that a long chain is not a deep tree.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class Field(Struct, frozen=True):
    """``.Message.Role``: fields of the value that the dot stands for."""

    names: tuple[str, ...]


class Variable(Struct, frozen=True):
    """``$call.Name``: a variable by its place in the frame, and fields of it. Place 0 is ``$``, the root."""

    name: str
    slot: int
    fields: tuple[str, ...] = ()


class Chain(Struct, frozen=True):
    """``(index .Messages 0).Role``: fields of what an operand gives."""

    operand: Operand
    fields: tuple[str, ...]


class Function(Struct, frozen=True):
    """A function by its name, which is known to exist."""

    name: str


class Dot(Struct, frozen=True):
    """``.``, the value at hand."""


class Nil(Struct, frozen=True):
    """``nil``."""


class Constant(Struct, frozen=True):
    """A text, number or truth value that stands in the template."""

    value: str | int | float | bool


class Command(Struct, frozen=True):
    """Operands side by side: a value, or a function and its arguments."""

    operands: tuple[Operand, ...]


class Pipeline(Struct, frozen=True):
    """Commands joined by ``|``, each given what the one before made; perhaps kept in variables.

    Attributes:
        slots: places in the frame that take the value.
        assigns: the variables exist already (``=``, not ``:=``).
        line: where it begins.
    """

    commands: tuple[Command, ...]
    line: int
    slots: tuple[int, ...] = ()
    assigns: bool = False


Operand = Field | Variable | Chain | Function | Dot | Nil | Constant | Pipeline


class Text(Struct, frozen=True):
    """What stands outside of the braces, trimmed as the braces ask."""

    text: str
    line: int


class Action(Struct, frozen=True):
    """``{{ pipeline }}``: printed, unless it only sets variables."""

    pipeline: Pipeline
    line: int


class Arm(Struct, frozen=True):
    """One condition and what follows from it."""

    pipeline: Pipeline
    body: Body


class Branch(Struct, frozen=True):
    """``if`` or ``with``: the body of the first arm that is true, else ``otherwise`` (None: there is no ``else``)."""

    kind: Literal["if", "with"]
    arms: tuple[Arm, ...]
    otherwise: Body | None
    line: int


class Range(Struct, frozen=True):
    """``range``: the body once for each item; ``otherwise`` if there are none."""

    pipeline: Pipeline
    body: Body
    otherwise: Body | None
    line: int


class Leap(Struct, frozen=True):
    """``break`` or ``continue``."""

    kind: Literal["break", "continue"]
    line: int


class Include(Struct, frozen=True):
    """``template "name" pipeline``: another template, with the pipeline's value as its dot and root."""

    name: str
    pipeline: Pipeline | None
    line: int


Node = Text | Action | Branch | Range | Leap | Include


class Body(Struct, frozen=True):
    """Nodes in order."""

    nodes: tuple[Node, ...] = ()


class Definition(Struct, frozen=True):
    """A template of its own: its body and how large its frame of variables is."""

    body: Body
    slots: int = 1


class Tree(Struct, frozen=True):
    """Everything that one text defines: the ``main`` template and those it names."""

    main: Definition
    named: dict[str, Definition]
