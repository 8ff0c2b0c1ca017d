"""JSON as it may come in: checked before it is parsed, and every objection named in the caller's own terms.

The one rule: what one parser reads one way and another parser another way is not read at all. msgspec itself refuses
NaN, infinities, halves of surrogate pairs and broken strings, but it keeps the last of two equal keys, skips over bytes
that are not UTF-8 in fields it does not know, and meets depth with a ``RecursionError``; :func:`check` closes these
three (threat V-34 and part D of the reliability notes). It is one anchored pass of a regular expression that cannot
backtrack, and comes to Python only for keys and brackets: 15 to 30 microseconds for a conversation of 10 KB.
"""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec

from localmodels.core.errors import CallerError, Garbled, InvalidRequest, InvalidValue

T = TypeVar("T")

MAX_DEPTH = 64

# Everything up to and with the next key or bracket; possessive, so that no input makes it go back over a long text.
_STEP = re.compile(
    rb"""(?: [^"{}\[\]]++ | "(?:[^"\\]++|\\.)*+"(?!\s*+:) )*+ ( "(?:[^"\\]++|\\.)*+" | [{}\[\]] )""",
    re.VERBOSE | re.DOTALL,
)
_OPENING = frozenset((b"{", b"["))
_PROBLEM = re.compile(r"(?P<what>.*?)(?: - at `(?P<where>[^`]*)`)?", re.DOTALL)
_EXPECTED = re.compile(r"Expected `([^`]*)`, got `([^`]*)`")
_MISSING = re.compile(r"Object missing required field `([^`]*)`")
_WORDS = {
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
_ENCODER = msgspec.json.Encoder()


def encode(value: Any) -> bytes:
    """The value as JSON in one line: line ends and NUL leave only as escapes (threat V-33).

    Raises:
        Garbled: a text holds half of a surrogate pair, which JSON cannot carry.
    """
    try:
        return _ENCODER.encode(value)
    except UnicodeEncodeError as error:
        raise Garbled("a text holds half of a surrogate pair and cannot be sent") from error


def read(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """What a caller sent.

    Raises:
        InvalidRequest: not JSON, not UTF-8, too deep, a key twice, not an object, or a field missing.
        InvalidValue: a field of the wrong type; the message names its path and what would be right.
    """
    check(body)
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise objection(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"the body is not JSON: {error}") from error


def check(body: bytes) -> None:
    """Looks for what the parser would let pass.

    Raises:
        InvalidRequest: not UTF-8, deeper than 64, or an object with the same key twice.
    """
    if not body.isascii():
        _check_utf8(body)
    open_keys: list[set[bytes]] = []
    position, size, step = 0, len(body), _STEP.match
    while position < size:
        found = step(body, position)
        if found is None:
            return  # the end, or no JSON: the parser will tell
        position = found.end()
        token = found[1]
        if token in _OPENING:
            open_keys.append(set())
            if len(open_keys) > MAX_DEPTH:
                raise InvalidRequest(f"the body nests deeper than {MAX_DEPTH} levels")
        elif not open_keys:
            return
        elif token[0] == 0x22:
            _add(open_keys[-1], token)
        else:
            open_keys.pop()


def objection(problem: str) -> CallerError:
    """The parser's complaint as an error that names the field as the caller knows it."""
    found = _PROBLEM.fullmatch(problem)
    what, where = (found["what"], found["where"] or "") if found else (problem, "")
    path = where.removeprefix("$").removeprefix(".").replace("[...]", "")
    if missing := _MISSING.fullmatch(what):
        name = f"{path}.{missing[1]}" if path else missing[1]
        return InvalidRequest(f"{name} is required", param=name)
    expected = _EXPECTED.fullmatch(what)
    if not path:
        reason = f"must be {_words(expected[1])}" if expected else f"is not valid: {what}"
        return InvalidRequest(f"the body {reason}")
    reason = f"must be {_words(expected[1])}, not {_words(expected[2])}" if expected else f"is not valid: {what}"
    return InvalidValue(f"{path} {reason}", param=path)


def _words(types: str) -> str:
    return " or ".join(_WORDS.get(word, word) for word in types.split(" | ") if word != "null") or "null"


def _check_utf8(body: bytes) -> None:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"the body is not UTF-8 (byte {error.start})") from error


def _add(keys: set[bytes], token: bytes) -> None:
    """Adds one key of an object, in the one spelling that all its escapes mean."""
    if b"\\" in token:
        try:
            token = _ENCODER.encode(msgspec.json.decode(token))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidRequest(f"the body is not JSON: {error}") from error
    if token in keys:
        raise InvalidRequest(f"the key {token[:80].decode(errors='replace')} appears twice in one object")
    keys.add(token)
