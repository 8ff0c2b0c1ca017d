"""What an answer's head tells of the caller's limits, in the words that each API's clients look for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import ceil

from localmodels.core.access import Level, Standing
from localmodels.core.errors import LocalModelsError, QuotaExceeded, RateLimited
from localmodels.core.moment import rfc3339

Headers = Sequence[tuple[bytes, bytes]]


WriteLevel = Callable[[str, Level, int], Headers]


def write_standing(
    write_level: WriteLevel, standing: Standing | None, error: LocalModelsError | None, now: int
) -> Headers:
    """The headers.

    Args:
        write_level: of the dialect in which was asked.
        standing: what the caller has left; None without limits.
        error: why the request is refused, if it is.
        now: nanoseconds since 1970, UTC.
    """
    told: list[tuple[bytes, bytes]] = []
    if standing is not None:
        if standing.requests is not None:
            told += write_level("requests", standing.requests, now)
        if standing.tokens is not None:
            told += write_level("tokens", standing.tokens, now)
    if isinstance(error, QuotaExceeded):
        told.append((b"x-should-retry", b"false"))  # OpenAI's and Anthropic's clients would, twice
    elif isinstance(error, RateLimited) and error.retry_after is not None:
        told.append((b"retry-after-ms", b"%d" % ceil(error.retry_after * 1000)))
    return told


# What is limited, and the headers that say it: they go with every answer to a key that has limits.
_OPENAI: Mapping[str, tuple[bytes, bytes, bytes]] = {
    "requests": (b"x-ratelimit-limit-requests", b"x-ratelimit-remaining-requests", b"x-ratelimit-reset-requests"),
    "tokens": (b"x-ratelimit-limit-tokens", b"x-ratelimit-remaining-tokens", b"x-ratelimit-reset-tokens"),
}


def openai_level(name: str, level: Level, now: int) -> Headers:
    """In OpenAI's words, which say how long."""
    limit, remaining, reset = _OPENAI[name]
    return (
        (limit, b"%d" % level.limit),
        (remaining, b"%d" % level.remaining),
        (reset, go_duration(level.reset).encode()),
    )


def anthropic_level(name: str, level: Level, now: int) -> Headers:
    """In Anthropic's, which say when."""
    head = f"anthropic-ratelimit-{name}-".encode()
    # A moment in whole seconds, as Anthropic writes it; rounded up, since before it there is less.
    moment = ceil((now + level.reset * 1e9) / 1e9) * 10**9
    return (
        (head + b"limit", b"%d" % level.limit),
        (head + b"remaining", b"%d" % level.remaining),
        (head + b"reset", f"{rfc3339(moment).partition('.')[0]}Z".encode()),
    )


def go_duration(seconds: float) -> str:
    """``12ms``, ``1s``, ``6m0s``: as OpenAI writes them; rounded up to what is written."""
    if seconds < 1:
        return f"{ceil(seconds * 1000)}ms" if ceil(seconds * 1000) < 1000 else "1s"
    minutes, rest = divmod(ceil(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
