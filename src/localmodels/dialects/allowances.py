"""What an answer's head tells of the caller's limits, in the words that each API's clients look for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import ceil
from time import time_ns
from typing import Protocol

from localmodels.core.errors import LocalModelsError, QuotaExceeded, RateLimited
from localmodels.core.moment import rfc3339

Headers = Iterator[tuple[bytes, bytes]]


class Level(Protocol):
    """What may be used in a minute, what is left of it, and the seconds until all of it is there again."""

    @property
    def limit(self) -> int: ...

    @property
    def remaining(self) -> int: ...

    @property
    def reset(self) -> float: ...


class Standing(Protocol):
    """Of requests and of tokens; None without a limit."""

    @property
    def requests(self) -> Level | None: ...

    @property
    def tokens(self) -> Level | None: ...


def write_standing(dialect: str, standing: Standing | None, error: LocalModelsError | None = None) -> Headers:
    """The headers.

    Args:
        dialect: in which was asked.
        standing: what the caller has left; None without limits.
        error: why the request is refused, if it is.
    """
    if standing is not None:
        words = _WORDS.get(dialect, _openai)
        for name, level in (("requests", standing.requests), ("tokens", standing.tokens)):
            if level is not None:
                yield from words(name, level)
    if isinstance(error, QuotaExceeded):
        yield b"x-should-retry", b"false"  # OpenAI's and Anthropic's clients would, twice
    elif isinstance(error, RateLimited) and error.retry_after is not None:
        yield b"retry-after-ms", str(ceil(error.retry_after * 1000)).encode()


def _openai(name: str, level: Level) -> Headers:
    yield f"x-ratelimit-limit-{name}".encode(), str(level.limit).encode()
    yield f"x-ratelimit-remaining-{name}".encode(), str(level.remaining).encode()
    yield f"x-ratelimit-reset-{name}".encode(), go_duration(level.reset).encode()


def _anthropic(name: str, level: Level) -> Headers:
    # A moment in whole seconds, as Anthropic writes it; rounded up, since before it there is less.
    moment = ceil((time_ns() + level.reset * 1e9) / 1e9) * 10**9
    yield f"anthropic-ratelimit-{name}-limit".encode(), str(level.limit).encode()
    yield f"anthropic-ratelimit-{name}-remaining".encode(), str(level.remaining).encode()
    yield f"anthropic-ratelimit-{name}-reset".encode(), f"{rfc3339(moment).partition('.')[0]}Z".encode()


_WORDS: Mapping[str, Callable[[str, Level], Headers]] = {"openai": _openai, "anthropic": _anthropic}


def go_duration(seconds: float) -> str:
    """``12ms``, ``1s``, ``6m0s``: as OpenAI writes them; rounded up to what is written."""
    if seconds < 1:
        return f"{ceil(seconds * 1000)}ms" if ceil(seconds * 1000) < 1000 else "1s"
    minutes, rest = divmod(ceil(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
