"""Durations and sizes as people write them: ``5m``, ``1h30m``, ``-1``, ``12GiB``.

Durations are Go's, since every Ollama client writes ``keep_alive`` so, and a bare number is seconds. What ``write_*``
writes, ``parse_*`` reads back.
"""

from __future__ import annotations

import re

from localmodels.core.errors import InvalidValue

_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9}
_BYTES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}

_NUMBER = r"(?:[0-9]{1,20}(?:\.[0-9]{1,9})?|\.[0-9]{1,9})"
_UNIT = r"(?:h|ms|m|s|us|µs|μs|ns)"
_PIECE = re.compile(rf"({_NUMBER})({_UNIT})")
_DURATION = re.compile(rf"[+-]?(?:(?:{_NUMBER}{_UNIT})+|{_NUMBER})")
_SIZE = re.compile(rf"({_NUMBER})\s*([kmgt]i?)?b?", re.IGNORECASE)


def parse_duration(text: str) -> float:
    """Seconds; negative is for ever, where a duration may be that.

    Raises:
        InvalidValue: it is not a duration.
    """
    cleaned = text.strip()
    if not _DURATION.fullmatch(cleaned):
        raise InvalidValue(f"'{text[:60]}' is not a duration, such as 90, 30s, 5m or 1h30m")
    sign, digits = (-1.0, cleaned[1:]) if cleaned.startswith("-") else (1.0, cleaned.removeprefix("+"))
    pieces = _PIECE.findall(digits)
    return sign * (sum(float(number) * _SECONDS[unit] for number, unit in pieces) if pieces else float(digits))


def write_duration(seconds: float) -> str:
    """The shortest common form: ``5m``, ``1h30m``, ``0.5s``, ``-1``."""
    if seconds < 0:
        return "-1"
    hours, rest = divmod(seconds, 3600)
    minutes, left = divmod(rest, 60)
    parts = [f"{int(hours)}h" if hours else "", f"{int(minutes)}m" if minutes else "", f"{left:g}s" if left else ""]
    return "".join(parts) or "0s"


def parse_size(text: str) -> int:
    """Bytes. ``GB`` is 10⁹ and ``GiB`` is 2³⁰, as everywhere but in memory shops.

    Raises:
        InvalidValue: it is not a size.
    """
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise InvalidValue(f"'{text[:60]}' is not a size, such as 8589934592, 8GiB or 500MB")
    number = int(found[1]) if found[1].isdecimal() else float(found[1])  # a float holds 53 bits
    return int(number * _BYTES[(found[2] or "").lower()])


def write_size(size: int) -> str:
    """Bytes in the largest binary unit that divides them: ``8GiB``, ``1536MiB``, ``1000``."""
    for unit in ("ti", "gi", "mi", "ki"):
        if size and size % _BYTES[unit] == 0:
            return f"{size // _BYTES[unit]}{unit.capitalize()}B"
    return str(size)
