"""Constants as Go writes them. The rule: what Go's ``strconv`` refuses is refused here.

Go's texts are bytes. A text that a template builds from escapes or cuts apart may not be UTF-8; the odd bytes are kept
as half surrogates (``surrogateescape``), as everywhere in this package, and find together again when it is printed.
"""

from __future__ import annotations

import re

_ESCAPE = re.compile(r"\\(?:(?P<plain>[abfnrtv\\'\"])|(?P<octal>[0-7]{3})|x(?P<hex>[0-9a-fA-F]{2})"
                     r"|u(?P<short>[0-9a-fA-F]{4})|U(?P<long>[0-9a-fA-F]{8}))")  # fmt: skip
_PLAIN = dict(zip("abfnrtv\\'\"", "\a\b\f\n\r\t\v\\'\"", strict=True))
_INT = re.compile(
    r"[+-]?(?:0[xX](?:_?[0-9a-fA-F])+|0[bB](?:_?[01])+|(?P<octal>0[oO]?(?:_?[0-7])+)|0|[1-9](?:_?[0-9])*)"
)
_FLOAT = re.compile(r"[+-]?(?=\.?[0-9])[0-9]*\.?[0-9]*(?:[eE][+-]?[0-9]+)?")
_HEX_FLOAT = re.compile(r"[+-]?0[xX](?=\.?[0-9a-fA-F])[0-9a-fA-F]*\.?[0-9a-fA-F]*[pP][+-]?[0-9]+")
_BETWEEN_DIGITS = re.compile(r"(?<=[0-9a-fA-FxX])_(?=[0-9a-fA-F])")
_INT64 = 2**63
_LONGEST = 400  # characters: all that the largest float needs


def unquote(token: str) -> str:
    """The text of ``"…"`` or backquotes.

    Raises:
        ValueError: an escape that Go does not know.
    """
    if token[0] == "`":
        return token[1:-1].replace("\r", "")
    return unescape(token[1:-1], forbidden="'")


def character(token: str) -> int:
    """The code point of ``'…'``.

    Raises:
        ValueError: it is not exactly one character.
    """
    text = unescape(token[1:-1], forbidden='"')
    if len(text) != 1:
        raise ValueError(f"{token[:20]} is not one character")
    # An escaped byte is that number, not the half surrogate that stands for it.
    return ord(text) - 0xDC00 if "\udc80" <= text <= "\udcff" else ord(text)


def unescape(text: str, *, forbidden: str) -> str:
    """The text without its escapes; ``forbidden`` is the quote that may not be escaped here."""
    if "\\" not in text:
        return text
    parts: list[bytes] = []
    at = 0
    while (start := text.find("\\", at)) >= 0:
        match = _ESCAPE.match(text, start)
        if match is None or match["plain"] == forbidden:
            raise ValueError(f"{text[start : start + 2]!r} is not an escape that Go knows")
        parts += (text[at:start].encode("utf-8", "surrogateescape"), _escaped(match))
        at = match.end()
    parts.append(text[at:].encode("utf-8", "surrogateescape"))
    return b"".join(parts).decode("utf-8", "surrogateescape")


def _escaped(match: re.Match[str]) -> bytes:
    if plain := match["plain"]:
        return _PLAIN[plain].encode()
    if octal := match["octal"]:
        number = int(octal, 8)
        if number > 255:
            raise ValueError(f"{match[0]} is more than a byte")
        return bytes([number])
    if digits := match["hex"]:
        return bytes.fromhex(digits)
    code = int(match["short"] or match["long"], 16)
    if code > 0x10FFFF or 0xD800 <= code < 0xE000:
        raise ValueError(f"{match[0]} is not a character")
    return chr(code).encode()


def number(token: str) -> int | float:
    """A number as the template writes it: with a point or exponent a float, else an int.

    Raises:
        ValueError: it is not a number, or too large for 64 bits.
    """
    if len(token) > _LONGEST:
        raise ValueError(f"{token[:20]}… has too many digits for a number")
    whole = _INT.fullmatch(token)
    if whole is not None:
        value = int(token.lower().replace("o", ""), 8) if whole["octal"] else int(token, 0)
        if not -_INT64 <= value < _INT64:
            raise ValueError(f"{token[:40]} is too large for a whole number of 64 bits")
        return value
    digits = _BETWEEN_DIGITS.sub("", token)
    if _HEX_FLOAT.fullmatch(digits):
        value_of_float = _from_hex(digits)
    elif _FLOAT.fullmatch(digits) and not digits.lstrip("+-").isdigit():
        value_of_float = float(digits)
    else:
        raise ValueError(f"{token[:40]} is not a number")
    if value_of_float in {float("inf"), float("-inf")}:
        raise ValueError(f"{token[:40]} is too large for a number")
    return value_of_float


def _from_hex(digits: str) -> float:
    try:
        return float.fromhex(digits)
    except OverflowError:
        return float("inf")
