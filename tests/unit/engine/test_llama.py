"""What a runner is asked, and what is done to its answers before they are handed on."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import msgspec
import pytest
from msgspec import Struct

from localmodels.backends.http import Http
from localmodels.core.chat import (
    ChatRequest,
    Chunk,
    Done,
    Embeddings,
    GenerateRequest,
    Message,
    Text,
    Timings,
    Usage,
)
from localmodels.core.errors import Garbled, InvalidValue
from localmodels.dialects.llamacpp import LlamaCpp
from localmodels.engine.live import LiveRunner
from localmodels.engine.llama import LONG_PROMPT, LlamaBackend, first_dimensions, with_reading
from localmodels.engine.seats import Seats

VECTORS = Embeddings(((0.6, 0.0, 0.8), (0.0, 0.0, 1.0)), prompt_tokens=7)


def test_shortened_vectors_have_length_one_again() -> None:
    assert first_dimensions(VECTORS, 2) == Embeddings(((1.0, 0.0), (0.0, 0.0)), prompt_tokens=7)


def test_nothing_is_done_unless_asked() -> None:
    assert first_dimensions(VECTORS, None) is VECTORS
    assert first_dimensions(Embeddings(()), 5) == Embeddings(())


def test_more_dimensions_than_there_are_cannot_be_had() -> None:
    with pytest.raises(InvalidValue, match="at most 3"):
        first_dimensions(VECTORS, 4)


def test_a_prompt_that_was_read_a_moment_ago_for_the_same_request_was_in_no_cache() -> None:
    ahead = Done(usage=Usage(900, 0, 40), timings=Timings(prompt_eval=7_000))
    end = Done(usage=Usage(900, 12, 899), timings=Timings(total=9_000, prompt_eval=5, eval=80))
    told = with_reading(end, ahead)
    assert told == Done(usage=Usage(900, 12, 40), timings=Timings(total=9_000, prompt_eval=7_005, eval=80))
    assert with_reading(Chunk("so"), ahead) == Chunk("so")
    assert with_reading(Chunk(prompt=Usage(900, 0, 899)), ahead) == Chunk(prompt=Usage(900, 0, 40))


class Engine:
    """Hears a request and answers nothing."""

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []

    async def open(self, method: str, path: str, body: bytes | None) -> Any:
        self.heard.append(msgspec.json.decode(body or b"{}"))
        raise Garbled("enough was heard")

    async def close(self) -> None:
        """There is nothing to close."""


class Runner(Struct):
    """As much of a runner as a request needs that is never answered."""

    http: Http
    seats: Seats
    dialect: LlamaCpp


def asked(request: ChatRequest | GenerateRequest) -> dict[str, Any]:
    """What the engine hears of a request."""
    engine, dialect = Engine(), LlamaCpp()

    async def main() -> None:
        http = Http(engine, dialect.read_error)
        backend = LlamaBackend(cast("LiveRunner", Runner(http, Seats(http, 1, "nowhere"), dialect)), "one")
        stream = backend.chat(request) if isinstance(request, ChatRequest) else backend.generate(request)
        with pytest.raises(Garbled):
            await anext(stream)

    asyncio.run(main())
    (body,) = engine.heard
    return body


@pytest.mark.parametrize("long", [True, False])
def test_while_a_long_prompt_is_read_the_engine_looks_for_who_asked(long: bool) -> None:
    """llama.cpp notices a departure only where it has something to send: with ``return_progress`` after each batch."""
    text = "a" * (LONG_PROMPT + 1 if long else LONG_PROMPT // 4)
    for request in (ChatRequest("m", (Message("user", (Text(text),)),)), GenerateRequest("m", text)):
        assert asked(request).get("return_progress", False) is long
