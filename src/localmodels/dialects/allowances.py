"""What an answer's head tells of the caller's limits, in the words that each API's clients look for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import ceil

from localmodels.core.access import Level, Standing
from localmodels.core.errors import LocalModelsError, QuotaExceeded, RateLimited
from localmodels.core.moment import rfc3339

Headers = Iterator[tuple[bytes, bytes]]


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
    if standing is not None:
        for name, level in (("requests", standing.requests), ("tokens", standing.tokens)):
            if level is not None:
                yield from write_level(name, level, now)
    if isinstance(error, QuotaExceeded):
        yield b"x-should-retry", b"false"  # OpenAI's and Anthropic's clients would, twice
    elif isinstance(error, RateLimited) and error.retry_after is not None:
        yield b"retry-after-ms", str(ceil(error.retry_after * 1000)).encode()


def openai_level(name: str, level: Level, now: int) -> Headers:
    """In OpenAI's words, which say how long."""
    yield f"x-ratelimit-limit-{name}".encode(), str(level.limit).encode()
    yield f"x-ratelimit-remaining-{name}".encode(), str(level.remaining).encode()
    yield f"x-ratelimit-reset-{name}".encode(), go_duration(level.reset).encode()


def anthropic_level(name: str, level: Level, now: int) -> Headers:
    """In Anthropic's, which say when."""
    # A moment in whole seconds, as Anthropic writes it; rounded up, since before it there is less.
    moment = ceil((now + level.reset * 1e9) / 1e9) * 10**9
    yield f"anthropic-ratelimit-{name}-limit".encode(), str(level.limit).encode()
    yield f"anthropic-ratelimit-{name}-remaining".encode(), str(level.remaining).encode()
    yield f"anthropic-ratelimit-{name}-reset".encode(), f"{rfc3339(moment).partition('.')[0]}Z".encode()


def go_duration(seconds: float) -> str:
    """``12ms``, ``1s``, ``6m0s``: as OpenAI writes them; rounded up to what is written."""
    if seconds < 1:
        return f"{ceil(seconds * 1000)}ms" if ceil(seconds * 1000) < 1000 else "1s"
    minutes, rest = divmod(ceil(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
