"""What the Responses API carries of a value: roles without what is not theirs, one effort for thinking, the end by the
calls that were made. Written down in ``docs/dialects.md``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hypothesis import strategies as st
from msgspec.structs import replace
from tests.unit.dialects import strategies as some
from tests.unit.dialects.carried import fewer_alternatives, folded, openai_format

from localmodels.core.chat import (
    Answer,
    ChatRequest,
    Chunk,
    Done,
    Event,
    Image,
    Message,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolChoice,
    unfold,
)
from localmodels.dialects.pictures import media_type

calls_made = st.builds(ToolCall, st.uuids().map(str), some.words, some.arguments, st.booleans())


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    """Turns that follow each other as they do in earnest: every call has its output, nobody speaks twice."""
    messages: list[Message] = []
    for _ in range(draw(st.integers(1, 3))):
        messages.append(Message(draw(st.sampled_from(["system", "user"])), draw(some.parts)))
        if draw(st.booleans()):
            calls = tuple(draw(st.lists(calls_made, max_size=2)))
            messages.append(Message("assistant", draw(some.parts), draw(some.texts), calls))
            messages += [Message("tool", draw(some.parts), tool_call_id=call.id, tool_name=call.name) for call in calls]
    return tuple(messages)


custom_tools = st.lists(st.builds(Tool, some.words, some.texts, custom=st.just(True), grammar=some.texts), max_size=1)


@st.composite
def chat_requests(draw: st.DrawFn) -> ChatRequest:
    request = draw(some.chat_requests())
    tools = (*request.tools, *(tool for tool in draw(custom_tools) if tool.name not in {t.name for t in request.tools}))
    choice = request.tool_choice
    insists = draw(st.booleans())
    if tools and insists:
        choice = ToolChoice("function", tools[-1].name)
    return replace(request, messages=draw(conversations()), tools=tools, tool_choice=choice)


def chat(request: ChatRequest) -> ChatRequest:
    return replace(
        request,
        messages=tuple(_message(message) for message in request.messages),
        format=openai_format(request.format),
        think="medium" if request.think is True else request.think,
        include_usage=True,
        think_wish=True,
    )


def _message(message: Message) -> Message:
    parts = tuple(
        Image(part.data, part.media_type or media_type(part.data)) if isinstance(part, Image) else part
        for part in message.parts
    )
    return replace(message, parts=parts)


@st.composite
def event_streams(draw: st.DrawFn) -> list[Event]:
    """Texts and thoughts in any order, and calls, each from its beginning to its end."""
    events: list[Event] = []
    number = 0
    for segment in draw(st.lists(st.sampled_from(["said", "call", "calls"]), max_size=4)):
        if segment == "said":
            events.append(Chunk(draw(some.texts), draw(some.texts), (), draw(some.logprobs)))
            continue
        begun = []
        for _ in range(1 if segment == "call" else 2):
            custom = draw(st.booleans())
            begun.append(ToolCallDelta(number, draw(some.words), draw(some.words), draw(some.arguments), custom))
            number += 1
        events.append(Chunk(draw(some.texts), "", tuple(begun)))
        last = ToolCallDelta(number - 1, custom=begun[-1].custom)
        more = draw(st.lists(some.texts, max_size=2))
        events += [Chunk(tool_calls=(replace(last, arguments=piece),)) for piece in more]
    return [*events, draw(some.dones)]


def chat_events(events: Iterable[Event], top: int) -> list[Event]:
    seen: list[Event] = []
    called = False
    for event in events:
        if isinstance(event, Done):
            seen.append(_done(event, called=called))
            continue
        called = called or bool(event.tool_calls)
        if event.thinking:
            seen.append(Chunk(thinking=event.thinking))
        if event.text or event.logprobs:
            seen.append(Chunk(event.text, logprobs=fewer_alternatives(event.logprobs, top)))
        for delta in event.tool_calls:
            if delta.name:
                seen.append(Chunk(tool_calls=(replace(delta, arguments=""),)))
            if delta.arguments:
                seen.append(Chunk(tool_calls=(replace(delta, id="", name=""),)))
    return seen


def _done(done: Done, *, called: bool) -> Done:
    reason: Any = "length" if done.reason == "length" else "tool_calls" if called else "stop"
    usage = replace(done.usage, reasoning_tokens=done.usage.reasoning_tokens or 0)
    return replace(done, reason=reason, usage=usage, context=(), stop="")


def chat_answer(answer: Answer, top: int) -> Answer:
    return folded(chat_events(unfold(answer), top))
