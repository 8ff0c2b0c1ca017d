"""What each dialect carries of a value: the other half of the law that what ``write`` writes, ``read`` reads back.

Whatever is changed here is lost on the wire on purpose, and told in ``docs/dialects.md``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec.structs import replace

from localmodels.core.chat import (
    Answer,
    ChatRequest,
    Chunk,
    Done,
    EmbedRequest,
    Event,
    Fold,
    Format,
    GenerateRequest,
    Image,
    Message,
    Part,
    Text,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    ToolChoice,
    TopLogprob,
    Usage,
    unfold,
)
from localmodels.dialects.openai.requests import SCHEMA_NAME
from localmodels.dialects.pictures import media_type


def folded(events: Iterable[Event]) -> Answer:
    fold = Fold()
    for event in events:
        fold.add(event)
    return fold.answer()


def spoken(chunk: Chunk) -> bool:
    return chunk != Chunk()


def fewer_alternatives(logprobs: tuple[TokenLogprob, ...], top: int) -> tuple[TokenLogprob, ...]:
    return tuple(replace(token, top=token.top[:top]) for token in logprobs)


# Ollama: no order of text and pictures, no media types, no tool choice; arguments are objects; calls come whole.


def ollama_calls(calls: Iterable[ToolCall]) -> tuple[tuple[ToolCall, ...], str]:
    """Calls with arguments as compact objects, and the text that stands for the rest."""
    whole, left = [], []
    for call in calls:
        try:
            value = msgspec.json.decode(call.arguments.strip() or "{}")
        except msgspec.DecodeError:
            value = None
        if isinstance(value, dict):
            whole.append(replace(call, arguments=msgspec.json.encode(value).decode()))
        else:
            left.append(msgspec.json.encode({"name": call.name, "arguments": call.arguments}).decode())
    return tuple(whole), "\n".join(left)


def ollama_message(message: Message) -> Message:
    calls, left = ollama_calls(message.tool_calls)
    text = message.text + left
    pictures = tuple(Image(part.data) for part in message.parts if isinstance(part, Image))
    return replace(message, parts=(*((Text(text),) if text else ()), *pictures), tool_calls=calls)


def ollama_format(chosen: Format | None) -> Format | None:
    return chosen and Format(chosen.schema)


def ollama_chat(request: ChatRequest) -> ChatRequest:
    return replace(
        request,
        messages=tuple(ollama_message(message) for message in request.messages),
        tools=() if request.tool_choice.mode == "none" else request.tools,
        tool_choice=ToolChoice(),
        parallel_tool_calls=None,
        format=ollama_format(request.format),
        include_usage=True,
    )


def ollama_generate(request: GenerateRequest) -> GenerateRequest:
    return replace(
        request,
        system=request.system or None,
        images=tuple(Image(image.data) for image in request.images),
        format=ollama_format(request.format),
        include_usage=True,
    )


def ollama_embed(request: EmbedRequest) -> EmbedRequest:
    return replace(request, encoding="float")


def ollama_chat_events(events: Iterable[Event], top: int) -> list[Event]:
    seen: list[Event] = []
    calls = Fold()
    for event in events:
        if isinstance(event, Chunk):
            calls.add(Chunk(tool_calls=event.tool_calls))
            said = replace(event, tool_calls=(), logprobs=fewer_alternatives(event.logprobs, top))
            seen += [said] if spoken(said) else []
        else:
            calls.add(event)
            whole, left = ollama_calls(calls.answer().tool_calls)
            called = Chunk(left, tool_calls=tuple(_delta(i, call) for i, call in enumerate(whole)))
            reason: Any = "stop" if event.reason == "tool_calls" else event.reason
            seen += [called] if spoken(called) else []
            seen.append(replace(event, reason="tool_calls" if whole and reason == "stop" else reason, context=()))
    return seen


def _delta(index: int, call: ToolCall) -> ToolCallDelta:
    return ToolCallDelta(index, call.id, call.name, call.arguments)


def ollama_text_events(events: Iterable[Event], top: int) -> list[Event]:
    seen: list[Event] = []
    for event in events:
        if isinstance(event, Chunk):
            said = replace(event, tool_calls=(), logprobs=fewer_alternatives(event.logprobs, top))
            seen += [said] if spoken(said) else []
        else:
            seen.append(replace(event, reason="stop" if event.reason == "tool_calls" else event.reason))
    return seen


def ollama_chat_answer(answer: Answer, top: int) -> Answer:
    return folded(ollama_chat_events(unfold(answer), top))


def ollama_generate_answer(answer: Answer, top: int) -> Answer:
    return folded(ollama_text_events(unfold(answer), top))


# OpenAI: usage only where it was asked for, no loading and unloading, no context; completions are raw text.


def openai_parts(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    if parts == (Text(""),):
        return ()
    return tuple(
        Image(part.data, part.media_type or media_type(part.data)) if isinstance(part, Image) else part
        for part in parts
    )


def openai_message(message: Message) -> Message:
    return replace(
        message,
        parts=openai_parts(message.parts),
        tool_name=message.tool_name if message.role == "tool" else "",
    )


def openai_format(chosen: Format | None) -> Format | None:
    if chosen is None or chosen.schema is None:
        return chosen and Format()
    return Format(chosen.schema, chosen.name or SCHEMA_NAME)


def openai_chat(request: ChatRequest) -> ChatRequest:
    return replace(
        request,
        messages=tuple(openai_message(message) for message in request.messages),
        format=openai_format(request.format),
        include_usage=request.include_usage and request.stream,
    )


def openai_generate(request: GenerateRequest) -> GenerateRequest:
    return replace(
        request,
        raw=True,
        system=None,
        think=None,
        format=openai_format(request.format),
        include_usage=request.include_usage and request.stream,
    )


def openai_done(done: Done, *, usage: bool) -> Done:
    reason: Any = "stop" if done.reason in {"load", "unload"} else done.reason
    return replace(done, reason=reason, usage=done.usage if usage else Usage(), context=())


def openai_chat_events(events: Iterable[Event], top: int, *, usage: bool) -> list[Event]:
    seen: list[Event] = []
    for event in events:
        if isinstance(event, Done):
            seen.append(openai_done(event, usage=usage))
        elif spoken(event):
            seen.append(replace(event, logprobs=fewer_alternatives(event.logprobs, top)))
    return seen


def openai_text_events(events: Iterable[Event], top: int, *, usage: bool) -> list[Event]:
    seen: list[Event] = []
    for event in events:
        if isinstance(event, Done):
            seen.append(openai_done(event, usage=usage))
        elif event.text or event.logprobs:
            seen.append(Chunk(event.text, logprobs=tuple(openai_column(token, top) for token in event.logprobs)))
    return seen


def openai_column(token: TokenLogprob, top: int) -> TokenLogprob:
    """No bytes, and alternatives by their text, so that two of one text are one."""
    alternatives = {other.token: other.logprob for other in token.top[:top]}
    return TokenLogprob(token.token, token.logprob, (), tuple(TopLogprob(*item) for item in alternatives.items()))


def openai_chat_answer(answer: Answer, top: int) -> Answer:
    return folded(openai_chat_events(unfold(answer), top, usage=True))


def openai_generate_answer(answer: Answer, top: int) -> Answer:
    return folded(openai_text_events(unfold(answer), top, usage=True))
