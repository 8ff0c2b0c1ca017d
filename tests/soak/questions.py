"""Requests that models answer, in every dialect, whole and as streams."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from random import Random
from typing import Any

from msgspec import Struct
from tests.soak.client import Request, asking
from tests.soak.faults import BEHAVIOURS, Behaviour

HI = [{"role": "user", "content": "What is there to say? "}]
FAR = ("far-openai", "far-ollama", "far-anthropic", "far-llamacpp")
OURS = "localmodels"  # the built-in model, on a runner
FEW = 4  # tokens of its answers


class Way(Struct, frozen=True):
    """A way to ask: ``few`` are the fields that keep the answer short; a plain text has no place at some servers;
    ``says`` are the outcomes that are others there."""

    path: str
    question: Mapping[str, Any]
    few: Mapping[str, Any]
    servers: Sequence[str] = FAR
    says: Mapping[str, str] = {}


WAYS: Sequence[Way] = (
    Way("/api/chat", {"messages": HI}, {"options": {"num_predict": FEW}}),
    Way("/api/generate", {"prompt": "Once"}, {"options": {"num_predict": FEW}}, FAR[:2]),
    Way("/v1/chat/completions", {"messages": HI}, {"max_tokens": FEW}),
    Way("/v1/completions", {"prompt": "Once"}, {"max_tokens": FEW}, FAR[:2]),
    Way("/v1/messages", {"messages": HI, "max_tokens": 64}, {"max_tokens": FEW}, says={"503": "529"}),
    Way("/v1/responses", {"input": "What?", "store": False}, {"max_output_tokens": FEW}),
)


class Question(Struct, frozen=True):
    """A request, and what may become of it."""

    request: Request
    wanted: frozenset[str]


def question(draw: Random, key: str, name: str, *, stream: bool | None = None, server: str = "") -> Question:
    """A conversation or a text with this model of a server behind ours, asked in any way."""
    way = draw.choice(WAYS)
    stream = draw.random() < 0.5 if stream is None else stream
    at = server or draw.choice(way.servers)
    return asked(way, f"{at}/{name}", key, wanted(way, BEHAVIOURS[name], stream=stream), stream=stream)


def every(key: str) -> Iterator[Question]:
    """Each model behind in each way at each server, whole and as a stream."""
    for way, name, stream in product(WAYS, BEHAVIOURS, (False, True)):
        for at in way.servers:
            yield asked(way, f"{at}/{name}", key, wanted(way, BEHAVIOURS[name], stream=stream), stream=stream)


def asked(way: Way, model: str, key: str, outcomes: frozenset[str], **more: object) -> Question:
    """This model, in this way."""
    return Question(asking(way.path, {"model": model, **way.question, **more}, key), outcomes)


def wanted(way: Way, behaviour: Behaviour, *, stream: bool) -> frozenset[str]:
    """What may become of it; Anthropic has a status of its own for who has no time."""
    outcomes = behaviour.stream if stream else behaviour.whole
    return frozenset(way.says.get(outcome, outcome) for outcome in outcomes)


def own(draw: Random, key: str) -> Question:
    """A few tokens of the built-in model."""
    way = draw.choice(WAYS)
    stream = draw.random() < 0.5
    fields = {"model": OURS, "stream": stream, **way.question, **way.few}
    return Question(asking(way.path, fields, key), frozenset({"200 done" if stream else "200"}))


def vectors(draw: Random, key: str) -> Request:
    """Embeddings or a ranking, by a server behind ours."""
    asked: Sequence[tuple[str, dict[str, Any]]] = (
        ("/api/embed", {"model": "far-ollama/good", "input": ["a", "b"]}),
        ("/v1/embeddings", {"model": "far-openai/good", "input": ["a", "b", "c"]}),
        ("/v1/embeddings", {"model": "far-llamacpp/good", "input": "a"}),
        ("/v1/rerank", {"model": "far-openai/good", "query": "a", "documents": ["b", "c"]}),
        ("/api/rerank", {"model": "far-llamacpp/good", "query": "a", "documents": ["b", "c"]}),
    )
    path, fields = draw.choice(asked)
    return asking(path, fields, key)
