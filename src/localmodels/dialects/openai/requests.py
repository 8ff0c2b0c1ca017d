"""OpenAI's chat requests, read as a server and written as a client.

Beyond OpenAI's own fields those are read that llama.cpp, vLLM and Ollama agree on, and a few of ours; what nobody needs
(``user``, ``metadata``, ``store`` …) is ignored. What cannot be honoured is refused by name, never dropped in silence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from localmodels.core.chat import (
    ChatRequest,
    Format,
    GenerateRequest,
    Message,
    Part,
    Role,
    Text,
    ThinkLevel,
)
from localmodels.core.errors import InvalidRequest, InvalidValue, Unsupported
from localmodels.dialects import asked, strict_json
from localmodels.dialects.durations import read_keep_alive, write_keep_alive
from localmodels.dialects.openai import wire
from localmodels.dialects.openai.tools import read_call, read_tools, write_call, write_choice, write_tools
from localmodels.dialects.pictures import data_url, read_data_url
from localmodels.dialects.strict_json import encode

_CHAT = msgspec.json.Decoder(wire.Chat)

_ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
# Options that go at the top level, where other servers look for them; the rest goes into ``options``, which is ours.
_TOP = frozenset(wire.TOP_OPTIONS) - {"num_ctx"}
# Answers to one prompt. Each waits for a place of its own, of which a model has four to eight.
MAX_CHOICES = 8
# A schema must have a name in this API; ours need none.
SCHEMA_NAME = "answer"


def read_chat(body: bytes) -> ChatRequest:
    """``POST /v1/chat/completions``."""
    sent = strict_json.read(body, _CHAT)
    for name in ("functions", "function_call"):
        if getattr(sent, name) not in (None, [], "none"):
            raise Unsupported(f"{name} is no longer part of the API; use tools and tool_choice", param=name)
    if sent.top_logprobs and not sent.logprobs:
        raise InvalidRequest("top_logprobs needs logprobs to be true", param="top_logprobs")
    messages = tuple(
        read_message(message, f"messages[{i}]")
        for i, message in enumerate(
            asked.at_most(asked.required(sent.messages or None, "messages"), asked.MAX_MESSAGES, "messages")
        )
    )
    asked.check_images(messages, "messages")
    tools, choice = read_tools(sent.tools, sent.tool_choice)
    return ChatRequest(
        messages=messages,
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=sent.parallel_tool_calls,
        think=_read_think(sent),
        logprobs=bool(sent.logprobs),
        top_logprobs=asked.within(sent.top_logprobs, 0, asked.MAX_TOP_LOGPROBS, "top_logprobs") or 0,
        **shared(sent),
    )


def shared(sent: wire.Request) -> dict[str, Any]:
    """What chats and texts both have."""
    if sent.truncation not in {None, "auto", "disabled"}:
        raise InvalidValue("truncation must be 'auto' or 'disabled'", param="truncation")
    return {
        "model": asked.required(sent.model, "model"),
        "format": _read_format(sent.response_format),
        "options": asked.read_options(sent.options, sent.chosen()),
        "stream": bool(sent.stream),
        "include_usage": bool(sent.stream_options and sent.stream_options.include_usage),
        "keep_alive": read_keep_alive(sent.keep_alive),
        "truncate": sent.truncation != "disabled",
        "shift": sent.shift is not False,
        "lora": asked.read_lora(sent.lora),
        "n": asked.within(sent.n, 1, MAX_CHOICES, "n") or 1,
    }


def read_message(sent: wire.Message, name: str) -> Message:
    """One turn; ``name`` is where it stands in the request."""
    role = _ROLES.get(sent.role)
    if role is None:
        if not sent.role:
            raise InvalidRequest(f"{name}.role is required", param=f"{name}.role")
        raise InvalidValue(
            f"{name}.role must be one of {', '.join(_ROLES)}, not '{sent.role[:60]}'", param=f"{name}.role"
        )
    calls = [*(sent.tool_calls or ()), *([wire.ToolCall(function=sent.function_call)] if sent.function_call else ())]
    return Message(
        role=role,
        parts=_read_content(sent.content or sent.refusal or None, f"{name}.content"),
        thinking=sent.reasoning_content or sent.reasoning or "",
        tool_calls=tuple(read_call(call, f"{name}.tool_calls[{i}]") for i, call in enumerate(calls)),
        tool_call_id=sent.tool_call_id or "",
        tool_name=sent.name or "" if role == "tool" else "",
    )


def _read_content(content: str | list[wire.Part] | None, name: str) -> tuple[Part, ...]:
    if isinstance(content, list):
        return tuple(_read_part(part, f"{name}[{i}]") for i, part in enumerate(content))
    return asked.text_parts(content)


def _read_part(part: wire.Part, name: str) -> Part:
    if part.type == "text" and part.text is not None:
        return Text(part.text)
    if part.type == "refusal":
        return Text(part.refusal or "")
    if part.type != "image_url" or not part.image_url:
        raise InvalidValue(f"{name} must be a text or an image_url part", param=name)
    url = part.image_url if isinstance(part.image_url, str) else part.image_url.url
    return read_data_url(url, f"{name}.image_url.url")


def _read_format(sent: wire.ResponseFormat | None) -> Format | None:
    if sent is None or sent.type == "text":
        return None
    if sent.type == "json_object":
        return Format(asked.check_schema(sent.schema, "response_format.schema") if sent.schema else None)
    if sent.type != "json_schema":
        raise InvalidValue(
            "response_format.type must be text, json_object or json_schema", param="response_format.type"
        )
    shape = asked.required(sent.json_schema, "response_format.json_schema")
    name = "response_format.json_schema.schema"
    return Format(asked.check_schema(shape.schema or {}, name), shape.name or SCHEMA_NAME)


def _read_think(sent: wire.Chat) -> bool | ThinkLevel | None:
    """From our ``think``, the effort, or the switch that templates know; the most direct of them wins."""
    switch = _read_switch(sent.chat_template_kwargs)
    effort = sent.reasoning_effort or (sent.reasoning.effort if sent.reasoning else None)
    if isinstance(sent.think, bool):
        return sent.think
    word, name = (sent.think, "think") if sent.think else (effort, "reasoning_effort")
    if not word:
        return switch
    return asked.read_effort(word, name)


def _read_switch(sent: dict[str, Any] | None) -> bool | None:
    """The one template argument that is taken from strangers: templates may do anything with the others."""
    if not sent:
        return None
    switch = sent.get("enable_thinking")
    if set(sent) != {"enable_thinking"} or not isinstance(switch, bool):
        raise Unsupported(
            "chat_template_kwargs may only hold enable_thinking, which is true or false", param="chat_template_kwargs"
        )
    return switch


def write_chat(request: ChatRequest) -> bytes:
    """The request as a client sends it."""
    thinks = request.think
    effort = "xhigh" if thinks == "max" else thinks if isinstance(thinks, str) else None
    return encode(
        wire.Chat(
            messages=[write_message(message) for message in request.messages],
            tools=write_tools(request.tools) or None,
            tool_choice=write_choice(request.tool_choice, request.tools),
            parallel_tool_calls=request.parallel_tool_calls,
            logprobs=request.logprobs or None,
            top_logprobs=request.top_logprobs or None,
            reasoning_effort=effort,
            chat_template_kwargs={"enable_thinking": thinks} if isinstance(thinks, bool) else None,
            **written(request),
        )
    )


def written(request: ChatRequest | GenerateRequest) -> dict[str, Any]:
    """What chats and texts both have."""
    options = asked.write_options(request.options)
    limit = options.pop("num_predict") if options.get("num_predict", -1) >= 0 else None
    top = {name: options.pop(name) for name in tuple(options) if name in _TOP}
    return {
        "model": request.model,
        "stream": request.stream,
        "stream_options": wire.StreamOptions(include_usage=True) if request.stream and request.include_usage else None,
        "response_format": write_format(request.format),
        "keep_alive": write_keep_alive(request.keep_alive),
        "truncation": None if request.truncate else "disabled",
        "shift": None if request.shift else False,
        "lora": asked.write_lora(request.lora),
        "n": request.n if request.n > 1 else None,
        "max_tokens": limit,
        "repetition_penalty": top.get("repeat_penalty"),
        "options": options or None,
        **top,
    }


def write_message(message: Message) -> wire.Message:
    """One turn; ``content`` is always there, since llama.cpp insists on it."""
    return wire.Message(
        role=message.role,
        content=_write_content(message.parts) if message.parts or not message.tool_calls else None,
        reasoning_content=message.thinking or None,
        tool_calls=[write_call(call) for call in message.tool_calls] or None,
        tool_call_id=message.tool_call_id or None,
        name=message.tool_name or None if message.role == "tool" else None,
    )


def _write_content(parts: Sequence[Part]) -> str | list[wire.Part]:
    if not parts:
        return ""
    if len(parts) == 1 and isinstance(parts[0], Text):
        return parts[0].text
    return [
        wire.Part("text", text=part.text)
        if isinstance(part, Text)
        else wire.Part("image_url", image_url=wire.ImageUrl(data_url(part)))
        for part in parts
    ]


def write_format(chosen: Format | None) -> wire.ResponseFormat | None:
    """The shape that the answer must have."""
    if chosen is None:
        return None
    if chosen.schema is None:
        return wire.ResponseFormat("json_object")
    return wire.ResponseFormat("json_schema", wire.JsonSchema(chosen.name or SCHEMA_NAME, chosen.schema))
