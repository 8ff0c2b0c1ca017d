"""What can be typed after ``localmodels``, as values; made of the verbs and parsers that the help is made of, too."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

from msgspec import Struct

from localmodels.cli.commands import ALONE, VERBS, load, parser_of

Kind = Literal["model", "server", "file", "directory", "words", ""]

# By the name that the help gives a value; what is not here cannot be known before it is typed.
_KINDS: Mapping[str, Kind] = {
    "MODEL": "model",
    "SERVER": "server",
    "SOURCE": "model",
    "DESTINATION": "model",
    "FILE": "file",
    "PATH": "file",
    "DIR": "directory",
    "DIRECTORY": "directory",
}
PROGRAM = "localmodels"
# Names of models, one a line: the first column of the list, without its title. Only what can be a name passes: bash
# expands what it is offered, so a server could have it run a command.
MODELS = r"localmodels list 2>/dev/null | sed -n '2,$s/^\([A-Za-z0-9_.:/-]*\) .*/\1/p'"
# The same of servers; those with a space in their name are not offered: shells take it for the end of a word.
SERVERS = r"localmodels servers list 2>/dev/null | sed -n '2,$s/^\([A-Za-z0-9_.-]*\)  .*/\1/p'"


class Value(Struct, frozen=True):
    """What may stand somewhere: of which kind it is, or one of ``words``."""

    kind: Kind = ""
    words: tuple[str, ...] = ()


class Option(Struct, frozen=True):
    """An option of a verb; ``value`` None takes none."""

    names: tuple[str, ...]
    doc: str
    value: Value | None = None


class Completable(Struct, frozen=True):
    """A verb: its names, its options, and what its other words may be.

    ``then`` may stand behind one of ``value.words``, where these are actions: ``servers check SERVER``.
    """

    names: tuple[str, ...]
    doc: str
    options: tuple[Option, ...]
    value: Value
    then: Value = Value()


def verbs() -> tuple[Completable, ...]:
    """Every verb of the table."""
    return tuple(
        Completable((verb.name, *verb.aliases), verb.doc, *_arguments(parser_of(verb, load(verb))))
        for verb in VERBS.values()
    )


def _arguments(parser: argparse.ArgumentParser) -> tuple[tuple[Option, ...], Value, Value]:
    actions = parser._actions  # argparse has no other list of them
    options = (
        Option(tuple(action.option_strings), _doc(action), None if action.nargs == 0 else _value(action))
        for action in actions
        if action.option_strings and action.help is not argparse.SUPPRESS
    )
    # What cannot be known (a prompt) may follow what can (a model), and is no reason not to offer it.
    first, then = [*_known(action for action in actions if not action.option_strings), Value(), Value()][:2]
    return tuple(options), first, then if first.words else Value()


def _known(actions: Iterable[argparse.Action]) -> Iterator[Value]:
    return (value for action in actions if (value := _value(action)) != Value())


def _value(action: argparse.Action) -> Value:
    alone = next((ALONE[name] for name in action.option_strings if name in ALONE), ())
    if words := tuple(map(str, action.choices or alone)):
        return Value("words", words)
    return Value(_KINDS.get(str(action.metavar), ""))


def _doc(action: argparse.Action) -> str:
    return " ".join((action.help or "").replace("%%", "%").split())
