"""Reads tokens into a tree, as Go's text/template/parse does. The rule: what is not understood is refused, by line.

Variables get their places in the frame while they are read, since Go's scopes are lexical: a name lives until the
``end`` of the block that declares it, and a template that is called sees none of its caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Literal, NoReturn

from localmodels.artifacts.gotemplate import constants
from localmodels.artifacts.gotemplate.lexer import Kind, Token, tokens
from localmodels.artifacts.gotemplate.limits import DEEPEST_NESTING, LONGEST_TEMPLATE, refuse
from localmodels.artifacts.gotemplate.nodes import (
    Action,
    Arm,
    Body,
    Branch,
    Chain,
    Command,
    Constant,
    Definition,
    Dot,
    Field,
    Function,
    Include,
    Leap,
    Nil,
    Node,
    Operand,
    Pipeline,
    Range,
    Text,
    Tree,
    Variable,
)

_TERMS = frozenset(
    {
        Kind.NAME,
        Kind.DOT,
        Kind.VARIABLE,
        Kind.FIELD,
        Kind.NUMBER,
        Kind.CHARACTER,
        Kind.STRING,
        Kind.RAW,
        Kind.OPEN,
    }
)


def parse(source: str, functions: Collection[str]) -> Tree:
    """The tree of a template and of those that it defines; ``functions`` are the names that may be called.

    Raises:
        InvalidRequest: the text is no template that can be rendered; names the line and what was expected.
    """
    if len(source) > LONGEST_TEMPLATE or len(source.encode("utf-8", "surrogateescape")) > LONGEST_TEMPLATE:
        refuse(1, f"longer than {LONGEST_TEMPLATE >> 10} KiB")
    return _Parser(tokens(source), functions).tree()


class _Frame:
    """The variables of one template while it is read."""

    def __init__(self) -> None:
        self.visible = ["$"]
        self.slots: list[int] = [0]
        self.size = 1
        self.ranges = 0

    def declare(self, name: str) -> int:
        self.visible.append(name)
        self.slots.append(self.size)
        self.size += 1
        return self.slots[-1]

    def find(self, name: str) -> int | None:
        for at in range(len(self.visible) - 1, -1, -1):
            if self.visible[at] == name:
                return self.slots[at]
        return None

    def forget(self, count: int) -> None:
        del self.visible[count:], self.slots[count:]


class _Parser:
    def __init__(self, read: list[Token], functions: Collection[str]) -> None:
        self._tokens = read
        self._at = 0
        self._functions = functions
        self._frame = _Frame()
        self._depth = 0
        self._named: dict[str, Definition] = {}

    # Tokens

    @property
    def _here(self) -> Token:
        return self._tokens[self._at]

    def _next(self) -> Token:
        token = self._tokens[self._at]
        if token.kind is not Kind.END:
            self._at += 1
        return token

    def _is(self, word: str) -> bool:
        token = self._here
        return token.kind is Kind.KEYWORD and token.text == word

    def _expect(self, kind: Kind, where: str) -> Token:
        token = self._next()
        if token.kind is not kind:
            self._unexpected(token, where, kind.value)
        return token

    def _unexpected(self, token: Token, where: str, expected: str) -> NoReturn:
        refuse(token.line, f"{token.shown} in {where}; expected {expected}")

    def _deeper(self, by: int) -> None:
        self._depth += by
        if self._depth > DEEPEST_NESTING:
            refuse(self._here.line, f"blocks and brackets nested more than {DEEPEST_NESTING} deep")

    # Blocks

    def tree(self) -> Tree:
        body = self._body(top=True)
        return Tree(Definition(body, self._frame.size), self._named)

    def _body(self, *, top: bool = False) -> Body:
        """Nodes up to ``else`` or ``end``, which is left standing after its braces; at the top, up to the end."""
        nodes: list[Node] = []
        while True:
            token = self._next()
            if token.kind is Kind.TEXT:
                nodes.append(Text(token.text, token.line))
            elif token.kind is Kind.END:
                if not top:
                    refuse(token.line, "the template ends inside a block; expected '{{end}}'")
                return Body(tuple(nodes))
            elif self._is("else") or self._is("end"):
                if top:
                    refuse(token.line, f"an '{self._here.text}' without its block")
                return Body(tuple(nodes))
            elif top and self._is("define"):
                self._define()
            else:
                nodes.append(self._node())

    def _node(self) -> Node:
        token = self._here
        if token.kind is Kind.KEYWORD and token.text in _CONTROLS:
            self._next()
            return _CONTROLS[token.text](self, token.line)
        return Action(self._pipeline("a command"), token.line)

    def _inner(self) -> Body:
        """A body whose variables end with it: what ``else`` follows cannot have run."""
        known = len(self._frame.visible)
        body = self._body()
        self._frame.forget(known)
        return body

    def _branch(self, kind: Literal["if", "with"], line: int) -> Branch:
        known = len(self._frame.visible)
        self._deeper(1)
        arms = []
        otherwise = None
        while True:
            pipeline = self._pipeline(kind)
            arms.append(Arm(pipeline, self._inner()))
            if self._next().text == "end":
                break
            if not self._is(kind):
                otherwise = self._else(kind)
                break
            self._next()
        self._close(kind, known)
        return Branch(kind, tuple(arms), otherwise, line)

    def _else(self, kind: str) -> Body:
        self._expect(Kind.RIGHT, "else")
        body = self._body()
        token = self._next()
        if token.text != "end":
            self._unexpected(token, f"the else of {kind}", "'end'")
        return body

    def _close(self, kind: str, known: int) -> None:
        self._expect(Kind.RIGHT, f"the end of {kind}")
        self._frame.forget(known)
        self._deeper(-1)

    def _range(self, line: int) -> Range:
        known = len(self._frame.visible)
        self._deeper(1)
        pipeline = self._pipeline("range")
        self._frame.ranges += 1
        body = self._inner()
        self._frame.ranges -= 1
        otherwise = self._else("range") if self._next().text == "else" else None
        self._close("range", known)
        return Range(pipeline, body, otherwise, line)

    def _leap(self, kind: Literal["break", "continue"], line: int) -> Leap:
        self._expect(Kind.RIGHT, kind)
        if not self._frame.ranges:
            refuse(line, f"'{kind}' outside of a range")
        return Leap(kind, line)

    def _define(self) -> None:
        self._next()
        name = self._name("define")
        self._expect(Kind.RIGHT, "define")
        self._add(name, *self._separate())

    def _block(self, line: int) -> Include:
        name = self._name("block")
        pipeline = self._pipeline("block")
        self._deeper(1)
        self._add(name, *self._separate())
        self._deeper(-1)
        return Include(name, pipeline, line)

    def _separate(self) -> tuple[Definition, int]:
        """A body with a frame of its own, up to its ``end``."""
        outer, self._frame = self._frame, _Frame()
        body = self._body()
        token = self._next()
        if token.text != "end":
            self._unexpected(token, "a definition", "'end'")
        self._expect(Kind.RIGHT, "the end of a definition")
        definition = Definition(body, self._frame.size)
        self._frame = outer
        return definition, token.line

    def _add(self, name: str, definition: Definition, line: int) -> None:
        if name in self._named and not _is_empty(self._named[name].body):
            if not _is_empty(definition.body):
                refuse(line, f"template {name[:40]!r} is defined twice")
            return
        self._named[name] = definition

    def _include(self, line: int) -> Include:
        name = self._name("template")
        if self._here.kind is Kind.RIGHT:
            self._next()
            return Include(name, None, line)
        return Include(name, self._pipeline("template"), line)

    def _name(self, where: str) -> str:
        token = self._next()
        if token.kind not in {Kind.STRING, Kind.RAW}:
            self._unexpected(token, where, "a name in quotes")
        return self._text(token)

    # Pipelines

    def _pipeline(self, where: str, end: Kind = Kind.RIGHT) -> Pipeline:
        line = self._here.line
        names, assigns = self._set_variables(where)
        commands: list[Command] = []
        while self._here.kind is not end:
            token = self._here
            if token.kind not in _TERMS and not self._is("nil"):
                self._unexpected(token, where, f"a value or '{end.value}'")
            command = self._command(where)
            if commands and isinstance(command.operands[0], Constant | Dot | Nil):
                refuse(token.line, f"{token.shown} after '|'; expected a function")
            commands.append(command)
        if not commands:
            refuse(line, f"no value for {where}")
        self._next()
        # Only now: in '$x := $x.Next' the second one is still the outer variable.
        return Pipeline(tuple(commands), line, tuple(self._slot(name, assigns=assigns) for name in names), assigns)

    def _set_variables(self, where: str) -> tuple[list[Token], bool]:
        """The variables that take the pipeline's value, and whether they exist already."""
        names: list[Token] = []
        while self._here.kind is Kind.VARIABLE:
            after = self._tokens[self._at + 1]
            if after.kind in {Kind.DECLARE, Kind.ASSIGN}:
                names.append(self._next())
                return names, self._next().kind is Kind.ASSIGN
            if after.text != "," or after.kind is not Kind.OTHER:
                break
            names.append(self._next())
            self._next()
            if where != "range" or len(names) > 1 or self._here.kind is not Kind.VARIABLE:
                refuse(after.line, f"a ',' in {where}; only range sets variables, at most two, as in '$i, $e := …'")
        if names:
            self._unexpected(self._here, where, "'$i, $e := …'")
        return [], False

    def _slot(self, name: Token, *, assigns: bool) -> int:
        if not assigns:
            return self._frame.declare(name.text)
        slot = self._frame.find(name.text)
        if slot is None:
            refuse(name.line, f"variable {name.text[:40]} is set with '=' before it is declared with ':='")
        return slot

    def _command(self, where: str) -> Command:
        operands: list[Operand] = []
        while True:
            operand = self._operand()
            if operand is not None:
                operands.append(operand)
            token = self._here
            if token.kind is Kind.PIPE:
                self._next()
                break
            if token.kind in {Kind.RIGHT, Kind.CLOSE}:
                break
            if operand is None or not token.spaced:
                self._unexpected(token, where, "a space, '|' or the end of the action")
        return Command(tuple(operands))

    def _operand(self) -> Operand | None:
        token = self._here
        term = self._term()
        fields: list[str] = []
        while term is not None and self._here.kind is Kind.FIELD and not self._here.spaced:
            fields.append(self._next().text[1:])
        if term is None or not fields:
            return term
        match term:
            case Field(names):
                return Field((*names, *fields))
            case Variable(name, slot):
                return Variable(name, slot, tuple(fields))
            case Constant() | Nil() | Dot():
                refuse(token.line, f"a field of {token.shown}, which has none")
        return Chain(term, tuple(fields))

    def _term(self) -> Operand | None:
        token = self._here
        if token.kind in _TERMS:
            self._next()
            return _READERS[token.kind](self, token)
        if not self._is("nil"):
            return None
        self._next()
        return Nil()

    def _function(self, token: Token) -> Operand:
        if token.text in {"true", "false"}:
            return Constant(token.text == "true")
        if token.text not in self._functions:
            refuse(
                token.line, f"there is no function {token.text[:40]!r}; there are {', '.join(sorted(self._functions))}"
            )
        return Function(token.text)

    def _variable(self, token: Token) -> Operand:
        slot = self._frame.find(token.text)
        if slot is None:
            refuse(token.line, f"variable {token.text[:40]} is used before it is declared with ':='")
        return Variable(token.text, slot)

    def _bracket(self, _token: Token) -> Operand:
        self._deeper(1)
        pipeline = self._pipeline("brackets", Kind.CLOSE)
        self._deeper(-1)
        return pipeline

    def _text(self, token: Token) -> str:
        return str(self._constant(constants.unquote, token).value)

    def _constant(self, read: Callable[[str], str | int | float], token: Token) -> Constant:
        try:
            return Constant(read(token.text))
        except ValueError as error:
            refuse(token.line, str(error))


_READERS: Mapping[Kind, Callable[[_Parser, Token], Operand]] = {
    Kind.NAME: _Parser._function,
    Kind.DOT: lambda _parser, _token: Dot(),
    Kind.VARIABLE: _Parser._variable,
    Kind.FIELD: lambda _parser, token: Field((token.text[1:],)),
    Kind.NUMBER: lambda parser, token: parser._constant(constants.number, token),
    Kind.CHARACTER: lambda parser, token: parser._constant(constants.character, token),
    Kind.STRING: lambda parser, token: parser._constant(constants.unquote, token),
    Kind.RAW: lambda parser, token: parser._constant(constants.unquote, token),
    Kind.OPEN: _Parser._bracket,
}

_CONTROLS: Mapping[str, Callable[[_Parser, int], Node]] = {
    "if": lambda parser, line: parser._branch("if", line),
    "with": lambda parser, line: parser._branch("with", line),
    "range": _Parser._range,
    "break": lambda parser, line: parser._leap("break", line),
    "continue": lambda parser, line: parser._leap("continue", line),
    "template": _Parser._include,
    "block": _Parser._block,
}


def _is_empty(body: Body) -> bool:
    return all(isinstance(node, Text) and not node.text.strip() for node in body.nodes)
