"""Errors of other servers as errors of ours."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.dialects import strategies as some

from localmodels.core import errors
from localmodels.core.errors import (
    BackendError,
    BackendTimeout,
    ContextLengthExceeded,
    Garbled,
    InvalidRequest,
    InvalidValue,
    LocalModelsError,
    ModelNotFound,
    NotFound,
    OutOfMemory,
    RateLimited,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unsupported,
)
from localmodels.dialects.failures import MAX_MESSAGE, in_band, read_error
from localmodels.dialects.table import DIALECTS

ALL = [
    errors.InvalidRequest("a", param="messages"),
    errors.ContextLengthExceeded(5000, 4096),
    errors.Unsupported("a"),
    errors.InvalidValue("a", param="options.top_k"),
    errors.Unauthenticated("a"),
    errors.Forbidden("a"),
    errors.NotFound("a"),
    errors.ModelNotFound("llama3:latest"),
    errors.MethodNotAllowed("a"),
    errors.Conflict("a"),
    errors.TooLarge("a"),
    errors.UnsupportedMedia("a"),
    errors.Misdirected("a"),
    errors.Unavailable("a", retry_after=3.0),
    errors.OutOfMemory(19_756_849_562, 18_253_611_008, retry_after=2.0),
    errors.QueueFull("a", retry_after=1.0),
    errors.ShuttingDown("a"),
    errors.LoopDetected("a"),
    errors.EngineError("a"),
    errors.ModelDamaged("a"),
    errors.LoadFailed("a"),
    errors.RunnerDied("a"),
    errors.BackendError("a"),
    errors.Unreachable("a"),
    errors.BackendTimeout("a"),
    errors.StreamCut("a"),
    errors.Garbled("a"),
]


@pytest.mark.parametrize("error", ALL, ids=lambda error: type(error).__name__)
def test_openai_errors_keep_class_and_message(error: LocalModelsError) -> None:
    read = DIALECTS["openai"].read_error(error.status, DIALECTS["openai"].write_error(error), error.retry_after)
    assert (type(read), read.message, read.retry_after) == (type(error), error.message, error.retry_after)
    assert read.param == error.param


# Ollama's errors are a sentence and a status: of classes that share a status the first one comes back.
OLLAMA_KINDS: dict[int, type[LocalModelsError]] = {500: BackendError, 502: BackendError}


@pytest.mark.parametrize("error", ALL, ids=lambda error: type(error).__name__)
def test_ollama_errors_keep_status_and_message(error: LocalModelsError) -> None:
    read = DIALECTS["ollama"].read_error(error.status, DIALECTS["ollama"].write_error(error), error.retry_after)
    assert read.message == error.message
    assert read.status == (error.status if error.status != 500 else 502)
    assert isinstance(error, type(read)) or isinstance(read, OLLAMA_KINDS[error.status])


def test_figures_come_back() -> None:
    for dialect in DIALECTS.values():
        long = dialect.read_error(400, dialect.write_error(ContextLengthExceeded(5000, 4096)))
        assert isinstance(long, ContextLengthExceeded)
        assert (long.prompt_tokens, long.context_tokens) == (5000, 4096)
        gone = dialect.read_error(404, dialect.write_error(ModelNotFound("a:b")))
        assert isinstance(gone, ModelNotFound)
        assert gone.name == "a:b"


# What versions of vLLM say of what is too long: the largest of the figures is what does not fit.
_SO_LONG = "This model's maximum context length is 2048 tokens"
OF_VLLM = (
    (". However, you requested 2500 tokens (2400 in the messages, 100 in the completion).", "has 2500 tokens"),
    ("; you requested 99 output tokens and your prompt contains 1999 input tokens, 2098 tokens in all.", "2098"),
    (" and your request has 1000 input tokens (1500 > 2048 - 1000).", "the request needs more"),
    (". Your prompt contains 6000 characters (more than 24 characters, at most 2048 input tokens).", "needs more"),
)


@pytest.mark.parametrize(
    ("status", "body", "kind", "says"),
    [
        (404, b'{"error":"model \'x\' not found"}', ModelNotFound, "model 'x' not found"),
        (404, b'{"error":"model \\"x\\" not found, try pulling it first"}', ModelNotFound, "model 'x' not found"),
        (
            404,
            b"{\"error\":\"model 's/x' not found: the server 's' has none\"}",
            ModelNotFound,
            "not found: the server 's' has none",
        ),
        (404, b'{"error":{"message":"model `x` does not exist","code":"model_not_found"}}', ModelNotFound, "'x'"),
        (404, b'{"detail":"Not Found"}', NotFound, "Not Found"),
        (404, b"404 page not found", NotFound, "answered 404"),
        (
            400,
            (
                b'{"error":{"code":400,"message":"request (4011 tokens) exceeds the available context size (2048'
                b' tokens), try increasing it","type":"exceed_context_size_error","n_prompt_tokens":4011,"n_ctx":2048}}'
            ),
            ContextLengthExceeded,
            "2048 tokens, but the prompt has 4011",
        ),
        (
            400,
            (
                b'{"error":{"message":"This model\'s maximum context length is 2048 tokens. However, you requested 2500'
                b' tokens.","type":"BadRequestError","param":null,"code":400}}'
            ),
            ContextLengthExceeded,
            "2048 tokens, but the prompt has 2500",
        ),
        *(
            (400, f'{{"error":{{"message":"{_SO_LONG}{said}","code":400}}}}'.encode(), ContextLengthExceeded, says)
            for said, says in OF_VLLM
        ),
        (400, b'{"error":{"message":"too long","code":"context_length_exceeded"}}', InvalidRequest, "too long"),
        (400, b'{"error":"the input length exceeds the context length"}', InvalidRequest, "input length"),
        (401, b'{"error":{"message":"bad key","code":"invalid_api_key"}}', Unauthenticated, "bad key"),
        (408, b"", BackendTimeout, "answered 408"),
        (413, b"<html>too large</html>", TooLarge, "answered 413"),
        (418, b'{"error":"teapot"}', InvalidRequest, "teapot"),
        (422, b'{"detail":"top_k"}', InvalidValue, "top_k"),
        (429, b'{"error":{"message":"slow down","type":"rate_limit_error"}}', RateLimited, "slow down"),
        (
            500,
            b'{"error":"model requires more system memory (18.4 GiB) than is available (17.0 GiB)"}',
            OutOfMemory,
            "18.4 GiB",
        ),
        (500, b'{"error":{"code":500,"message":"boom","type":"server_error"}}', BackendError, "boom"),
        (501, b'{"error":{"code":501,"message":"no","type":"not_supported_error"}}', Unsupported, "no"),
        (503, b'{"error":{"message":"Loading model","type":"unavailable_error","code":503}}', Unavailable, "Loading"),
        (504, b"\xff\xfe", BackendTimeout, "answered 504"),
        (599, b"[]", BackendError, "answered 599"),
        (200, b'{"error":{"code":400,"message":"no","type":"invalid_request_error"}}', InvalidRequest, "no"),
        (200, b'{"error":"no"}', BackendError, "no"),
        (200, b'{"choices":[]}', Garbled, "no answer in its dialect"),
        (500, b'{"error":{"message":{"a":1},"code":[],"type":5,"param":{}}}', BackendError, "without saying why"),
        (500, b'{"error":{"message":"a","code":99999999999999999999}}', BackendError, "a"),
    ],
)
def test_what_servers_say(status: int, body: bytes, kind: type[LocalModelsError], says: str) -> None:
    read = read_error(status, body)
    assert type(read) is kind
    assert says in read.message


def test_a_message_is_cut() -> None:
    assert len(read_error(500, b'{"error":"' + b"a" * 10_000 + b'"}').message) == MAX_MESSAGE


def test_retry_after_is_kept() -> None:
    assert read_error(503, b"{}", 7.0).retry_after == 7.0


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("boom", BackendError),
        ({"message": "boom", "code": "runner_died"}, errors.RunnerDied),
        ({"message": "boom", "code": 503}, Unavailable),
        ({"message": "boom", "type": "overloaded_error"}, Unavailable),
        ({}, BackendError),
        ([1], BackendError),
        (True, BackendError),
    ],
)
def test_errors_in_a_stream(said: object, kind: type[LocalModelsError]) -> None:
    assert type(in_band(said)) is kind


@given(st.integers(200, 599), st.binary(max_size=40) | some.json_values.map(lambda value: repr(value).encode()))
def test_no_answer_makes_it_fail(status: int, body: bytes) -> None:
    assert isinstance(read_error(status, body), LocalModelsError)


@given(some.json_values)
def test_no_error_in_a_stream_makes_it_fail(said: object) -> None:
    assert isinstance(in_band(said), LocalModelsError)


def test_a_message_that_is_no_text_is_sent_all_the_same() -> None:
    for dialect in DIALECTS.values():
        assert b"\\\\udcff" in dialect.write_error(BackendError("file \udcff"))


def test_a_room_s_own_kind_of_error_stands_for_none_of_the_tree() -> None:
    """Whoever is imported first must not decide what a client gets."""
    program = """
from localmodels.artifacts.convert.lora import MustBeMerged
from localmodels.core.errors import Unsupported
from localmodels.dialects.table import DIALECTS
openai = DIALECTS["openai"]
error = MustBeMerged("no")
read = openai.read_error(error.status, openai.write_error(error), None)
assert type(read) is Unsupported, type(read)
"""
    subprocess.run([sys.executable, "-c", program], check=True)
