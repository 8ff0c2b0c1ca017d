"""Texts in the order in which they answer a question: what is asked of a reranker, and what comes back."""

from __future__ import annotations

from msgspec import Struct

from localmodels.core.chat import Timings
from localmodels.core.options import NO_OPTIONS, Options


class RerankRequest(Struct, frozen=True):
    """A question, and the texts to be put in order by how well they answer it.

    Attributes:
        model: the name as the caller wrote it; empty where he leaves it to us.
        top_n: so many of the best are wanted; None for all.
        most_tokens: of one document; what is longer is cut at its end. None where only the model's context counts.
        truncate: may a document be cut that does not fit the context?
        raw: scores as the model gives them, not brought between 0 and 1.
        keep_alive: as in :class:`~localmodels.core.chat.ChatRequest`.
    """

    model: str
    query: str
    documents: tuple[str, ...]
    top_n: int | None = None
    most_tokens: int | None = None
    truncate: bool = True
    raw: bool = False
    options: Options = NO_OPTIONS
    keep_alive: float | None = None


class Ranked(Struct, frozen=True):
    """A document, by its place in the request, and how well it answers: more is better."""

    index: int
    score: float


class Ranking(Struct, frozen=True):
    """The documents that were wanted, the best first."""

    results: tuple[Ranked, ...]
    prompt_tokens: int = 0
    timings: Timings = Timings()


def ranked(scores: tuple[Ranked, ...], top_n: int | None) -> tuple[Ranked, ...]:
    """The best, the best first; of equal ones the earlier."""
    return tuple(sorted(scores, key=lambda one: (-one.score, one.index))[:top_n])
