"""Reranking, at the addresses where clients of Jina, Cohere, vLLM, llama.cpp and Ollama look for it."""

from __future__ import annotations

from collections.abc import Callable
from time import time_ns
from uuid import uuid4

from msgspec.structs import replace
from starlette.types import Scope

from localmodels.core.rerank import Ranking
from localmodels.dialects import rerank
from localmodels.dialects.protocol import Stamp
from localmodels.flows.answering.rerank import Ranker
from localmodels.server.inference import Reply, WholeRoute, decoded
from localmodels.server.parts import Parts
from localmodels.server.routes import OLLAMA_PREFIX, Row
from localmodels.server.wire import visit_of

DOC = "Puts texts in the order in which they answer a question."
OPERATION = "rerank"

Write = Callable[[Stamp, rerank.Question, Ranking], bytes]


def rows(parts: Parts) -> tuple[Row, ...]:
    """All of them."""
    usual = WholeRoute(reply(parts.ranker, rerank.write_answer))
    figures = WholeRoute(reply(parts.ranker, rerank.write_ollama_answer))
    ollama = Row(("POST",), "/api/rerank", "ollama", DOC, figures, OPERATION)
    return (
        Row(("POST",), "/v1/rerank", "openai", DOC, usual, OPERATION),
        Row(("POST",), "/v2/rerank", "plain", DOC, usual, OPERATION),
        Row(("POST",), "/rerank", "plain", DOC, usual, OPERATION),
        ollama,
        replace(ollama, path=OLLAMA_PREFIX + ollama.path),
    )


def reply(ranker: Ranker, write: Write) -> Reply:
    """Answers a question in one form."""

    async def reply(scope: Scope, body: bytes) -> bytes:
        asked = await decoded(rerank.read, body)
        visit = visit_of(scope)
        ranking = await ranker.rank(asked.request, visit)
        stamp = Stamp(f"rerank-{uuid4().hex}", visit.named(asked.request.model), time_ns())
        return write(stamp, asked, ranking)

    return reply
