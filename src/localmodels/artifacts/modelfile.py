"""Writes Modelfiles: what a model is made of, as text that Ollama's users read and feed back.

The rule: nothing is lost on the way. Ollama's reader ends a value at the first line that closes its quotes, knows no
escape, and trims what is not quoted, so every value is quoted by what stands in it (:func:`quote`). Reading Modelfiles
is not here yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec import Struct

_TRIPLE = '"""'


class Modelfile(Struct, frozen=True):
    """A model in its maker's words.

    Attributes:
        name: what the model is called here; stands in a comment.
        models: files (or names) that it is made from: the weights, then a vision projector.
        parameters: name and value; a list of values becomes a line each.
        messages: role and text of the turns that every conversation begins with.
    """

    name: str
    models: tuple[str, ...]
    adapters: tuple[str, ...] = ()
    template: str = ""
    system: str = ""
    parameters: tuple[tuple[str, Any], ...] = ()
    license: tuple[str, ...] = ()
    messages: tuple[tuple[str, str], ...] = ()


def write_modelfile(modelfile: Modelfile) -> str:
    """The text, every line ended."""
    head = (f"# Modelfile of {modelfile.name}", "# To build a model on this one, write instead of FROM:")
    lines = (*head, f"# FROM {modelfile.name}", "", *_commands(modelfile))
    return "".join(f"{line}\n" for line in lines)


def quote(text: str) -> str:
    """The text as a value that Ollama's reader reads back to it.

    One text has no such form, since its grammar has no escape: several lines of which one ends in three quotation
    marks. It is written as if it had one.
    """
    if text and text == text.strip() and not text.startswith('"') and "\n" not in text and "\r" not in text:
        return text
    return f"{_TRIPLE}{text}{_TRIPLE}"


def _commands(modelfile: Modelfile) -> Iterator[str]:
    for path in modelfile.models:
        yield f"FROM {quote(path)}"
    for path in modelfile.adapters:
        yield f"ADAPTER {quote(path)}"
    if modelfile.template:
        yield f"TEMPLATE {quote(modelfile.template)}"
    if modelfile.system:
        yield f"SYSTEM {quote(modelfile.system)}"
    for name, value in modelfile.parameters:
        for one in value if isinstance(value, (list, tuple)) else (value,):
            yield f"PARAMETER {name} {quote(_shown(one))}"
    for text in modelfile.license:
        yield f"LICENSE {quote(text)}"
    for role, text in modelfile.messages:
        yield f"MESSAGE {role} {quote(text)}"


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
