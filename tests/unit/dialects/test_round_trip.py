"""The law of a dialect: what it writes, it reads back, as far as it carries it and for any split of the bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.unit.dialects import carried
from tests.unit.dialects import strategies as some

from localmodels.core.chat import (
    ChatRequest,
    Chunk,
    Done,
    Event,
    GenerateRequest,
    Timings,
    TokenLogprob,
    ToolCallDelta,
    TopLogprob,
    Usage,
)
from localmodels.core.errors import BackendError, LocalModelsError, StreamCut
from localmodels.dialects.protocol import EventReader, EventWriter, Stamp
from localmodels.dialects.table import DIALECTS

OLLAMA, OPENAI = DIALECTS["ollama"], DIALECTS["openai"]

stamps = st.builds(Stamp, some.texts, some.words, st.integers(0, 2**60))


def drain(reader: EventReader, pieces: list[bytes], seen: list[Event]) -> None:
    """Reads to the end; ``seen`` keeps what came before an error."""
    for piece in pieces:
        seen += reader.feed(piece)
    reader.close()


def streamed(reader: EventReader, pieces: list[bytes]) -> list[Event]:
    seen: list[Event] = []
    drain(reader, pieces, seen)
    return seen


def written(writer: EventWriter, events: list[Event]) -> bytes:
    return b"".join(writer.write(event) for event in events)


@given(some.chat_requests())
def test_ollama_chat_requests(request: ChatRequest) -> None:
    request = replace(request, tool_choice=replace(request.tool_choice, mode="auto", name=""))
    assert OLLAMA.read_chat(OLLAMA.write_chat(request)) == carried.ollama_chat(request)


@given(some.chat_requests(fewest=1))
def test_openai_chat_requests(request: ChatRequest) -> None:
    assert OPENAI.read_chat(OPENAI.write_chat(request)) == carried.openai_chat(request)


@given(some.generate_requests(), st.booleans())
def test_ollama_generate_requests(request: GenerateRequest, raw: bool) -> None:
    if raw:
        request = replace(request, raw=True, system=None, template="", context=())
    assert OLLAMA.read_generate(OLLAMA.write_generate(request)) == carried.ollama_generate(request)


@given(some.generate_requests(), some.tokens.filter(bool) | some.texts, st.booleans())
def test_openai_generate_requests(request: GenerateRequest, prompt: str | tuple[int, ...], echo: bool) -> None:
    echo = echo and isinstance(prompt, str) and not request.logprobs
    request = replace(request, prompt=prompt, images=(), system=None, template="", context=(), echo=echo)
    assert OPENAI.read_generate(OPENAI.write_generate(request)) == carried.openai_generate(request)


@given(some.embed_requests())
def test_ollama_embed_requests(request: Any) -> None:
    assert OLLAMA.read_embed(OLLAMA.write_embed(request)) == carried.ollama_embed(request)


@given(some.embed_requests(), some.tokens.filter(bool))
def test_openai_embed_requests(request: Any, ids: tuple[int, ...]) -> None:
    request = replace(request, inputs=(*request.inputs[1:], ids) if not request.single else (ids,))
    assert OPENAI.read_embed(OPENAI.write_embed(request)) == request


@given(stamps, some.chat_requests(), some.event_streams(), some.cuts)
def test_ollama_chat_streams(stamp: Stamp, request: ChatRequest, events: list[Event], cuts: list[int]) -> None:
    data = written(OLLAMA.chat_writer(stamp, request), events)
    assert streamed(OLLAMA.chat_reader(), some.cut(data, cuts)) == carried.ollama_chat_events(
        events, request.top_logprobs
    )


@given(stamps, some.generate_requests(), some.event_streams(), some.cuts)
def test_ollama_text_streams(stamp: Stamp, request: GenerateRequest, events: list[Event], cuts: list[int]) -> None:
    data = written(OLLAMA.generate_writer(stamp, request), events)
    assert streamed(OLLAMA.generate_reader(), some.cut(data, cuts)) == carried.ollama_text_events(
        events, request.top_logprobs
    )


@given(stamps, some.chat_requests(), some.event_streams(), some.cuts)
def test_openai_chat_streams(stamp: Stamp, request: ChatRequest, events: list[Event], cuts: list[int]) -> None:
    data = written(OPENAI.chat_writer(stamp, request), events)
    assert streamed(OPENAI.chat_reader(), some.cut(data, cuts)) == carried.openai_chat_events(
        events, request.top_logprobs, usage=request.include_usage
    )


@given(stamps, some.generate_requests(), some.event_streams(), some.cuts)
def test_openai_text_streams(stamp: Stamp, request: GenerateRequest, events: list[Event], cuts: list[int]) -> None:
    data = written(OPENAI.generate_writer(stamp, request), events)
    assert streamed(OPENAI.generate_reader(), some.cut(data, cuts)) == carried.openai_text_events(
        events, request.top_logprobs, usage=request.include_usage
    )


@pytest.mark.parametrize("name", DIALECTS)
@given(stamp=stamps, chat=some.chat_requests(), generate=some.generate_requests(), answer=some.answers)
def test_whole_answers(name: str, stamp: Stamp, chat: ChatRequest, generate: GenerateRequest, answer: Any) -> None:
    dialect = DIALECTS[name]
    expected_chat: Callable[..., Any] = getattr(carried, f"{name}_chat_answer")
    expected_text: Callable[..., Any] = getattr(carried, f"{name}_generate_answer")
    whole_chat = dialect.write_chat_answer(stamp, chat, answer)
    whole_text = dialect.write_generate_answer(stamp, generate, answer)
    assert dialect.read_chat_answer(whole_chat) == expected_chat(answer, chat.top_logprobs)
    assert dialect.read_generate_answer(whole_text) == expected_text(answer, generate.top_logprobs)


@pytest.mark.parametrize("name", DIALECTS)
@given(stamp=stamps, request=some.embed_requests(), embeddings=some.embeddings)
def test_embeddings(name: str, stamp: Stamp, request: Any, embeddings: Any) -> None:
    dialect = DIALECTS[name]
    assert dialect.read_embeddings(dialect.write_embeddings(stamp, request, embeddings)) == embeddings


@pytest.mark.parametrize("name", DIALECTS)
@given(stamp=stamps, request=some.chat_requests(), events=some.event_streams(), cuts=some.cuts, words=some.texts)
def test_after_a_failure_there_is_no_success(
    name: str, stamp: Stamp, request: ChatRequest, events: list[Event], cuts: list[int], words: str
) -> None:
    dialect = DIALECTS[name]
    writer = dialect.chat_writer(stamp, request)
    data = written(writer, events[:-1]) + writer.fail(BackendError(words))
    reader = dialect.chat_reader()
    seen: list[Event] = []
    with pytest.raises(LocalModelsError):
        drain(reader, some.cut(data, cuts), seen)
    complete = getattr(carried, f"{name}_chat_events")
    usage = {} if name == "ollama" else {"usage": True}
    told = complete(events, request.top_logprobs, **usage)
    assert seen == told[: len(seen)]
    assert len(seen) <= len(events) - 1


STREAMS: list[list[Event]] = [
    [Done()],
    [Chunk("a\r\u2028ж😀"), Chunk("", "hm\n"), Done("length", Usage(3, 2, 1), Timings(4, 3, 2, 1), 1)],
    [
        Chunk("", tool_calls=(ToolCallDelta(0, "c1", "weather", '{"city":'),)),
        Chunk("", tool_calls=(ToolCallDelta(0, arguments='"Paris"}'), ToolCallDelta(1, "c2", "now", "{}"))),
        Done("tool_calls", Usage(30, 20)),
    ],
    [Chunk("x", logprobs=(TokenLogprob("x", -0.5, (120,), (TopLogprob("y", -1.5, (121,)),)),)), Done()],
]


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize("kind", ["chat", "generate"])
def test_every_cut_is_a_cut(name: str, kind: str) -> None:
    dialect = DIALECTS[name]
    make: Any = getattr(dialect, f"{kind}_writer")
    asked = ChatRequest("m", ()) if kind == "chat" else GenerateRequest("m")
    for events in STREAMS:
        data = written(make(Stamp("id", "m", 0), asked), events)
        whole = streamed(getattr(dialect, f"{kind}_reader")(), [data])
        for length in range(len(data)):
            reader = getattr(dialect, f"{kind}_reader")()
            seen = reader.feed(data[:length])
            assert seen == whole[: len(seen)]
            assert len(seen) < len(whole)
            with pytest.raises(StreamCut):
                reader.close()
