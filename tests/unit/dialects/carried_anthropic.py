"""What Anthropic's dialect carries of a value; see ``carried.py``.

No log-probabilities, durations and dropped messages; no thoughts of earlier turns, no results' names; the text of a
system that speaks first is one; neighbours of one role are one turn; calls come whole, and their input is an object.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from localmodels.core.chat import (
    Answer,
    ChatRequest,
    Chunk,
    Done,
    Event,
    Fold,
    Format,
    Image,
    Message,
    Part,
    Text,
    ToolCall,
    ToolChoice,
    Usage,
)
from localmodels.core.options import Options
from localmodels.dialects.pictures import media_type


def an_object(arguments: str) -> str | None:
    """The arguments as JSON without blanks, if they are an object."""
    try:
        value = msgspec.json.decode(arguments.strip() or "{}")
    except msgspec.DecodeError:
        return None
    return msgspec.json.encode(value).decode() if isinstance(value, dict) else None


def left_over(call: ToolCall) -> str:
    return msgspec.json.encode({"name": call.name, "arguments": call.arguments}).decode()


def answered(events: Iterable[Event], stamp: str, *, thinks: bool = True) -> Answer:
    """The answer that is read back."""
    text, thinking, calls, done = "", "", list[ToolCall](), Done()
    pending = Fold()

    def settle() -> None:
        nonlocal text, pending
        pending.add(Done())
        for call in pending.answer().tool_calls:
            arguments = an_object(call.arguments)
            if arguments is None or not call.name:
                text += left_over(call)
            else:
                known = re.sub(r"[^a-zA-Z0-9_-]", "_", call.id) or f"toolu_{stamp}_{len(calls)}"
                calls.append(ToolCall(known, call.name, arguments))
        pending = Fold()

    for event in events:
        if isinstance(event, Done):
            settle()
            done = event
            break
        if event.text or event.thinking:
            settle()
        text += event.text
        thinking += event.thinking if thinks else ""
        pending.add(Chunk(tool_calls=event.tool_calls))
    return Answer(ended(done, called=bool(calls)), text, thinking, tuple(calls))


def ended(done: Done, *, called: bool) -> Done:
    cached = min(done.usage.cached_tokens, done.usage.prompt_tokens)
    usage = Usage(done.usage.prompt_tokens, done.usage.completion_tokens, cached, done.usage.reasoning_tokens)
    reason: Any = "length" if done.reason == "length" else "tool_calls" if called else "stop"
    return Done(reason, usage)


def parts(said: Iterable[Part]) -> tuple[Part, ...]:
    return tuple(
        Image(part.data, part.media_type or media_type(part.data)) if isinstance(part, Image) else part
        for part in said
        if isinstance(part, Image) or part.text
    )


def message(sent: Message) -> Message | None:
    """A message that is read back; none where nothing is said."""
    said = parts(sent.parts)
    if sent.role == "tool":
        return Message("tool", said, tool_call_id=sent.tool_call_id)
    if sent.role == "system":
        said = tuple(part for part in said if isinstance(part, Text))
    if sent.role != "assistant":
        return Message(sent.role, said) if said else None
    objects = [(call, an_object(call.arguments)) for call in sent.tool_calls]
    text = "".join(part.text for part in said if isinstance(part, Text))
    text += "".join(left_over(call) for call, arguments in objects if arguments is None)
    calls = tuple(ToolCall(call.id, call.name, arguments) for call, arguments in objects if arguments is not None)
    return Message("assistant", (Text(text),) if text else (), tool_calls=calls) if text or calls else None


def together(first: Message, second: Message) -> Message:
    *head, last = first.parts or (Text(""),)
    next_, *tail = second.parts or (Text(""),)
    joint: tuple[Part, ...] = (last, next_)
    if first.parts and second.parts and isinstance(last, Text) and isinstance(next_, Text):
        joint = (Text(last.text + ("\n\n" if first.role == "user" else "") + next_.text),)
    joint = tuple(part for part in joint if part != Text(""))
    return replace(first, parts=(*head, *joint, *tail), tool_calls=(*first.tool_calls, *second.tool_calls))


def messages(sent: Sequence[Message]) -> tuple[Message, ...]:
    """The conversation that is read back."""
    first = next((i for i, one in enumerate(sent) if one.role != "system"), len(sent))
    opening = [part for one in sent[:first] for part in parts(one.parts) if isinstance(part, Text)]
    turns = [Message("system", tuple(opening))] if opening else []
    joinable = False
    for one in sent[first:]:
        said = message(one)
        if said is None:
            continue
        if joinable and said.role in {"user", "assistant"} and turns[-1].role == said.role:
            turns[-1] = together(turns[-1], said)
        else:
            turns.append(said)
        joinable = True
    return tuple(turns)


def options(sent: Options) -> Options:
    limit = sent.num_predict
    return replace(sent, num_predict=32_000 if limit is None or limit < 0 else limit)


def shape(sent: Format) -> Format:
    return Format({"type": "object"} if sent.schema is None else sent.schema)


def chat(request: ChatRequest) -> ChatRequest:
    """The request that is read back."""
    return replace(
        request,
        messages=messages(request.messages),
        tool_choice=request.tool_choice if request.tools else ToolChoice(),
        parallel_tool_calls=(
            None if not request.tools or request.tool_choice.mode == "none" else request.parallel_tool_calls
        ),
        format=request.format and shape(request.format),
        options=options(request.options),
        shift=True,
        logprobs=False,
        top_logprobs=0,
        include_usage=True,
        lora=None,
        think_wish=True,
        early_prompt=True,
    )
