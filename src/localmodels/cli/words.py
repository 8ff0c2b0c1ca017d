"""Sizes, times and places in memory, in the words in which tables show them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime

from localmodels.core.catalog import Running
from localmodels.core.errors import LocalModelsError
from localmodels.core.library import Progress

_SIZES = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "KB"))
_SPANS = (
    (31_557_600, "year"),
    (2_629_800, "month"),
    (604_800, "week"),
    (86_400, "day"),
    (3600, "hour"),
    (60, "minute"),
    (1, "second"),
)
# What people call for ever, in tables; the server says a date in a far century.
FOREVER = 50 * 31_557_600

# Control characters of a model's or a server's text could move the cursor, retitle the window or fill the clipboard.
_CONTROLS = {code: "\N{REPLACEMENT CHARACTER}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


def printable(text: str) -> str:
    """The text without what a terminal would obey instead of show."""
    return text.translate(_CONTROLS)


# What would make a second line of a text, or turn the rest of a line round: a line of another server could be forged.
_BREAKS = {
    **_CONTROLS,
    **dict.fromkeys(map(ord, "\n\t\N{LINE SEPARATOR}\N{PARAGRAPH SEPARATOR}"), " "),
    **dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A)), "\N{REPLACEMENT CHARACTER}"),
}


def one_line(text: str) -> str:
    """The same, of a text that shall stay one line and be read as it is written."""
    return text.translate(_BREAKS)


# What a server, which knows no command line, calls what has a flag here. Whole sentences come first.
_FLAGS: Mapping[str, str] = {
    "send it as `Authorization: Bearer KEY` or as `x-api-key: KEY`": "set LOCALMODELS_API_KEY",
    "say key too, the one for the new address or an empty one": "say --key-env, --key-file or --no-key too",
    "is_active false": "--inactive",
    "drop /v1, or say kind openai": "drop /v1, or say --kind openai",
    "manage it there": "manage it there, or from here by its name without the server's, and --server",
    "`server`": "--server",
    "api_version": "--api-version",
    "first_byte": "--first-byte",
    "is_active": "--active",
    "is_default": "--default",
    "max_concurrent": "--max-concurrent",
    "max_queue": "--max-queue",
    "requests_per_minute": "--requests-per-minute",
    "token_quota": "--quota",
    "tokens_per_minute": "--tokens-per-minute",
}
_FIELD = re.compile(rf"(?<![\w/.'-])(?:{'|'.join(map(re.escape, _FLAGS))})(?![\w/.'-])")


def complaint(error: Exception | str) -> str:
    """The line that says an error; servers' words are in it, and for what has a flag the flag.

    >>> complaint(LocalModelsError("max_queue must be a whole number")).strip()
    'Error: --max-queue must be a whole number'
    """
    text = str(error)
    if isinstance(error, LocalModelsError):
        text = _FIELD.sub(lambda found: _FLAGS[found[0]], text)
    return f"Error: {printable(text)}\n"


def size(count: int) -> str:
    """Bytes in decimal units, as disks are sold: ``4.7 GB``, ``12 MB``."""
    for unit, word in _SIZES:
        if count >= unit:
            value = count / unit
            return f"{value:.0f} {word}" if value >= 10 else f"{value:.1f} {word}"
    return f"{count} B"


# Ollama's clients want a size, a digest and a day of every model; these stand for what nobody has told.
_NO_DIGEST, _NO_DAY = "0" * 12, "1970-01-01"  # dialects.listing, dialects.offered


def known_size(count: int) -> str:
    """As :func:`size`; empty for 0, which no model has."""
    return size(count) if count else ""


def digest(whole: str) -> str:
    """As much of it as tells models apart; empty for one that nobody has told."""
    short = whole[: len(_NO_DIGEST)]
    return "" if short == _NO_DIGEST else short


def ago(moment: str, now: datetime) -> str:
    """``3 weeks ago``; empty for what is no moment, and for the beginning of all."""
    then = None if moment.startswith(_NO_DAY) else _moment(moment)
    return "" if then is None else f"{span((now - then).total_seconds())} ago"


def until(moment: str, now: datetime) -> str:
    """``4 minutes from now``, ``forever``; empty for what is no moment."""
    then = _moment(moment)
    if then is None:
        return ""
    left = (then - now).total_seconds()
    if left >= FOREVER:
        return "forever"
    return f"{span(left)} from now" if left > 0 else "now"


def _moment(text: str) -> datetime | None:
    """As servers write it; they may say anything, and what names no time zone is none."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else None


def span(seconds: float) -> str:
    """``1 minute``, ``3 weeks``: the largest unit that fits, rounded down."""
    for unit, word in _SPANS:
        if seconds >= unit:
            count = int(seconds // unit)
            return f"{count} {word}" if count == 1 else f"{count} {word}s"
    return "less than a second"


def step(row: Progress) -> str:
    """What a step is, with the server that does it where several do, and why that does no more: one line."""
    told = f"{row.status}: {row.failure}" if row.failure else row.status
    return one_line(f"{row.server}: {told}" if row.server else told)


def processor(row: Running) -> str:
    """Where a model lies: ``100% CPU``, ``100% GPU`` or ``40%/60% CPU/GPU``; empty where its size is not known."""
    if not row.size:
        return ""
    share = round(100 * min(row.size_vram, row.size) / row.size)
    if share in {0, 100}:
        return "100% GPU" if share else "100% CPU"
    return f"{100 - share}%/{share}% CPU/GPU"


def state(row: Running, now: datetime) -> str:
    """Until when a model stays, or what happens to it now."""
    return until(row.expires_at, now) if row.status == "running" else row.status
