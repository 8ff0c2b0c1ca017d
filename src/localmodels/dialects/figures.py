"""What a server tells in figures: tokens, durations, bytes of progress; believed as far as they can be true.

The one rule: what another program counts becomes our ``Usage`` or ``Timings`` here and nowhere else, so that no figure
that cannot be true reaches the books, a quota, a metric or a caller. What is not believed is not known.
"""

from __future__ import annotations

from localmodels.core.chat import Timings, Usage
from localmodels.core.errors import Garbled

# Fits every column and every counter, and is two hundred times the largest context that there is.
MOST_TOKENS = 2**31 - 1
# What JSON's numbers hold exactly: 104 days, and 9 petabytes.
MOST_NANOSECONDS = MOST_BYTES = 2**53


def tokens(told: int | None) -> int:
    """So many; 0 where it is not said, or cannot be."""
    return told if told is not None and 0 <= told <= MOST_TOKENS else 0


def together(*parts: int | None) -> int:
    """The sum of what is counted in several places, of which one may not be said; -1 where one cannot be true."""
    return sum(part or 0 for part in parts) if all((part or 0) == tokens(part) for part in parts) else -1


def counted(told: int) -> int:
    """How long something is, where that is the whole answer.

    Raises:
        Garbled: nothing is as long.
    """
    if told != tokens(told):
        raise Garbled("the server's count of tokens is none: it is not between 0 and 2147483647")
    return told


def usage(prompt: int | None, completion: int | None, cached: int | None = 0, reasoning: int | None = None) -> Usage:
    """Tokens of one answer.

    ``cached`` are some of the prompt's, so there are never more; not everywhere are ``reasoning`` some of the others.
    """
    whole, made, part = tokens(prompt), tokens(completion), tokens(cached)
    thought = reasoning if reasoning == tokens(reasoning) else None
    sound = whole == (prompt or 0) and made == (completion or 0)
    return Usage(whole, made, part if part <= whole else 0, thought, sound)


def size(told: int) -> int:
    """Bytes; 0, which is not known, where there cannot be as many."""
    return told if 0 <= told <= MOST_BYTES else 0


def nanoseconds(told: int | None) -> int:
    """So many; 0 where it is not said, or cannot be."""
    return told if told is not None and 0 <= told <= MOST_NANOSECONDS else 0


def milliseconds(told: float | None) -> int:
    """So many, in nanoseconds; 0 where it is not said, or cannot be."""
    return round(told * 1e6) if told is not None and 0 <= told <= MOST_NANOSECONDS / 1e6 else 0


def timings(
    total: int | None = 0,
    load: int | None = 0,
    prompt_eval: int | None = 0,
    eval: int | None = 0,  # noqa: A002 - Ollama's word
) -> Timings:
    """Durations of one answer, from nanoseconds."""
    return Timings(nanoseconds(total), nanoseconds(load), nanoseconds(prompt_eval), nanoseconds(eval))
