"""Turns pipelines into functions of the rendering and the dot. The rule: what Go evaluates, in Go's order.

A mistake that Go finds when it runs (too few arguments, arguments for what is no function) is one here too: such an
action may stand where it is never reached.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NoReturn

from localmodels.artifacts.gotemplate.functions import FUNCTIONS, SHORT_CIRCUITS, Context
from localmodels.artifacts.gotemplate.limits import Mistake
from localmodels.artifacts.gotemplate.nodes import (
    Chain,
    Command,
    Constant,
    Dot,
    Field,
    Function,
    Nil,
    Operand,
    Pipeline,
    Variable,
)
from localmodels.artifacts.gotemplate.run import Evaluate, Run
from localmodels.artifacts.gotemplate.values import NOTHING, Record, Value, field, is_true


def nothing(_run: Run, _dot: Value) -> Value:
    """What a template is called with that is called with nothing."""
    return NOTHING


def pipeline(node: Pipeline) -> Evaluate:
    """The value of the last command, which is put into the pipeline's variables too."""
    first, *others = node.commands
    begin = _command(first)
    rest = [_piped(command) for command in others]
    slots = node.slots

    def evaluate(run: Run, dot: Value) -> Value:
        value = begin(run, dot)
        for command in rest:
            value = command(run, dot, NOTHING if value is None else value)
        if value is None:
            value = NOTHING
        for slot in slots:
            run.slots[slot] = value
        return value

    return evaluate if rest or slots else _without_nil(begin)


def _without_nil(evaluate: Evaluate) -> Evaluate:
    def without_nil(run: Run, dot: Value) -> Value:
        value = evaluate(run, dot)
        return NOTHING if value is None else value

    return without_nil


def _piped(command: Command) -> Callable[[Run, Value, Value], Value]:
    """A later command of a pipeline, which gets the value before it as its last argument."""
    first = command.operands[0]
    if not isinstance(first, Function):
        return _refusal_to_take(first)
    arguments = [_operand(operand) for operand in command.operands[1:]]
    if first.name in SHORT_CIRCUITS:
        decides = SHORT_CIRCUITS[first.name]

        def short_circuit(run: Run, dot: Value, last: Value) -> Value:
            for argument in arguments:
                value = argument(run, dot)
                if is_true(value) is decides:
                    return value
            return last

        return short_circuit
    call = _checked(first.name, len(arguments) + 1)

    def piped(run: Run, dot: Value, last: Value) -> Value:
        return call(run.context, [*(argument(run, dot) for argument in arguments), last])

    return piped


def _refusal_to_take(operand: Operand) -> Callable[[Run, Value, Value], NoReturn]:
    message = f"{_described(operand)} takes no arguments"

    def refuse(_run: Run, _dot: Value, _last: Value) -> NoReturn:
        raise Mistake(message)

    return refuse


def _described(operand: Operand) -> str:
    match operand:
        case Field(names) | Chain(_, names):
            return f".{'.'.join(names)}"
        case Variable(name, _, names):
            return ".".join((name, *names))
        case _:
            return "a value"


def _command(node: Command) -> Evaluate:
    first, *others = node.operands
    if isinstance(first, Function):
        return _call(first.name, [_operand(operand) for operand in others])
    if isinstance(first, Nil):
        return _mistaken("nil is not a value that can stand alone")
    if others:
        return _mistaken(f"{_described(first)} takes no arguments")
    return _operand(first)


def _mistaken(message: str) -> Evaluate:
    def mistaken(_run: Run, _dot: Value) -> NoReturn:
        raise Mistake(message)

    return mistaken


def _call(name: str, arguments: Sequence[Evaluate]) -> Evaluate:
    if name in SHORT_CIRCUITS:
        return _short_circuit(name, arguments)
    call = _checked(name, len(arguments))
    if len(arguments) == 2:  # the usual case: a comparison
        left, right = arguments

        def call_two(run: Run, dot: Value) -> Value:
            return call(run.context, (left(run, dot), right(run, dot)))

        return call_two

    def evaluate(run: Run, dot: Value) -> Value:
        return call(run.context, [argument(run, dot) for argument in arguments])

    return evaluate


def _checked(name: str, count: int) -> Callable[[Context, Sequence[Value]], Value]:
    """The function, or what complains of its number of arguments: when it is called, as Go does."""
    row = FUNCTIONS[name]
    if row.least <= count and (row.most is None or count <= row.most):
        return row.call
    wanted = str(row.least) if row.least == row.most else f"at least {row.least}"

    def complain(_context: Context, _arguments: Sequence[Value]) -> NoReturn:
        raise Mistake(f"{name} takes {wanted} arguments, not {count}")

    return complain


def _short_circuit(name: str, arguments: Sequence[Evaluate]) -> Evaluate:
    decides = SHORT_CIRCUITS[name]
    if not arguments:
        return _mistaken(f"{name} takes at least 1 arguments, not 0")

    def evaluate(run: Run, dot: Value) -> Value:
        value: Value = NOTHING
        for argument in arguments:
            value = argument(run, dot)
            if is_true(value) is decides:
                return value
        return value

    return evaluate


def _operand(node: Operand) -> Evaluate:
    match node:
        case Dot():
            return lambda _run, dot: dot
        case Nil():
            return lambda _run, _dot: None
        case Constant(value):
            return lambda _run, _dot: value
        case Field(names):
            return _fields(lambda _run, dot: dot, names)
        case Variable(_, slot, names):
            return _fields(lambda run, _dot: run.slots[slot], names)
        case Chain(operand, names):
            return _fields(_operand(operand), names)
        case Function(name):
            return _call(name, ())
        case Pipeline():
            return pipeline(node)


def _fields(start: Evaluate, names: Sequence[str]) -> Evaluate:
    if not names:
        return start
    if len(names) == 1:
        name = names[0]

        def one(run: Run, dot: Value) -> Value:
            receiver = start(run, dot)
            if type(receiver) is Record and name in receiver.fields:
                return receiver.fields[name]
            return field(receiver, name)

        return one

    def many(run: Run, dot: Value) -> Value:
        value = start(run, dot)
        for name in names:
            value = field(value, name)
        return value

    return many
