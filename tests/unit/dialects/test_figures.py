"""What servers tell of tokens and durations is believed only as far as it can be true, in every dialect."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from localmodels.core.chat import Answer, Chunk, Done, Timings, Usage
from localmodels.core.errors import Garbled
from localmodels.dialects import figures, rerank
from localmodels.dialects.anthropic.counting import read_count_answer
from localmodels.dialects.gateway import Gateway
from localmodels.dialects.llamacpp import LlamaCpp
from localmodels.dialects.ollama.library import ProgressReader
from localmodels.dialects.openai import answers
from localmodels.dialects.openai.counts import read_count
from localmodels.dialects.protocol import ChatDialect
from localmodels.dialects.table import CHATS, DIALECTS, WAYS

ABSURD = [-1, -50, 2**31, 10**19, 10**30]
LATE = [-1, 2**53 + 1, 10**19, 10**30]


def lines(*said: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in said)


def events(*said: dict[str, Any] | str) -> bytes:
    texts = (one if isinstance(one, str) else json.dumps(one) for one in said)
    return b"".join(f"data: {text}\n\n".encode() for text in texts)


def ollama(prompt: int, completion: int, cached: int) -> tuple[bytes, bytes]:
    end = {"model": "m", "message": {"role": "assistant", "content": "hi"}, "done": True, "done_reason": "stop"}
    end |= {"prompt_eval_count": prompt, "eval_count": completion, "prompt_eval_cached_count": cached}
    return lines(end), json.dumps(end).encode()


def openai(prompt: int, completion: int, cached: int) -> tuple[bytes, bytes]:
    usage = {"prompt_tokens": prompt, "completion_tokens": completion}
    usage |= {"prompt_tokens_details": {"cached_tokens": cached}}  # type: ignore[dict-item]
    piece = {"choices": [{"delta": {"content": "hi"}, "finish_reason": "stop"}]}
    whole = {"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}], "usage": usage}
    return events(piece, {"choices": [], "usage": usage}, "[DONE]"), json.dumps(whole).encode()


def anthropic(prompt: int, completion: int, cached: int) -> tuple[bytes, bytes]:
    fresh = prompt - cached if 0 <= cached <= prompt else prompt
    usage = {"input_tokens": fresh, "cache_read_input_tokens": cached, "output_tokens": completion}
    whole = {"content": [{"type": "text", "text": "hi"}], "stop_reason": "end_turn", "usage": usage}
    stream = events(
        {"type": "message_start", "message": {"usage": {"input_tokens": fresh}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "hi"}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage},
        {"type": "message_stop"},
    )
    return stream, json.dumps(whole).encode()


def responses(prompt: int, completion: int, cached: int) -> tuple[bytes, bytes]:
    usage = {"input_tokens": prompt, "output_tokens": completion}
    usage |= {"input_tokens_details": {"cached_tokens": cached}}  # type: ignore[dict-item]
    whole = {"id": "r", "status": "completed", "output": [], "usage": usage}
    return events({"type": "response.completed", "response": whole}), json.dumps(whole).encode()


def gateway(prompt: int, completion: int, cached: int) -> tuple[bytes, bytes]:
    end = {"response": "hi", "finish_reason": "stop"}
    end |= {"usage": {"prompt_tokens": prompt, "completion_tokens": completion}}  # type: ignore[dict-item]
    return events(end, "[DONE]"), json.dumps(end).encode()


Wire = Callable[[int, int, int], tuple[bytes, bytes]]
WIRES: dict[str, Wire] = {
    "ollama": ollama,
    "openai": openai,
    "anthropic": anthropic,
    "responses": responses,
    "gateway": gateway,
}


def end_of(said: Iterable[object]) -> Usage:
    (done,) = (one for one in said if isinstance(one, Done))
    return done.usage


def read(name: str, wire: tuple[bytes, bytes]) -> Iterable[Usage]:
    """As a stream, and in one piece."""
    dialect: ChatDialect = {**CHATS, "gateway": Gateway()}[name]
    stream, whole = wire
    yield end_of(dialect.chat_reader().feed(stream))
    answer: Answer = dialect.read_chat_answer(whole)
    yield answer.done.usage


@pytest.mark.parametrize("name", WIRES)
def test_sound_counts_are_believed(name: str) -> None:
    for usage in read(name, WIRES[name](7, 5, 0)):
        assert (usage.prompt_tokens, usage.completion_tokens, usage.counted) == (7, 5, True)


@pytest.mark.parametrize("absurd", ABSURD)
@pytest.mark.parametrize("name", WIRES)
def test_a_count_that_cannot_be_is_no_count(name: str, absurd: int) -> None:
    for usage in read(name, WIRES[name](absurd, 5, 0)):
        assert usage == Usage(0, 5, counted=False)
    for usage in read(name, WIRES[name](7, absurd, 0)):
        assert usage == Usage(7, 0, counted=False)


@pytest.mark.parametrize("absurd", ABSURD)
@pytest.mark.parametrize("name", ["ollama", "openai", "responses"])
def test_of_a_prompt_no_more_is_cached_than_it_has(name: str, absurd: int) -> None:
    for cached in (absurd, 8):
        for usage in read(name, WIRES[name](7, 5, cached)):
            assert usage == Usage(7, 5)


@pytest.mark.parametrize("absurd", ABSURD)
def test_what_is_summed_up_is_believed_part_by_part(absurd: int) -> None:
    """Anthropic's counts: a large part must not hide a negative one."""
    assert [usage.counted for usage in read("anthropic", anthropic(100, 5, absurd))] == [False, False]
    timings = {"prompt_n": 100, "cache_n": absurd, "predicted_n": 5}
    stream = events({"choices": [{"delta": {}, "finish_reason": "stop"}], "timings": timings}, "[DONE]")
    assert end_of(DIALECTS["openai"].chat_reader().feed(stream)) == Usage(0, 5, counted=False)


@pytest.mark.parametrize("absurd", ABSURD)
@pytest.mark.parametrize("name", WAYS)
def test_judges_know_nothing_of_what_cannot_be(name: str, absurd: int) -> None:
    for prompt, completion, expected in ((7, 5, Usage(7, 5)), (absurd, 5, None), (7, absurd, None)):
        stream, whole = WIRES[name](prompt, completion, 0)
        judge = WAYS[name].judge()
        for message in stream.split(b"\n"):
            if message:
                judge.see(message.removeprefix(b"data: "))
        assert (judge.done, judge.usage) == (True, expected)
        judge = WAYS[name].judge()
        judge.see_whole(whole)
        assert (judge.done, judge.usage) == (True, expected)


@pytest.mark.parametrize("absurd", LATE)
def test_durations(absurd: int) -> None:
    end = json.loads(ollama(7, 5, 0)[1])
    names = ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration")
    ours = dict.fromkeys(names, absurd)
    assert DIALECTS["ollama"].read_chat_answer(json.dumps(end | ours).encode()).done.timings == Timings()
    whole = json.loads(openai(7, 5, 0)[1])
    for timings in (ours, {"prompt_ms": float(absurd), "predicted_ms": 1e308}):
        answer = DIALECTS["openai"].read_chat_answer(json.dumps(whole | {"timings": timings}).encode())
        assert answer.done.timings == Timings()


@pytest.mark.parametrize("absurd", ABSURD)
def test_vectors_rankings_and_counts(absurd: int) -> None:
    ollamas = {"model": "m", "embeddings": [[1.0]], "prompt_eval_count": absurd}
    assert DIALECTS["ollama"].read_embeddings(json.dumps(ollamas).encode()).prompt_tokens == 0
    openais = {"data": [{"embedding": [1.0]}], "usage": {"prompt_tokens": absurd}}
    assert DIALECTS["openai"].read_embeddings(json.dumps(openais).encode()).prompt_tokens == 0
    ranking = {"results": [{"index": 0, "relevance_score": 1.0}], "usage": {"prompt_tokens": absurd}}
    assert rerank.read_answer(json.dumps(ranking).encode()).prompt_tokens == 0
    with pytest.raises(Garbled, match="count of tokens"):
        read_count(json.dumps({"count": absurd}).encode())
    with pytest.raises(Garbled, match="count of tokens"):
        read_count_answer(json.dumps({"input_tokens": absurd}).encode())


@pytest.mark.parametrize("absurd", ABSURD)
def test_the_progress_of_a_prompt(absurd: int) -> None:
    reader = answers.reader(early=True)
    said = reader.feed(events({"choices": [], "prompt_progress": {"total": absurd, "cache": absurd}}))
    assert [event.prompt for event in said if isinstance(event, Chunk)] == [Usage(counted=False)]
    text = {"content": "", "stop": True, "stop_type": "eos", "tokens_evaluated": absurd, "tokens_predicted": 5}
    assert end_of(LlamaCpp.generate_reader().feed(events(text))) == Usage(0, 5, counted=False)


@pytest.mark.parametrize("absurd", ABSURD)
def test_messages_that_were_left_out(absurd: int) -> None:
    end = json.loads(ollama(7, 5, 0)[1]) | {"truncated_messages": absurd}
    assert DIALECTS["ollama"].read_chat_answer(json.dumps(end).encode()).done.truncated_messages == 0


@pytest.mark.parametrize("absurd", [-5, 2**53 + 1, 10**30])
def test_bytes_of_progress(absurd: int) -> None:
    line = json.dumps({"status": "pulling", "total": absurd, "completed": absurd}).encode() + b"\n"
    (step,) = ProgressReader().feed(line)
    assert (step.total, step.completed) == (0, 0)


def test_the_largest_that_are_believed() -> None:
    assert figures.usage(2**31 - 1, 2**31 - 1, 2**31 - 1, 9) == Usage(2**31 - 1, 2**31 - 1, 2**31 - 1, 9)
    assert figures.usage(None, None, None) == Usage()
    assert figures.usage(9, 9, 0, -1) == Usage(9, 9)
    assert figures.timings(2**53, None) == Timings(2**53)
