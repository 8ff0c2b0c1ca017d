"""Turns a tree into functions, once, and runs them on data, often. The rule: every node that runs was paid for.

A node becomes a closure over its parts, so that a rendering does not look at the tree again: a conversation of twenty
messages takes a few hundred calls. The shape of the costs: a body pays for its nodes when it is entered, a loop for
each item, a function for the texts that it makes, and a call of another template for its depth.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping
from typing import NoReturn

from localmodels.artifacts.gotemplate.costs import depth, price
from localmodels.artifacts.gotemplate.expressions import nothing, pipeline
from localmodels.artifacts.gotemplate.functions import Context
from localmodels.artifacts.gotemplate.limits import DEEPEST_CALLS, Limits, Meter, Mistake
from localmodels.artifacts.gotemplate.nodes import (
    Action,
    Body,
    Branch,
    Definition,
    Include,
    Leap,
    Range,
    Text,
    Tree,
)
from localmodels.artifacts.gotemplate.printing import show, size_of
from localmodels.artifacts.gotemplate.run import Perform, Run
from localmodels.artifacts.gotemplate.values import NOTHING, Value, is_true, type_name


class Compiled:
    """A template that can run: what it does, how many variables it has and how deep it goes."""

    __slots__ = ("depth", "perform", "slots")

    def __init__(self, definition: Definition) -> None:
        self.slots = definition.slots
        self.depth = depth(definition.body)
        self.perform = _body(definition.body)

    def run(self, run: Run, dot: Value) -> None:
        """Prints the template, with ``dot`` as its dot and its root."""
        run.depth += self.depth
        if run.depth > DEEPEST_CALLS:
            run.meter.fail(f"templates and blocks go more than {DEEPEST_CALLS} levels deep")
        outer = run.slots
        run.slots = [NOTHING] * self.slots
        run.slots[0] = dot
        self.perform(run, dot)
        run.slots = outer
        run.depth -= self.depth


class Program:
    """A template and those that it defines, ready to be rendered any number of times."""

    __slots__ = ("_main", "_named")

    def __init__(self, tree: Tree) -> None:
        self._main = Compiled(tree.main)
        self._named = {name: Compiled(definition) for name, definition in tree.named.items()}

    def render(self, data: Value, *, today: datetime.date, limits: Limits) -> str:
        """The text that the template makes of ``data``.

        Raises:
            ModelDamaged: the template does not fit the data, or costs more than the limits allow; names the line.
        """
        run = Run(Context(Meter(limits), today), self._named)
        try:
            self._main.run(run, data)
        except Mistake as mistake:
            run.meter.fail(str(mistake))
        text = "".join(run.out)
        # Bytes that templates cut out of characters find together here, or are no characters.
        return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


class _Break(Exception):
    """Ends a loop."""


class _Continue(Exception):
    """Ends one round of a loop."""


# Nodes


def _body(body: Body) -> Perform:
    steps = [(_NODES[type(node)](node), node.line) for node in body.nodes]
    cost = sum(map(price, body.nodes))
    if not steps:
        return _do_nothing

    def perform(run: Run, dot: Value) -> None:
        meter = run.meter
        meter.steps -= cost
        if meter.steps < 0:
            meter.pay(0)
        for step, line in steps:
            meter.line = line
            step(run, dot)

    return perform


def _do_nothing(_run: Run, _dot: Value) -> None:
    """What an empty body does."""


def _text(node: Text) -> Perform:
    text, size = node.text, size_of(node.text)

    def perform(run: Run, _dot: Value) -> None:
        run.meter.print(size)
        run.out.append(text)

    return perform


def _action(node: Action) -> Perform:
    evaluate = pipeline(node.pipeline)
    if node.pipeline.slots:

        def set_variable(run: Run, dot: Value) -> None:
            evaluate(run, dot)

        return set_variable

    def perform(run: Run, dot: Value) -> None:
        value = evaluate(run, dot)
        if type(value) is str:
            run.write(value)
            return
        text = "<no value>" if value is NOTHING else show(value)
        run.meter.pay(len(text) // 4)  # it was put together item by item
        run.write(text)

    return perform


def _branch(node: Branch) -> Perform:
    arms = [(pipeline(arm.pipeline), _body(arm.body)) for arm in node.arms]
    otherwise = _body(node.otherwise) if node.otherwise else _do_nothing
    moves_dot = node.kind == "with"

    def perform(run: Run, dot: Value) -> None:
        for evaluate, body in arms:
            value = evaluate(run, dot)
            if is_true(value):
                body(run, value if moves_dot else dot)
                return
        otherwise(run, dot)

    return perform


def _range(node: Range) -> Perform:
    evaluate = pipeline(node.pipeline)
    body = _body(node.body)
    otherwise = _body(node.otherwise) if node.otherwise else _do_nothing
    slots = node.pipeline.slots

    def perform(run: Run, dot: Value) -> None:
        items = _items(run, evaluate(run, dot), len(slots))
        empty = True
        try:
            for key, item in items:
                empty = False
                run.meter.pay(1)
                if slots:
                    run.slots[slots[-1]] = item
                    if len(slots) == 2:
                        run.slots[slots[0]] = key
                try:
                    body(run, item)
                except _Continue:
                    continue
        except _Break:
            return
        if empty:
            otherwise(run, dot)

    return perform


def _items(run: Run, value: Value, variables: int) -> Iterable[tuple[Value, Value]]:
    """Keys and items in the order in which Go goes through them."""
    if isinstance(value, tuple | list):
        return enumerate(value)
    if isinstance(value, dict):
        run.meter.pay(len(value))
        return sorted(value.items())
    if value is NOTHING or value is None:
        return ()
    if isinstance(value, int) and not isinstance(value, bool):
        if variables == 2:
            raise Mistake("a range over a number sets one variable, not two")
        return ((NOTHING, type(value)(number)) for number in range(value))
    raise Mistake(f"a range goes over lists, maps and numbers, not over a value of type {type_name(value)}")


def _leap(node: Leap) -> Perform:
    kind = _Break if node.kind == "break" else _Continue

    def perform(_run: Run, _dot: Value) -> NoReturn:
        raise kind

    return perform


def _include(node: Include) -> Perform:
    evaluate = pipeline(node.pipeline) if node.pipeline else nothing
    name = node.name

    def perform(run: Run, dot: Value) -> None:
        template = run.definitions.get(name)
        if template is None:
            raise Mistake(f"there is no template named {name[:40]!r}")
        template.run(run, evaluate(run, dot))

    return perform


_NODES: Mapping[type, Callable[..., Perform]] = {
    Text: _text,
    Action: _action,
    Branch: _branch,
    Range: _range,
    Leap: _leap,
    Include: _include,
}
