"""What a tree costs, told before it runs. The rule: a number for every node, so that none runs for nothing."""

from __future__ import annotations

from localmodels.artifacts.gotemplate.nodes import (
    Action,
    Body,
    Branch,
    Chain,
    Field,
    Include,
    Node,
    Operand,
    Pipeline,
    Range,
    Variable,
)


def price(node: Node) -> int:
    """Steps of one run of a node, without the bodies inside of it, which pay for themselves."""
    match node:
        case Action(pipeline) | Range(pipeline):
            return 1 + _weight(pipeline)
        case Branch(_, arms):
            return 1 + sum(_weight(arm.pipeline) for arm in arms)
        case Include(_, pipeline):
            return 3 + (_weight(pipeline) if pipeline else 0)
        case _:
            return 1


def _weight(operand: Operand) -> int:
    match operand:
        case Pipeline(commands):
            return sum(1 + sum(map(_weight, command.operands)) for command in commands)
        case Field(names):
            return len(names)
        case Variable(_, _, names):
            return 1 + len(names)
        case Chain(inner, names):
            return _weight(inner) + len(names)
        case _:
            return 1


def depth(body: Body | None) -> int:
    """How many levels a body goes down: blocks and brackets."""
    return 1 + max((_levels(node) for node in body.nodes), default=0) if body else 0


def _levels(node: Node) -> int:
    match node:
        case Action(pipeline):
            return _brackets(pipeline)
        case Branch(_, arms, otherwise):
            inner = (max(_brackets(arm.pipeline), depth(arm.body)) for arm in arms)
            return max(*inner, depth(otherwise), 0)
        case Range(pipeline, inner_body, otherwise):
            return max(_brackets(pipeline), depth(inner_body), depth(otherwise))
        case Include(_, pipeline):
            return _brackets(pipeline) if pipeline else 0
        case _:
            return 0


def _brackets(operand: Operand) -> int:
    match operand:
        case Pipeline(commands):
            return 1 + max((_brackets(item) for command in commands for item in command.operands), default=0)
        case Chain(inner):
            return _brackets(inner)
        case _:
            return 0
