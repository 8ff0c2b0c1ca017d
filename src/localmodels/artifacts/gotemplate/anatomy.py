"""What a tree shows without being run, as Ollama reads it. The rule: only what stands in the template, no guesses.

Ollama tells from the names in a template what a model can do, takes the tags around its thoughts and its tool calls
from the texts beside them, and cuts an old template where the answer goes. These are its rules (template/template.go,
thinking/template.go, tools/template.go), down to which parts of a tree it looks at.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import structs

from localmodels.artifacts.gotemplate.limits import refuse
from localmodels.artifacts.gotemplate.nodes import (
    Action,
    Arm,
    Body,
    Branch,
    Command,
    Field,
    Include,
    Node,
    Operand,
    Pipeline,
    Range,
    Text,
    Tree,
    Variable,
)

ANSWER = "Response"


def names(tree: Tree) -> frozenset[str]:
    """The fields and variables that a template mentions, in lower case.

    Raises:
        InvalidRequest: a template is called without a value, which Ollama refuses.
    """
    bodies = (tree.main.body, *(definition.body for definition in tree.named.values()))
    return frozenset(name.lower() for body in bodies for name in _names(body))


def _names(body: Body | None) -> Iterator[str]:
    for node in body.nodes if body else ():
        match node:
            case Include(name, None, line):
                refuse(
                    line,
                    f"template {name[:40]!r} is called without a value; expected one, as in '{{{{template \"x\" .}}}}'",
                )
            case Action(pipeline) | Include(_, Pipeline() as pipeline):
                yield from _pipeline_names(pipeline)
            case Branch(_, arms, otherwise):
                for arm in arms:
                    yield from _pipeline_names(arm.pipeline)
                    yield from _names(arm.body)
                yield from _names(otherwise)
            case Range(pipeline, inner, otherwise):
                yield from _pipeline_names(pipeline)
                yield from _names(inner)
                yield from _names(otherwise)
            case _:
                pass


def _pipeline_names(pipeline: Pipeline) -> Iterator[str]:
    for operand in _operands(pipeline):
        match operand:
            case Field(fields):
                yield from fields
            case Variable(name, _, fields):
                yield from (name, *fields)
            case Pipeline():
                yield from _pipeline_names(operand)
            case _:
                pass


def _operands(pipeline: Pipeline) -> Iterator[Operand]:
    return (operand for command in pipeline.commands for operand in command.operands)


# Where the answer goes


def with_answer(tree: Tree) -> Tree:
    """The template with ``.Response`` at its end."""
    nodes = tree.main.body.nodes
    line = nodes[-1].line if nodes else 1
    answer = Action(Pipeline((Command((Field((ANSWER,)),)),), line), line)
    return structs.replace(tree, main=structs.replace(tree.main, body=Body((*nodes, answer))))


def up_to_answer(tree: Tree) -> Tree:
    """The template without what follows ``.Response``; on each way through it, if there are several."""
    return structs.replace(tree, main=structs.replace(tree.main, body=_Cut().body(tree.main.body)))


class _Cut:
    """Copies a tree until it has met ``.Response``; leaves out everything after it."""

    def __init__(self) -> None:
        self._met = False

    def body(self, body: Body) -> Body:
        kept = []
        for node in body.nodes:
            if self._met:
                break
            copy = self._node(node)
            if copy is not None:
                kept.append(copy)
        return Body(tuple(kept))

    def _node(self, node: Node) -> Node | None:
        match node:
            case Action(pipeline):
                cut = self._pipeline(pipeline)
                return structs.replace(node, pipeline=cut) if cut else None
            case Branch(_, arms, otherwise):
                ways = [self._way(arm.body) for arm in arms]
                end = self._way(otherwise) if otherwise else (None, False)
                self._met = end[1] or any(met for _, met in ways)
                kept = tuple(Arm(arm.pipeline, body) for arm, (body, _) in zip(arms, ways, strict=True))
                return structs.replace(node, arms=kept, otherwise=end[0])
            case Range(_, inner, otherwise):
                body, met = self._way(inner)
                end = self._way(otherwise) if otherwise else (None, False)
                self._met = met or end[1]
                return structs.replace(node, body=body, otherwise=end[0])
            case _:
                return node

    def _way(self, body: Body) -> tuple[Body, bool]:
        cut = _Cut()
        return cut.body(body), cut._met

    def _pipeline(self, pipeline: Pipeline) -> Pipeline | None:
        commands = []
        for command in pipeline.commands:
            operands = tuple(kept for operand in command.operands if (kept := self._operand(operand)))
            if not operands:
                return None
            commands.append(Command(operands))
        return structs.replace(pipeline, commands=tuple(commands))

    def _operand(self, operand: Operand) -> Operand | None:
        if self._met:
            return None
        if isinstance(operand, Field) and ANSWER in operand.names:
            self._met = True
        return self._pipeline(operand) if isinstance(operand, Pipeline) else operand


# Tags


def thinking_tags(tree: Tree) -> tuple[str, str]:
    """The texts before and after a message's thoughts; empty where there are none."""
    finder = _Thoughts()
    finder.visit(tree.main.body, around=None)
    return finder.opening, finder.closing


class _Thoughts:
    """Looks for ``.Thinking`` inside of a range over the messages and takes the texts at both ends of its body."""

    def __init__(self) -> None:
        self.opening = ""
        self.closing = ""

    def visit(self, body: Body | None, around: Range | None) -> None:
        for node in body.nodes if body else ():
            match node:
                case Action(pipeline) | Include(_, Pipeline() as pipeline):
                    self._look(pipeline, body, around)
                case Branch(_, arms, otherwise):
                    for number, arm in enumerate(arms):
                        # The condition of an 'else if' stands alone in a body of its own.
                        self._look(arm.pipeline, None if number else body, around)
                        self.visit(arm.body, around)
                    self.visit(otherwise, around)
                case Range(pipeline, inner, otherwise):
                    self._look(pipeline, body, node)
                    self.visit(inner, node)
                    self.visit(otherwise, node)
                case _:
                    pass

    def _look(self, pipeline: Pipeline, body: Body | None, around: Range | None) -> None:
        if not _mentions(pipeline, "Thinking") or around is None or not _mentions(around.pipeline, "Messages"):
            return
        if body is None:
            return
        first, last = body.nodes[0], body.nodes[-1]
        self.opening = first.text.strip() if isinstance(first, Text) else self.opening
        self.closing = last.text.strip() if isinstance(last, Text) else self.closing


def _mentions(pipeline: Pipeline, name: str) -> bool:
    return any(
        (isinstance(operand, Field) and operand.names[0] == name)
        or (isinstance(operand, Pipeline) and _mentions(operand, name))
        for operand in _operands(pipeline)
    )


def tool_tag(tree: Tree) -> str:
    """The text with which a tool call begins; ``{`` where calls are bare JSON."""
    calls = _calls(tree.main.body)
    text = _first_text(calls) if calls else None
    tag = text.replace("\r\n", "\n").partition("{")[0].strip() if text else ""
    return tag or "{"


def around_calls(tree: Tree) -> tuple[str, str]:
    """The texts of the block for tool calls before its first action and after its last. Ollama has no use for them."""
    pieces = list(_pieces(_calls(tree.main.body)))
    actions = [place for place, piece in enumerate(pieces) if piece is None]
    first, last = (actions[0], actions[-1]) if actions else (len(pieces), len(pieces))
    return "".join(filter(None, pieces[:first])), "".join(filter(None, pieces[last:]))


def _pieces(body: Body | None) -> Iterator[str | None]:
    """The texts of a body from first to last, through all its blocks; None for an action."""
    for node in body.nodes if body else ():
        match node:
            case Text(text):
                yield text
            case Action():
                yield None
            case Branch(_, arms, otherwise):
                for inner in (*(arm.body for arm in arms), otherwise):
                    yield from _pieces(inner)
            case Range(_, inner, otherwise):
                yield from _pieces(inner)
                yield from _pieces(otherwise)
            case _:
                pass


def _calls(body: Body | None) -> Body | None:
    """What follows from the first condition on ``.ToolCalls``."""
    for node in body.nodes if body else ():
        if isinstance(node, Branch):
            found = _calls_of(node)
        else:
            found = _calls(node.body) or _calls(node.otherwise) if isinstance(node, Range) else None
        if found:
            return found
    return None


def _calls_of(node: Branch) -> Body | None:
    for arm in node.arms:
        fields = (operand for operand in _operands(arm.pipeline) if isinstance(operand, Field))
        if node.kind == "if" and any("ToolCalls" in operand.names for operand in fields):
            return arm.body
        found = _calls(arm.body)
        if found:
            return found
    return _calls(node.otherwise)


def _first_text(body: Body | None) -> str | None:
    """The first text that is not blank, looking into the first block and not beyond an action."""
    for node in body.nodes if body else ():
        match node:
            case Text(text) if text.strip():
                return text
            case Action():
                return None
            case Branch(_, arms, otherwise):
                return next(filter(None, map(_first_text, (*(arm.body for arm in arms), otherwise))), None)
            case Range(_, inner, otherwise):
                return _first_text(inner) or _first_text(otherwise)
            case _:
                pass
    return None
