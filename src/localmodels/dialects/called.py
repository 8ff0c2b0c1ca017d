"""Tool calls as models write them: JSON in one of several shapes, and which of it calls a tool that is offered.

The rule: a call names a tool that was offered and brings its arguments as an object; whatever else a model writes is no
call, and the whole of it is left to be told as text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Any, NoReturn

import msgspec
from msgspec import Struct

from localmodels.dialects.strict_json import encode

NAMES = ("name", "tool_name", "function")
ARGUMENTS = ("arguments", "parameters", "args", "input")
DEEPEST = 64
_WORD = re.compile(r"[\w.:/-]+")


class Call(Struct, frozen=True):
    """A call; ``arguments`` is the JSON text of an object."""

    name: str
    arguments: str


def calls_in(written: str, label: str, offered: Collection[str]) -> tuple[Call, ...]:
    """The calls in a JSON text; none if any of it is no call.

    Args:
        written: an object, or a list of objects.
        label: what stands between the tag and the JSON: with some models the tool's name.
        offered: the names of the tools.
    """
    try:
        # Models write line ends into their strings as they are, so these are let through.
        value = json.loads(written, strict=False, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return ()
    named = next((word for word in reversed(_WORD.findall(label)) if word in offered), "")
    found = [(named, value)] if named and isinstance(value, dict) else _pairs(value, offered, DEEPEST)
    calls = [_call(name, arguments, offered) for name, arguments in found]
    return tuple(call for call in calls if call) if all(calls) else ()


def _pairs(value: Any, offered: Collection[str], room: int) -> list[tuple[Any, Any]]:
    """Names and arguments, in order; a pair that is none has the name None."""
    if not room:
        return [(None, None)]
    if isinstance(value, list):
        return [pair for item in value for pair in _pairs(item, offered, room - 1)]
    if not isinstance(value, dict) or not value:
        return [(None, None)]
    name = next((value[key] for key in NAMES if isinstance(value.get(key), str)), None)
    if name is not None:
        return [(name, next((value[key] for key in ARGUMENTS if key in value), {}))]
    for inner in ("function", "tool_calls"):
        if inner in value:
            return _pairs(value[inner], offered, room - 1)
    return [(key if key in offered else None, arguments) for key, arguments in value.items()]


def _call(name: Any, arguments: Any, offered: Collection[str]) -> Call | None:
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}", strict=False, parse_constant=_refuse)
        except (ValueError, RecursionError):
            return None
    if name not in offered or not isinstance(arguments, dict | None):
        return None
    text = arguments_text(arguments or {})
    return Call(name, text) if text is not None else None


def arguments_text(arguments: Any) -> str | None:
    """Arguments as JSON; None if no client could read it: 1e999, or half a pair of surrogates."""
    try:
        text = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
        text.encode()
    except (ValueError, RecursionError):  # UnicodeEncodeError is one
        return None
    return text


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


class Scanner:
    """Finds the first object or list in a text that comes in pieces; looks at each character once.

    Args:
        place: where to begin to look.

    Attributes:
        start: where it begins; -1 while it has not.
        known: with which character that was known.
        end: after its last bracket; -1 while that has not come.
    """

    def __init__(self, place: int) -> None:
        self.start = self.known = self.end = -1
        self._place = place
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self._is_list = False

    @property
    def is_open_list(self) -> bool:
        """Is it a list of which nothing but the last bracket is missing?"""
        return self._is_list and self._depth == 1

    def scan(self, text: str) -> bool:
        """Goes on in ``text``, which begins as it did before; is the end there?"""
        if self.start < 0:
            self._find_start(text)
        while self.start >= 0 and self.end < 0 and self._place < len(text):
            self._step(text[self._place])
            self._place += 1
            if not self._depth:
                self.end = self._place
        return self.end >= 0

    def _find_start(self, text: str) -> None:
        """A brace, or a bracket before one: other brackets belong to tags (``[ARGS]``)."""
        while self._place < len(text):
            char, first = text[self._place], self._place
            if char == "[":
                first = next((at for at in range(first + 1, len(text)) if not text[at].isspace()), -1)
                if first < 0:
                    return  # what follows tells
            if text[first] == "{":
                self.start, self.known = self._place, first
                self._is_list = char == "["
                return
            self._place += 1

    def _step(self, char: str) -> None:
        if self._escaped:
            self._escaped = False
        elif self._in_string:
            self._escaped = char == "\\"
            self._in_string = char != '"'
        elif char == '"':
            self._in_string = True
        elif char in "{[":
            self._depth += 1
        elif char in "}]":
            self._depth -= 1


def as_object(arguments: str) -> bytes | None:
    """The arguments as a JSON object in one line; None if they are none. No text at all is an empty object."""
    if not arguments.strip():
        return b"{}"
    try:
        value = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return encode(value) if isinstance(value, dict) else None
