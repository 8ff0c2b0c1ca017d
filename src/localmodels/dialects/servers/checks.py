"""What a server's description may hold, field by field: each check gives the value, or says what would be right."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_args

from localmodels.core.errors import InvalidValue
from localmodels.core.fleet import LOCAL
from localmodels.core.quantity import parse_duration
from localmodels.core.secrets import Secret
from localmodels.core.servers import DAY, KEY, MOST_PLACES, SERVER_NAME, ServerKind

MOST_PRIORITY = 1_000
LEAST_WEIGHT, MOST_WEIGHT = 0.001, 1_000.0
MOST_CAPABILITIES, MOST_CAPABILITY = 32, 64
MOST_DESCRIPTION, MOST_URL = 2_000, 2_048
MOST_MODEL_NAME = 300

_KINDS = get_args(ServerKind)
_API_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
# What no line of text for people holds: control characters, and what turns the direction of writing.
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def _name(field: str, text: str) -> str:
    if not SERVER_NAME.fullmatch(text):
        right = "1 to 64 letters, digits, spaces and . _ - that begin and end with a letter or digit"
        raise InvalidValue(f"{field} must be {right}, and {text[:40]!r} is not", param=field)
    return text


def model_name(field: str, text: str) -> str:
    """A model's name for people."""
    if not text.strip() or len(text) > MOST_MODEL_NAME or _UNSEEN.search(text):
        raise InvalidValue(f"{field} must be 1 to {MOST_MODEL_NAME} characters in one line", param=field)
    return text


def _url(field: str, text: str) -> str:
    if not text or len(text) > MOST_URL:
        raise InvalidValue(f"{field} must be http://HOST:PORT or https://HOST, of at most {MOST_URL:,} characters",
                           param=field)  # fmt: skip
    return text


def _api_version(field: str, text: str) -> str:
    if not _API_VERSION.fullmatch(text):
        raise InvalidValue(f"{field} must be 1 to 32 letters, digits and . _ -, such as v1", param=field)
    return text


def _kind(field: str, text: str) -> str:
    if text == LOCAL:
        raise InvalidValue(f"{field} '{LOCAL}' is this program's own engine, which is registered already", param=field)
    return _one_of(field, text, _KINDS)


def _one_of(field: str, text: str, words: Iterable[str]) -> str:
    if text not in words:
        raise InvalidValue(f"{field} must be one of {', '.join(words)}, not {text[:40]!r}", param=field)
    return text


def _description(field: str, text: str) -> str:
    if len(text) > MOST_DESCRIPTION:
        raise InvalidValue(f"{field} takes at most {MOST_DESCRIPTION:,} characters, not {len(text):,}", param=field)
    return text


def _capabilities(field: str, words: tuple[str, ...]) -> tuple[str, ...]:
    if len(words) > MOST_CAPABILITIES:
        raise InvalidValue(f"{field} takes at most {MOST_CAPABILITIES} words, not {len(words)}", param=field)
    for word in words:
        if not word or word != word.strip() or len(word) > MOST_CAPABILITY or _UNSEEN.search(word):
            right = f"words of 1 to {MOST_CAPABILITY} characters, such as general or code"
            raise InvalidValue(f"{field} must be {right}, and {word[:40]!r} is none", param=field)
    return tuple(dict.fromkeys(words))


def _whole(low: int, high: int) -> Callable[[str, int], int]:
    def check(field: str, number: int) -> int:
        if not low <= number <= high:
            raise InvalidValue(f"{field} must be a whole number from {low} to {high}, not {number}", param=field)
        return number

    return check


def _weight(field: str, number: float) -> float:
    if not LEAST_WEIGHT <= number <= MOST_WEIGHT:
        raise InvalidValue(f"{field} must be from {LEAST_WEIGHT:g} to {MOST_WEIGHT:g}, not {number:g}", param=field)
    return float(number)


def _seconds(field: str, value: float | str) -> float:
    try:
        seconds = parse_duration(value) if isinstance(value, str) else float(value)
    except InvalidValue:
        seconds = 0.0
    if not 0 < seconds <= DAY:
        right = "seconds, or a duration such as 30s or 5m, of at most a day"
        raise InvalidValue(f"{field} must be {right}, not {str(value)[:40]!r}", param=field)
    return seconds


def read_key(text: str) -> Secret:
    """A key, which no message repeats; empty for none."""
    if text and not KEY.fullmatch(text):
        raise InvalidValue("key must be at most 4,096 visible ASCII characters without spaces", param="key")
    return Secret(text)


def _as_it_is(field: str, value: Any) -> Any:
    return value


CHECKS: Mapping[str, Callable[[str, Any], Any]] = {
    "name": _name,
    "url": _url,
    "api_version": _api_version,
    "kind": _kind,
    "description": _description,
    "capabilities": _capabilities,
    "max_concurrent": _whole(1, MOST_PLACES),
    "max_queue": _whole(0, MOST_PLACES),
    "priority": _whole(-MOST_PRIORITY, MOST_PRIORITY),
    "weight": _weight,
    "is_default": _as_it_is,
    "is_active": _as_it_is,
    "first_byte": _seconds,
    "idle": _seconds,
}
