"""JSON as it may come in: checked before it is parsed, and every objection named in the caller's own terms.

The one rule: what one parser reads one way and another parser another way is not read at all. msgspec itself refuses
NaN, infinities, halves of surrogate pairs and broken strings, but it keeps the last of two equal keys, skips over bytes
that are not UTF-8 in fields it does not know, and meets depth with a ``RecursionError``; :func:`check` closes these
three (threat V-34 and part D of the reliability notes). It splits the body at its quotes. Of a usual one it looks
whether its objects have as many keys as there are colons outside of texts: 35 microseconds for a conversation of 10 KB,
150 for 10 KB of nothing but tools. What is large, and what is wrong, is gone through text by text, and never character
by character: 350 microseconds for those tools, 16 ms for a picture of 20 MB.
"""

from __future__ import annotations

import re
from codecs import getincrementaldecoder
from itertools import chain
from typing import Any, TypeVar

import msgspec

from localmodels.core.errors import CallerError, Garbled, InvalidRequest, InvalidValue

T = TypeVar("T")

MAX_DEPTH = 64

# Far more than any request needs, and few enough to be gone through at once. Half of the quotes are texts.
MAX_QUOTES = 2**17
_MOST = ((b",", 2**20, "values"), (b"[", 2**17, "lists"), (b"{", 2**17, "objects"))  # tokens of a prompt are values
SLICE = 2**20  # bytes that are searched in one go, while nobody else has the interpreter's lock: some milliseconds
COLON, BRACE = b":{"
OPENING = b"{["
USUAL = 2**16  # bytes of a body whose values may all be in memory at once
SPARSE = 256  # bytes for each text; where there are fewer texts, following them is faster than making all values
_NESTS = frozenset({dict, list})
_NO_SIGNS = bytes(set(range(256)) - set(b":{}[]"))
_PLAIN = b"0123456789,.-+eE \t\r\n"  # what numbers are made of, and what may stand around them
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
_ANYTHING = msgspec.json.Decoder()


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
    """Looks for what the parser would let pass, and for what would keep it busy for long.

    Raises:
        InvalidRequest: not UTF-8, deeper than 64, an object with the same key twice, or more of anything than a request
            needs.
    """
    if not body.isascii():
        _check_utf8(body)
    pieces = _unescaped(body).split(b'"')
    gaps = pieces[::2]
    if len(body) <= min(USUAL, SPARSE * len(gaps)) and _keys(body) == b"".join(gaps).count(b":"):
        return
    for sign, most, what in _MOST:
        if len(body) > most and body.count(sign) > most and sum(gap.count(sign) for gap in gaps) > most:
            raise InvalidRequest(f"the body holds more than {most:,} {what}")
    _check_objects(pieces[1::2], gaps)


def _keys(body: bytes) -> int:
    """Keys of all its objects, each that an object has twice counted once; -1 of what is no JSON, or too deep."""
    try:
        level: list[Any] = [_ANYTHING.decode(body)]
    except (ValueError, RecursionError):
        return -1
    keys = 0
    for _ in range(MAX_DEPTH):
        deeper: list[Any] = []
        for value in level:
            if type(value) is dict:
                keys += len(value)
                deeper += [inner for inner in value.values() if type(inner) in _NESTS]
            elif type(value) is list:
                deeper += [inner for inner in value if type(inner) in _NESTS]
        if not deeper:
            return keys
        level = deeper
    return -1


def _unescaped(body: bytes) -> bytes:
    """The body with every escape of a quote or a backslash made unlike both, so that each quote begins or ends a text.

    Raises:
        InvalidRequest: there are too many quotes.
    """
    start, quotes = 0, 0
    pieces: list[bytes] = []
    while start < len(body):
        piece = body[start : start + SLICE]
        if b"\\" in piece:
            if (len(piece) - len(piece.rstrip(b"\\"))) % 2:  # the last one belongs to what follows
                piece = body[start : start + SLICE + 1]
            start += len(piece)
            for escape, hidden in _HIDDEN:
                piece = piece.replace(escape, hidden)
        else:
            start += len(piece)
        quotes += piece.count(b'"')
        if quotes > MAX_QUOTES:
            raise InvalidRequest(f"the body holds more than {MAX_QUOTES // 2:,} texts")
        pieces.append(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _check_objects(texts: list[bytes], gaps: list[bytes]) -> None:
    """Follows texts and what stands between them, one more than these. Loose brackets are left to the parser.

    In one function, since a call for each key would double its time.
    """
    keys: set[bytes] = set()
    nothing: set[bytes] = set()  # what stands for the keys of a list
    around: list[set[bytes]] = []
    known = {b":": b":", b"": b""}  # gaps are few, but for the numbers in them: from a gap to its signs
    for text, gap in zip(chain((b"",), texts), gaps, strict=False):  # a text that does not end is the parser's
        signs = known.get(gap)
        if signs is None:
            signs = known.get(gap.rstrip(_PLAIN)) or known.setdefault(gap, gap.translate(None, _NO_SIGNS))
        if not signs:
            continue
        if signs[0] == COLON:
            if b"\\" in text or b"\0" in text:
                text = _spelled(text)  # noqa: PLW2901
            if text in keys:
                raise InvalidRequest(f"the key '{text[:80].decode(errors='replace')}' appears twice in one object")
            keys.add(text)
            if len(signs) == 1:
                continue
        for sign in signs:
            if sign in OPENING:
                if len(around) == MAX_DEPTH:
                    raise InvalidRequest(f"the body nests deeper than {MAX_DEPTH} levels")
                around.append(keys)
                keys = set() if sign == BRACE else nothing
            elif sign != COLON and around:
                keys = around.pop()


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
    decoder, view = getincrementaldecoder("utf-8")(), memoryview(body)
    for start in range(0, len(body), SLICE):
        begun = len(decoder.getstate()[0])  # bytes of a character that the slice before has cut
        try:
            decoder.decode(view[start : start + SLICE], final=start + SLICE >= len(body))
        except UnicodeDecodeError as error:
            raise InvalidRequest(f"the body is not UTF-8 (byte {start - begun + error.start})") from error


def _spelled(key: bytes) -> bytes:
    """The key in the one spelling that all its escapes mean."""
    for escape, hidden in _HIDDEN:
        key = key.replace(hidden, escape)
    try:
        return msgspec.json.decode(b'"%b"' % key, type=str).encode()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"the body is not JSON: {error}") from error
