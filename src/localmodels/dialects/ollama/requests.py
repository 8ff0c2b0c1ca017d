"""Ollama's requests, read as a server and written as a client.

Only the fields are Ollama's; limits and pieces that other dialects share are in ``dialects.asked``. Two of Ollama's
habits are kept on purpose: ``model`` may be called ``name``, and a request without content moves a model in or out of
memory.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import msgspec

from localmodels.core.chat import (
    ChatRequest,
    EmbedRequest,
    Format,
    GenerateRequest,
    Image,
    Message,
    Role,
    ThinkLevel,
    Tool,
    ToolCall,
)
from localmodels.core.errors import InvalidRequest, InvalidValue, Unsupported
from localmodels.core.options import NO_OPTIONS, parse_options
from localmodels.dialects import asked, strict_json
from localmodels.dialects.durations import read_keep_alive, write_keep_alive
from localmodels.dialects.ollama import wire
from localmodels.dialects.ollama.calls import message_calls, read_arguments
from localmodels.dialects.strict_json import encode

MAX_TOKEN = 2**31  # llama.cpp's ids are 32 bits wide

_CHAT = msgspec.json.Decoder(wire.Chat)
_GENERATE = msgspec.json.Decoder(wire.Generate)
_EMBED = msgspec.json.Decoder(wire.Embed)
_LEGACY_EMBED = msgspec.json.Decoder(wire.LegacyEmbed)

_ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant", "tool": "tool"}


def read_chat(body: bytes) -> ChatRequest:
    """``POST /api/chat``."""
    sent = strict_json.read(body, _CHAT)
    messages = tuple(
        read_message(message, f"messages[{i}]")
        for i, message in enumerate(asked.at_most(sent.messages or (), asked.MAX_MESSAGES, "messages"))
    )
    asked.check_images(messages, "messages")
    return ChatRequest(
        messages=messages,
        tools=asked.check_tools([_read_tool(tool, i) for i, tool in enumerate(sent.tools or ())]),
        **_shared(sent),
    )


def read_generate(body: bytes) -> GenerateRequest:
    """``POST /api/generate``."""
    sent = strict_json.read(body, _GENERATE)
    if sent.raw and (sent.template or sent.system or sent.context):
        raise InvalidRequest("raw mode does not support template, system, or context", param="raw")
    images = asked.at_most(sent.images or (), asked.MAX_IMAGES, "images")
    return GenerateRequest(
        prompt=sent.prompt or "",
        suffix=sent.suffix or "",
        system=sent.system or None,
        template=sent.template or "",
        context=read_tokens(sent.context or (), "context"),
        raw=bool(sent.raw),
        images=tuple(Image(asked.read_image(image, f"images[{i}]")) for i, image in enumerate(images)),
        **_shared(sent),
    )


def read_tokens(sent: Sequence[int], name: str) -> tuple[int, ...]:
    """Token ids, as far as any model may have them.

    Raises:
        InvalidValue: a number that no vocabulary reaches.
    """
    if wrong := next(((place, token) for place, token in enumerate(sent) if not 0 <= token < MAX_TOKEN), None):
        raise InvalidValue(f"{name}[{wrong[0]}]: {wrong[1]} is no token of any model", param=f"{name}[{wrong[0]}]")
    return tuple(sent)


def _shared(sent: wire.Request) -> dict[str, Any]:
    """What both kinds of request have."""
    return {
        "model": asked.required(sent.model or sent.name, "model"),
        "format": read_format(sent.format),
        "think": read_think(sent.think),
        "options": asked.read_options(sent.options, sent.chosen()),
        "stream": sent.stream is not False,
        "keep_alive": read_keep_alive(sent.keep_alive),
        "truncate": sent.truncate is not False,
        "shift": sent.shift is not False,
        "logprobs": bool(sent.logprobs),
        "top_logprobs": asked.within(sent.top_logprobs, 0, asked.MAX_TOP_LOGPROBS, "top_logprobs") or 0,
        "lora": asked.read_lora(sent.lora),
    }


def read_message(sent: wire.Message, name: str) -> Message:
    """One turn; ``name`` is where it stands in the request."""
    role = _ROLES.get(sent.role.lower())
    if role is None:
        raise InvalidValue(
            f"{name}.role must be one of {', '.join(_ROLES)}, not '{sent.role[:60]}'", param=f"{name}.role"
        )
    pictures = [asked.read_image(image, f"{name}.images[{i}]") for i, image in enumerate(sent.images or ())]
    return Message(
        role=role,
        parts=(*asked.text_parts(sent.content or None), *map(Image, pictures)),
        thinking=sent.thinking or "",
        tool_calls=tuple(
            ToolCall(
                call.id or "", call.function.name, read_arguments(call.function.arguments, f"{name}.tool_calls[{i}]")
            )
            for i, call in enumerate(sent.tool_calls or ())
        ),
        tool_call_id=sent.tool_call_id or "",
        tool_name=sent.tool_name or "",
    )


def _read_tool(sent: wire.Tool, i: int) -> Tool:
    if sent.type not in {None, "", "function"}:
        raise Unsupported(f"tools[{i}].type must be function", param=f"tools[{i}].type")
    return Tool(sent.function.name, sent.function.description or "", sent.function.parameters or {})


def read_format(sent: dict[str, Any] | str | None) -> Format | None:
    """``"json"`` or a schema."""
    if sent is None or sent == "":
        return None
    if isinstance(sent, dict):
        return Format(asked.check_schema(sent, "format"))
    if sent != "json":
        raise InvalidValue(f"format must be 'json' or a JSON schema, not '{sent[:60]}'", param="format")
    return Format()


def read_think(sent: bool | str | None) -> bool | ThinkLevel | None:
    """On, off, or how much."""
    if not isinstance(sent, str):
        return sent
    level = asked.THINK_LEVELS.get(sent)
    if level is None:
        levels = ", ".join(asked.THINK_LEVELS)
        raise InvalidValue(f"think must be true, false or one of {levels}, not '{sent[:60]}'", param="think")
    return level


def write_chat(request: ChatRequest) -> bytes:
    """The request as a client sends it; ``tool_choice`` has no place in it.

    Raises:
        Unsupported: a tool must be called, which Ollama cannot be told.
    """
    if request.tool_choice.mode in {"required", "function"}:
        raise Unsupported("Ollama's API cannot be told that a tool must be called", param="tool_choice")
    tools = () if request.tool_choice.mode == "none" else request.tools
    return encode(
        wire.Chat(
            messages=[write_message(message) for message in request.messages],
            tools=[_write_tool(tool) for tool in tools] or None,
            **_written(request),
        )
    )


def write_generate(request: GenerateRequest) -> bytes:
    """The request as a client sends it.

    Raises:
        Unsupported: a prompt of token ids, or the prompt back before the answer.
    """
    if not isinstance(request.prompt, str):
        raise Unsupported("Ollama's API takes no token ids as prompt", param="prompt")
    return encode(
        wire.Generate(
            prompt=request.prompt,
            suffix=request.suffix or None,
            system=request.system or None,
            template=request.template or None,
            context=list(request.context) or None,
            raw=request.raw or None,
            images=_write_images(request.images),
            **_written(request),
        )
    )


def _written(request: ChatRequest | GenerateRequest) -> dict[str, Any]:
    chosen = request.format
    return {
        "model": request.model,
        "stream": request.stream,
        "format": None if chosen is None else "json" if chosen.schema is None else chosen.schema,
        "keep_alive": write_keep_alive(request.keep_alive),
        "options": asked.write_options(request.options) or None,
        "think": request.think,
        "truncate": None if request.truncate else False,
        "shift": None if request.shift else False,
        "logprobs": request.logprobs or None,
        "top_logprobs": request.top_logprobs or None,
        "lora": asked.write_lora(request.lora),
    }


def write_message(message: Message) -> wire.Message:
    """One turn."""
    calls, leftover = message_calls(message.tool_calls)
    return wire.Message(
        role=message.role,
        content=message.text + leftover,
        thinking=message.thinking or None,
        images=_write_images([part for part in message.parts if isinstance(part, Image)]),
        tool_calls=calls or None,
        tool_name=message.tool_name or None,
        tool_call_id=message.tool_call_id or None,
    )


def _write_images(images: Sequence[Image]) -> list[str] | None:
    return [b64encode(image.data).decode("ascii") for image in images] or None


def _write_tool(tool: Tool) -> wire.Tool:
    return wire.Tool(wire.ToolFunction(tool.name, tool.description or None, tool.parameters))


def read_embed(body: bytes) -> EmbedRequest:
    """``POST /api/embed``; without input it only loads the model."""
    sent = strict_json.read(body, _EMBED)
    inputs = [sent.input] if isinstance(sent.input, str) else sent.input or []
    return EmbedRequest(
        model=asked.required(sent.model or sent.name, "model"),
        inputs=()
        if inputs == [""] and isinstance(sent.input, str)
        else tuple(asked.at_most(inputs, asked.MAX_INPUTS, "input")),
        single=isinstance(sent.input, str),
        dimensions=asked.within(sent.dimensions, 0, 2**20, "dimensions") or None,
        truncate=sent.truncate is not False,
        options=parse_options(sent.options, prefix="options.") if sent.options else NO_OPTIONS,
        keep_alive=read_keep_alive(sent.keep_alive),
    )


def write_embed(request: EmbedRequest) -> bytes:
    """The request as a client sends it.

    Raises:
        Unsupported: an input of token ids.
    """
    texts = [text for text in request.inputs if isinstance(text, str)]
    if len(texts) < len(request.inputs):
        raise Unsupported("Ollama's API embeds no token ids", param="input")
    return encode(
        wire.Embed(
            model=request.model,
            input=texts[0] if request.single and len(texts) == 1 else texts,
            truncate=None if request.truncate else False,
            dimensions=request.dimensions,
            keep_alive=write_keep_alive(request.keep_alive),
            options=asked.write_options(request.options) or None,
        )
    )


def read_legacy_embed(body: bytes) -> EmbedRequest:
    """``POST /api/embeddings``: one text called ``prompt``."""
    sent = strict_json.read(body, _LEGACY_EMBED)
    return EmbedRequest(
        model=asked.required(sent.model or sent.name, "model"),
        inputs=(sent.prompt,) if sent.prompt else (),
        single=True,
        options=parse_options(sent.options, prefix="options.") if sent.options else NO_OPTIONS,
        keep_alive=read_keep_alive(sent.keep_alive),
    )
