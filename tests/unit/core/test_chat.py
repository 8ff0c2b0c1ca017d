"""The law of the one path: an answer unfolded into a stream folds back to itself, however the stream is cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from localmodels.core.chat import (
    Answer,
    Chunk,
    Done,
    Event,
    FinishReason,
    Fold,
    Image,
    Message,
    Text,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    TopLogprob,
    Usage,
    fold,
    unfold,
)
from localmodels.core.errors import StreamCut

WORDS = st.text(max_size=20)
LOGPROBS = st.floats(max_value=0, allow_nan=False, allow_infinity=False)
REASONS = st.sampled_from(("stop", "length", "tool_calls"))
DONE = st.builds(Done, reason=REASONS, usage=st.builds(Usage, st.integers(0), st.integers(0), st.integers(0)))
TOP = st.builds(TopLogprob, WORDS, LOGPROBS)
ANSWERS = st.builds(
    Answer,
    done=DONE,
    text=WORDS,
    thinking=WORDS,
    tool_calls=st.lists(st.builds(ToolCall, WORDS, WORDS, WORDS), max_size=4).map(tuple),
    logprobs=st.lists(st.builds(TokenLogprob, WORDS, LOGPROBS, top=st.tuples(TOP)), max_size=3).map(tuple),
)


OTHERS = st.lists(st.builds(Answer, done=st.builds(Done, REASONS), text=WORDS), min_size=1, max_size=3).map(tuple)
SEVERAL = st.builds(lambda answer, others: replace(answer, others=others), ANSWERS, OTHERS)


def folded(events: Iterable[Event]) -> Answer:
    gathered = Fold()
    for event in events:
        gathered.add(event)
    return gathered.answer()


def crumbled(answer: Answer) -> list[Event]:
    """The longest stream that means the same: a character a chunk, the tool calls' arguments interleaved."""
    events: list[Event] = [Chunk(thinking=character) for character in answer.thinking]
    events += [Chunk(text=character) for character in answer.text]
    events += [Chunk(logprobs=(one,)) for one in answer.logprobs]
    heads = [ToolCallDelta(index, call.id, call.name) for index, call in enumerate(answer.tool_calls)]
    tails = [
        (place, ToolCallDelta(index, arguments=character))
        for index, call in enumerate(answer.tool_calls)
        for place, character in enumerate(call.arguments)
    ]
    tails.sort(key=lambda tail: tail[0])
    events += [Chunk(tool_calls=(delta,)) for delta in (*heads, *(delta for _, delta in tails))]
    return [*events, answer.done]


@given(ANSWERS)
def test_what_is_unfolded_folds_back(answer: Answer) -> None:
    assert folded(unfold(answer)) == answer


@given(SEVERAL)
def test_several_answers_are_one_stream_with_one_end(answer: Answer) -> None:
    events = list(unfold(answer))
    assert folded(events) == answer
    assert [event for event in events if isinstance(event, Done)] == [answer.done]


@given(SEVERAL, st.integers(0, 9))
def test_one_of_several_that_does_not_end_was_cut(answer: Answer, which: int) -> None:
    events = list(unfold(answer))
    place = which % len(answer.others)
    lost = events[place]
    assert isinstance(lost, Chunk)
    events[place] = replace(lost, text="x", ended=None)
    with pytest.raises(StreamCut):
        folded(events)


def test_the_last_of_several_to_end_may_be_any() -> None:
    events: list[Event] = [Chunk("a"), Chunk(ended="length"), Chunk("b", choice=1), Done("stop", Usage(3, 2), choice=1)]
    answer = folded(events)
    assert (answer.text, answer.done.reason, answer.done.usage) == ("a", "length", Usage(3, 2))
    assert [(other.text, other.done.reason) for other in answer.others] == [("b", "stop")]


@given(ANSWERS)
def test_the_size_of_the_pieces_does_not_matter(answer: Answer) -> None:
    assert folded(crumbled(answer)) == answer


@given(ANSWERS)
def test_an_unfolded_stream_ends_with_done_and_has_it_once(answer: Answer) -> None:
    events = list(unfold(answer))
    assert [isinstance(event, Done) for event in events] == [False] * (len(events) - 1) + [True]


@given(ANSWERS, st.lists(st.integers(1, 3), min_size=1))
def test_events_may_arrive_in_any_bundles(answer: Answer, sizes: list[int]) -> None:
    async def stream() -> AsyncIterator[list[Event]]:
        events = crumbled(answer)
        turn = 0
        while events:
            size = sizes[turn % len(sizes)]
            yield events[:size]
            events = events[size:]
            turn += 1

    assert asyncio.run(fold(stream())) == answer


@given(ANSWERS)
def test_a_stream_without_its_end_was_cut(answer: Answer) -> None:
    with pytest.raises(StreamCut):
        folded(crumbled(answer)[:-1])


def test_a_tool_calls_id_is_told_once_and_its_name_and_arguments_grow() -> None:
    deltas = (ToolCallDelta(1, "b", "two", "{"), ToolCallDelta(0, "a", "one"), ToolCallDelta(1, "b", "", "}"))
    answer = folded([*(Chunk(tool_calls=(delta,)) for delta in deltas), Done("tool_calls")])
    assert answer.tool_calls == (ToolCall("a", "one", ""), ToolCall("b", "two", "{}"))


@pytest.mark.parametrize("reason", ["stop", "length", "tool_calls"])
def test_an_empty_answer_is_its_end_alone(reason: FinishReason) -> None:
    assert list(unfold(Answer(Done(reason)))) == [Done(reason)]


def test_a_messages_text_is_its_text_parts() -> None:
    assert Message("user", (Text("a"), Image(b"x"), Text("b"))).text == "ab"
