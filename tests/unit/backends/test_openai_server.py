"""What servers of OpenAI's API, vLLM first, can do beyond it, and what becomes of those that cannot."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from tests.unit.backends.test_probes import Answer, Said, Way, far

from localmodels.backends.http import Http, Reply
from localmodels.backends.remote import OpenAIServer
from localmodels.core.chat import ChatRequest, EmbedRequest, Message, Text, fold
from localmodels.core.errors import (
    ContextLengthExceeded,
    InvalidRequest,
    LocalModelsError,
    ModelNotFound,
    Unauthenticated,
    Unavailable,
    Unsupported,
)
from localmodels.core.options import Options
from localmodels.dialects.failures import read_error
from localmodels.dialects.openai import OpenAI

T = TypeVar("T")

CHAT = ChatRequest("m", (Message("user", (Text("Hello"),)),))
EMBED = EmbedRequest("m", ("long",), single=True)
TOO_LONG = (
    b'{"error": {"message": "This model\'s maximum context length is 512 tokens. However, your prompt contains at least'
    b' 513 input tokens, which exceeds this limit.", "type": "BadRequestError", "param": "input_tokens", "code": 400}}'
)
SAID = (
    b'data: {"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":"stop","stop_reason":"on"}]}\n\n'
    b"data: [DONE]\n\n"
)
WIRE = Path(__file__).parents[2] / "wire/vllm"
VECTOR = {"data": [{"embedding": [1.0, 2.0], "index": 0}], "usage": {"prompt_tokens": 512}}


class Refusing(Way):
    """One whose answers may have a status of their own."""

    def __init__(self, *answers: tuple[int, bytes]) -> None:
        super().__init__()
        self.left = list(answers)
        self.bodies: list[dict[str, Any]] = []

    async def open(self, method: str, path: str, body: bytes | None) -> Reply:
        self.asked.append(path)
        self.bodies.append(json.loads(body or b"{}"))
        said = Said(*self.left.pop(0))
        said.content_type = "text/event-stream" if self.bodies[-1].get("stream") else said.content_type
        return said


def server(way: Way) -> OpenAIServer:
    return OpenAIServer(Http(way, read_error), OpenAI())


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def answering(status: int, answer: Answer = b"{}") -> Refusing:
    return Refusing((status, answer if isinstance(answer, bytes) else json.dumps(answer).encode()))


def test_servers_of_this_kind_are_this() -> None:
    assert isinstance(far("openai", Way()).backend, OpenAIServer)


def test_it_counts_a_conversation_as_a_chat_would_send_it() -> None:
    way = answering(200, {"count": 15, "max_model_len": 2048, "tokens": [1, 2]})
    assert run(server(way).count(CHAT)) == 15
    assert way.asked == ["/tokenize"]
    assert way.bodies == [{"model": "m", "messages": [{"role": "user", "content": "Hello"}], "stream": False}]


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (404, b'{"detail":"Not Found"}'),
        (405, b"{}"),
        (403, b"{}"),
        (200, b"<html>"),
        (200, b'{"tokens": [1]}'),
        (400, b'{"error":"content is required"}'),
        (422, b"{}"),
    ],
)
def test_who_does_not_count_is_not_asked_for_more(status: int, answer: bytes) -> None:
    with pytest.raises(Unsupported, match="counted by nobody but its server"):
        run(server(answering(status, answer)).count(CHAT))


@pytest.mark.parametrize(
    ("status", "answer", "kind"),
    [
        (401, b'{"error":"Unauthorized"}', Unauthenticated),
        (503, b"{}", Unavailable),
        (404, b'{"error":{"message":"The model `m` does not exist.","code":404}}', ModelNotFound),
    ],
)
def test_who_could_count_and_fails_says_why(status: int, answer: bytes, kind: type[LocalModelsError]) -> None:
    with pytest.raises(kind):
        run(server(answering(status, answer)).count(CHAT))


def test_what_is_too_long_for_a_vector_is_cut_there() -> None:
    way = Refusing((400, TOO_LONG), (200, json.dumps(VECTOR).encode()))
    assert run(server(way).embed(EMBED)).vectors == ((1.0, 2.0),)
    assert [body.get("truncate_prompt_tokens") for body in way.bodies] == [None, -1]
    assert way.bodies[1] == {**way.bodies[0], "truncate_prompt_tokens": -1}


def test_and_is_refused_where_it_may_not_or_cannot_be_cut() -> None:
    whole = answering(400, TOO_LONG)
    with pytest.raises(ContextLengthExceeded):
        run(server(whole).embed(EmbedRequest("m", ("long",), single=True, truncate=False)))
    assert len(whole.bodies) == 1
    strict = Refusing((400, TOO_LONG), (400, b'{"error":{"message":"Unrecognized request argument supplied"}}'))
    with pytest.raises(ContextLengthExceeded, match="512 tokens"):
        run(server(strict).embed(EMBED))


def test_the_text_that_ended_an_answer_is_told_if_the_caller_named_it() -> None:
    async def stop(*stops: str) -> str:
        asked = ChatRequest("m", CHAT.messages, options=Options(stop=stops))
        return (await fold(server(Refusing((200, SAID))).chat(asked))).done.stop

    assert run(stop("on", "off")) == "on"
    assert run(stop("off")) == ""
    assert run(stop()) == ""


def test_a_limit_beyond_the_context_is_none() -> None:
    refusal = (WIRE / "error-max-tokens.json").read_bytes()
    asked = ChatRequest("m", CHAT.messages, options=Options(num_predict=99_999, temperature=0.0))
    way = Refusing((400, refusal), (200, SAID))
    assert run(fold(server(way).chat(asked))).text == "Hi"
    assert [body.get("max_tokens") for body in way.bodies] == [99_999, None]
    assert way.bodies[1] == {name: value for name, value in way.bodies[0].items() if name != "max_tokens"}
    other = answering(400, b'{"error":{"message":"max_tokens must be at least 1","code":400}}')
    with pytest.raises(InvalidRequest, match="at least 1"):
        run(fold(server(other).chat(asked)))
