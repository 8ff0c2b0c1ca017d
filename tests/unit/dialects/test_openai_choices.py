"""Several answers to one question: each is told by its number, and all of them read back as they were."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.dialects import strategies as some

from localmodels.core.chat import (
    Answer,
    ChatRequest,
    Chunk,
    Done,
    Event,
    FinishReason,
    Fold,
    GenerateRequest,
    Message,
    Text,
    TokenLogprob,
    Usage,
)
from localmodels.core.errors import StreamCut
from localmodels.dialects.openai import OpenAI
from localmodels.dialects.protocol import EventReader, Stamp

DIALECT = OpenAI()
STAMP = Stamp("id", "m", 0)
HELLO = (Message("user", (Text("hi"),)),)
REASONS: st.SearchStrategy[FinishReason] = st.sampled_from(["stop", "length", "tool_calls"])
FIGURES = Usage(7, 9, 2)


@st.composite
def several(draw: st.DrawFn) -> list[Event]:
    """The stream of two to four answers: their pieces in any order, each ended once, the last by ``Done``."""
    pieces = draw(st.lists(st.tuples(st.integers(0, 3), some.words), max_size=8))
    count = max([1, *(choice for choice, _ in pieces)]) + 1
    events: list[Event] = [Chunk(text, choice=choice) for choice, text in pieces]
    *ends, last = draw(st.permutations(range(count)))
    for choice in ends:
        after = max([-1, *(i for i, event in enumerate(events) if event.choice == choice)]) + 1
        events.insert(draw(st.integers(after, len(events))), Chunk(choice=choice, ended=draw(REASONS)))
    return [*events, Done(draw(REASONS), FIGURES, choice=last)]


def said(reader: EventReader, data: bytes, cuts: list[int]) -> Answer:
    fold = Fold()
    for piece in some.cut(data, cuts):
        for event in reader.feed(piece):
            fold.add(event)
    reader.close()
    return fold.answer()


def folded(events: list[Event]) -> Answer:
    fold = Fold()
    for event in events:
        fold.add(event)
    return fold.answer()


@given(several(), some.cuts)
def test_streamed_chats(events: list[Event], cuts: list[int]) -> None:
    writer = DIALECT.chat_writer(STAMP, ChatRequest("m", HELLO, n=4))
    data = b"".join(map(writer.write, events))
    assert said(DIALECT.chat_reader(), data, cuts) == folded(events)


@given(several(), some.cuts)
def test_streamed_texts(events: list[Event], cuts: list[int]) -> None:
    writer = DIALECT.generate_writer(STAMP, GenerateRequest("m", "p", n=2, prompts=("q",)))
    data = b"".join(map(writer.write, events))
    assert said(DIALECT.generate_reader(), data, cuts) == folded(events)


@given(several())
def test_whole_answers(events: list[Event]) -> None:
    answer = folded(events)
    count = 1 + len(answer.others)
    chat = DIALECT.write_chat_answer(STAMP, ChatRequest("m", HELLO, n=count), answer)
    text = DIALECT.write_generate_answer(STAMP, GenerateRequest("m", "p", n=count), answer)
    for body, read in ((chat, DIALECT.read_chat_answer), (text, DIALECT.read_generate_answer)):
        back = read(body)
        assert [one.text for one in (back, *back.others)] == [one.text for one in (answer, *answer.others)]
        assert [one.done.reason for one in (back, *back.others)] == [
            one.done.reason for one in (answer, *answer.others)
        ]
        assert back.done.usage == FIGURES


def test_requests() -> None:
    chat = ChatRequest("m", HELLO, n=3, stream=False, include_usage=False)
    assert DIALECT.read_chat(DIALECT.write_chat(chat)) == chat
    text = GenerateRequest("m", "p", raw=True, n=2, prompts=((1, 2), "q"), stream=False, include_usage=False)
    assert DIALECT.read_generate(DIALECT.write_generate(text)) == text


def frames(data: bytes) -> list[Any]:
    return [msgspec.json.decode(frame[6:]) for frame in data.split(b"\n\n") if frame and b"[DONE]" not in frame]


def test_each_answer_of_a_chat_begins_with_its_role_and_one_done_ends_all() -> None:
    writer = DIALECT.chat_writer(STAMP, ChatRequest("m", HELLO, n=2))
    events: list[Event] = [Chunk("a", choice=1), Chunk("b"), Chunk("c", choice=1), Chunk(choice=1, ended="length")]
    data = b"".join(map(writer.write, [*events, Done()]))
    pieces = [frame["choices"][0] for frame in frames(data) if frame["choices"]]
    assert [(piece["index"], piece["delta"].get("role"), piece["finish_reason"]) for piece in pieces] == [
        (1, "assistant", None),
        (0, "assistant", None),
        (1, None, None),
        (1, None, "length"),
        (0, None, "stop"),
    ]
    assert data.count(b"[DONE]") == 1


def test_each_prompt_is_asked_back_before_its_own_answers() -> None:
    request = GenerateRequest("m", "p", n=2, prompts=("q",), echo=True)
    answer = Answer(Done(), "0", others=tuple(Answer(Done(), str(number)) for number in (1, 2, 3)))
    body = msgspec.json.decode(DIALECT.write_generate_answer(STAMP, request, answer))
    assert [choice["text"] for choice in body["choices"]] == ["p0", "p1", "q2", "q3"]
    writer = DIALECT.generate_writer(STAMP, request)
    events: list[Event] = [Chunk("3", choice=3), Chunk(choice=2, ended="stop"), Chunk("x", choice=3), Done()]
    texts = [frame["choices"][0]["text"] for frame in frames(b"".join(map(writer.write, events))) if frame["choices"]]
    assert texts == ["q3", "q", "x", "p"]


def test_offsets_run_in_each_answer_of_its_own() -> None:
    writer = DIALECT.generate_writer(STAMP, GenerateRequest("m", "p", n=2, logprobs=True))
    word = (TokenLogprob("ab", -1.0),)
    events: list[Event] = [Chunk("ab", logprobs=word, choice=choice) for choice in (0, 1, 1, 0)]
    columns = [frame["choices"][0]["logprobs"]["text_offset"] for frame in frames(b"".join(map(writer.write, events)))]
    assert columns == [[0], [0], [2], [2]]


def test_a_choice_that_is_not_ended_is_a_cut() -> None:
    writer = DIALECT.chat_writer(STAMP, ChatRequest("m", HELLO, n=2))
    events: list[Event] = [Chunk("a", choice=1), Done()]
    data = b"".join(map(writer.write, events))
    with pytest.raises(StreamCut):
        said(DIALECT.chat_reader(), data, [])
