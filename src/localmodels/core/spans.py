"""Which bytes of something are there: half-open spans, and their arithmetic."""

from __future__ import annotations

from collections.abc import Iterable

Span = tuple[int, int]
"""From the first byte to before the second."""


def merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    """The same bytes in as few spans as can be, in order."""
    result: list[Span] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((start, end))
    return tuple(result)


def gaps(spans: Iterable[Span], size: int) -> tuple[Span, ...]:
    """What of the first ``size`` bytes is in none of the spans, in order."""
    result: list[Span] = []
    at = 0
    for start, end in (*merged(spans), (size, size)):
        if at < min(start, size):
            result.append((at, min(start, size)))
        at = max(at, end)
    return tuple(result)
