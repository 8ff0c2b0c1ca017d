"""JSON as it may come in: checked before it is parsed, and every objection named in the caller's own terms.

The one rule: what one parser reads one way and another parser another way is not read at all. msgspec itself refuses
NaN, infinities, halves of surrogate pairs and broken strings, but it keeps the last of two equal keys, skips over bytes
that are not UTF-8 in fields it does not know, and meets depth with a ``RecursionError``; :func:`check` closes these
three (threat V-34 and part D of the reliability notes). It splits the body at its quotes and comes to Python once a
text, not once a character: 50 to 80 microseconds for a conversation of 10 KB, 350 for 10 KB of nothing but tools (three
and seven times what Python's own parser takes, which keeps the whole tree in memory), 16 ms for a picture of 20 MB.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from localmodels.core.errors import CallerError, Garbled, InvalidRequest, InvalidValue

T = TypeVar("T")

MAX_DEPTH = 64

# Half of them are the texts that a body may hold: far more than any request needs, and few enough to be split at once.
MAX_QUOTES = 2**17
MAX_BRACKETS = 65_536  # between two texts; a batch of token lists has some thousands
_BRACKETS = re.compile(rb"[{}\[\]]")
# Escapes that would hide where a text ends, as bytes that cannot stand in JSON; two for two, so that they can go back.
_HIDDEN = ((b"\\\\", b"\0\0"), (b'\\"', b"\0\1"))
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


def parsed(text: bytes | str, shape: Any = Any) -> Any:
    """What somebody else says who is no caller of ours: a registry, a file; whoever reads it makes it his error.

    Raises:
        ValueError: not JSON, not of this shape, or deeper than a parser goes. msgspec's own complaints are such too.
    """
    try:
        return msgspec.json.decode(text, type=shape)
    except RecursionError:
        raise ValueError("it nests too deep") from None


def check(body: bytes) -> None:
    """Looks for what the parser would let pass.

    Raises:
        InvalidRequest: not UTF-8, deeper than 64, or an object with the same key twice.
    """
    if not body.isascii():
        _check_utf8(body)
    for escape, hidden in _HIDDEN if b"\\" in body else ():
        body = body.replace(escape, hidden)
    if body.count(b'"') > MAX_QUOTES:
        raise InvalidRequest(f"the body holds more than {MAX_QUOTES // 2:,} texts")
    _check_objects(body.split(b'"'))


def _check_objects(pieces: list[bytes]) -> None:
    """Follows texts (every second piece) and what stands between them. Loose brackets are left to the parser.

    In one function, since a call for each key would double its time.
    """
    keys: set[bytes] = set()
    around: list[set[bytes]] = []
    roles: dict[bytes, tuple[bool, tuple[bool, ...]]] = {}
    for text, after in zip([b"", *pieces[1::2]], pieces[::2], strict=False):
        role = roles.get(after)
        if role is None:
            role = roles[after] = _role(after) if len(after) > USUAL_GAP else _usual_role(after)
        is_key, brackets = role
        if is_key:
            if b"\\" in text or b"\0" in text:
                text = _spelled(text)  # noqa: PLW2901
            if text in keys:
                raise InvalidRequest(f"the key '{text[:80].decode(errors='replace')}' appears twice in one object")
            keys.add(text)
        for opens in brackets:
            if opens:
                if len(around) == MAX_DEPTH:  # before anything is made for this level: a body may be all brackets
                    raise InvalidRequest(f"the body nests deeper than {MAX_DEPTH} levels")
                around.append(keys)
                keys = set()
            elif around:
                keys = around.pop()


def _role(after: bytes) -> tuple[bool, tuple[bool, ...]]:
    """What stands between two texts: is the one before it a key, and which brackets open (True) or close."""
    if after.count(b"[") + after.count(b"{") > MAX_BRACKETS:
        raise InvalidRequest(f"the body holds more than {MAX_BRACKETS:,} lists and objects in a row")
    return after.lstrip()[:1] == b":", tuple(bracket in b"{[" for bracket in _BRACKETS.findall(after))


# What stands between two texts is nearly always the same few signs: `:`, `,`, `},{`, and numbers.
USUAL_GAP = 16
_usual_role = lru_cache(maxsize=4096)(_role)


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


def _spelled(key: bytes) -> bytes:
    """The key in the one spelling that all its escapes mean."""
    for escape, hidden in _HIDDEN:
        key = key.replace(hidden, escape)
    try:
        return msgspec.json.decode(b'"%b"' % key, type=str).encode()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"the body is not JSON: {error}") from error
