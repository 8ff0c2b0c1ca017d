"""Scores of a reranker's runner: documents that fit beside the question, and numbers between 0 and 1.

llama.cpp asks the model once for each document, as ``tools/server`` of build 11549 does (``format_prompt_rerank``): by
the template that a file brings for this, else question and document with the tokenizer's own marks between them. It
gives back what the model's head says. For Qwen3's rerankers that is a probability already (``llama-graph.cpp``); for
the others, encoders such as BGE's, it is a logit, of which the logistic function makes one, as Jina and Cohere do.
"""

from __future__ import annotations

from math import exp
from typing import Protocol

from msgspec.structs import replace

from localmodels.artifacts.gguf_header import Header
from localmodels.core.errors import ContextLengthExceeded
from localmodels.core.rerank import Ranked, Ranking, RerankRequest, ranked
from localmodels.engine.command import RunnerConfig
from localmodels.engine.memory import WITHOUT_CACHE

PROBABILITIES = frozenset({"qwen3", "qwen3vl"})
TEMPLATE = "tokenizer.chat_template.rerank"
# What the tokenizer puts around and between the two texts, and what a text that was cut may grow when it is read again.
MARKS = 8
_QUERY, _DOCUMENT = "{query}", "{document}"


class Tokens(Protocol):
    """The model's own tokenizer."""

    async def tokenize(self, text: str, *, special: bool = True) -> tuple[int, ...]: ...
    async def detokenize(self, tokens: tuple[int, ...]) -> str: ...


async def fitted(request: RerankRequest, header: Header, config: RunnerConfig, tokens: Tokens) -> RerankRequest:
    """The request with every document as long as the model can read it beside the question.

    Raises:
        ContextLengthExceeded: a document is too long and may not be cut, or the question leaves no room for any.
    """
    template = header.text(TEMPLATE)
    # llama.cpp puts the question into the template first: what stands for the document there would become it.
    query = request.query.replace(_DOCUMENT, "{ document }") if template else request.query
    # An encoder computes all of a text at once; whoever has a cache may do it in parts.
    encoder = header.architecture in WITHOUT_CACHE
    room = (min(config.context, config.ubatch) if encoder else config.context) - MARKS
    frame = template.replace(_QUERY, "").replace(_DOCUMENT, "")
    # No token is shorter than a byte, so nearly all documents need not be counted.
    left = room - len(frame.encode()) - len(query.encode())
    most = left if request.most_tokens is None else min(left, request.most_tokens)
    if all(len(document.encode()) <= most for document in request.documents):
        return replace(request, query=query)
    around = len(await tokens.tokenize(frame + query, special=False))
    if around >= room:
        raise ContextLengthExceeded(around, room)
    documents = tuple([await _fitted(document, around, room, request, tokens) for document in request.documents])
    return replace(request, query=query, documents=documents)


async def _fitted(document: str, around: int, room: int, request: RerankRequest, tokens: Tokens) -> str:
    left = room - around
    most = left if request.most_tokens is None else min(left, request.most_tokens)
    if len(document.encode()) <= most:
        return document
    found = await tokens.tokenize(document, special=False)
    if len(found) > left and not request.truncate:
        raise ContextLengthExceeded(around + len(found), room)
    # A cut may fall into a character of several tokens, of which nothing is left then.
    return document if len(found) <= most else (await tokens.detokenize(found[:most])).rstrip("\ufffd")


def ranking(request: RerankRequest, header: Header, answered: Ranking) -> Ranking:
    """The ranking that was asked for, made of the head's own numbers; they decide the order, which others may blur."""
    results = ranked(answered.results, request.top_n)
    if not request.raw and header.architecture not in PROBABILITIES:
        results = tuple(Ranked(one.index, logistic(one.score)) for one in results)
    return replace(answered, results=results)


def logistic(logit: float) -> float:
    """The probability of which this is the logit; takes any number without overflow."""
    if logit >= 0:
        return 1 / (1 + exp(-logit))
    return exp(logit) / (1 + exp(logit))
