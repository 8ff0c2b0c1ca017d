"""Tool calls that must be made: asked of the engine as JSON of a shape, read back as calls.

llama.cpp's own grammar for "required" lets a model talk for ever before the call, and a small one does. JSON of a given
shape leaves it no choice. The shape is ``{"name": …, "arguments": …}``, with which most models were trained to call:
asked for bare arguments, the built-in model gets them wrong. The tools stand in the prompt as always.
"""

from __future__ import annotations

import json
from uuid import uuid4

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from localmodels.core.chat import ChatRequest, Chunk, Done, Event, Format, Tool, ToolCallDelta
from localmodels.dialects.protocol import EventReader
from localmodels.dialects.strict_json import encode

NAME = "tool_call"


class _Call(Struct):
    name: str
    arguments: msgspec.Raw


_CALL = msgspec.json.Decoder(_Call)


def forced(request: ChatRequest) -> tuple[Tool, ...]:
    """The tools of which one must be called; none where the model may choose."""
    mode, name = request.tool_choice.mode, request.tool_choice.name
    if mode == "function":
        return tuple(tool for tool in request.tools if tool.name == name)
    # A reference points from the root of its schema, which a choice of several would move.
    movable = len(request.tools) == 1 or not any(b'"$ref"' in encode(tool.parameters) for tool in request.tools)
    return request.tools if mode == "required" and movable else ()


def shape(tools: tuple[Tool, ...]) -> Format:
    """The JSON that says a call of one of them."""
    calls = [
        {
            "type": "object",
            "properties": {"name": {"const": tool.name}, "arguments": _arguments(tool)},
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for tool in tools
    ]
    return Format(calls[0] if len(calls) == 1 else {"anyOf": calls}, NAME)


def _arguments(tool: Tool) -> dict[str, object]:
    return dict(tool.parameters) if tool.parameters else {"type": "object", "additionalProperties": False}


class CallReader:
    """Reads the JSON that :func:`shape` asked for as a tool call, which is handed on whole.

    What breaks off in the middle is told as text, never as a call.

    Args:
        reader: of the answer that carries the JSON.
    """

    def __init__(self, reader: EventReader) -> None:
        self._reader = reader
        self._text: list[str] = []

    def feed(self, data: bytes) -> list[Event]:
        """The events completed by these bytes."""
        return [read for event in self._reader.feed(data) for read in self._read(event)]

    def close(self) -> None:
        """Tells that the connection ended."""
        self._reader.close()

    def _read(self, event: Event) -> list[Event]:
        if isinstance(event, Done):
            return self._end(event)
        self._text.append(event.text)
        return [Chunk(thinking=event.thinking)] if event.thinking else []

    def _end(self, done: Done) -> list[Event]:
        text = "".join(self._text)
        try:
            call = _CALL.decode(text)
        except msgspec.DecodeError:
            return [Chunk(text), done] if text else [done]
        arguments = json.dumps(json.loads(bytes(call.arguments)), ensure_ascii=False)
        delta = ToolCallDelta(0, f"call_{uuid4().hex[:24]}", call.name, arguments)
        return [Chunk(tool_calls=(delta,)), replace(done, reason="tool_calls") if done.reason == "stop" else done]
