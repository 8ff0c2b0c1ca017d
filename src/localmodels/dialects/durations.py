"""How long a model stays loaded, as callers write it: a number of seconds, or one of Go's durations.

Ollama's rule: a number is seconds, a text is a duration, anything negative is for ever. What was sent without need of a
unit is sent on as a number, which loses nothing.
"""

from __future__ import annotations

from math import isfinite

from localmodels.core.errors import InvalidValue
from localmodels.core.quantity import parse_duration

# Thirty years: what is meant to be longer is meant to be for ever, and says so with -1.
LONGEST = 1e9


def read_keep_alive(value: float | str | None, *, param: str = "keep_alive") -> float | None:
    """Seconds; negative is for ever, None is the server's default.

    Raises:
        InvalidValue: not a duration, or longer than thirty years.
    """
    if value is None or value == "":
        return None
    try:
        seconds = parse_duration(value) if isinstance(value, str) else float(value)
    except InvalidValue as error:
        raise InvalidValue(f"{param}: {error.message}", param=param) from error
    if not isfinite(seconds) or seconds > LONGEST:
        raise InvalidValue(f"{param} must be at most {LONGEST:g} seconds; -1 keeps the model for ever", param=param)
    return seconds


def write_keep_alive(seconds: float | None) -> float | None:
    """The same as a number, whole where it is whole."""
    return int(seconds) if seconds is not None and float(seconds).is_integer() else seconds
