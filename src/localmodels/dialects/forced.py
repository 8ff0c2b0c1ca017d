"""Tool calls that must be made: asked of the engine as JSON of a shape, read back as calls.

llama.cpp's own grammar for "required" lets a model talk for ever before the call, and a small one does. JSON of a given
shape leaves it no choice. The shape is ``{"name": …, "arguments": …}``, with which most models were trained to call:
asked for bare arguments, the built-in model gets them wrong. The tools stand in the prompt as always.
"""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from localmodels.core.chat import ChatRequest, Chunk, Done, Event, Format, Tool, ToolCallDelta
from localmodels.dialects.called import arguments_text
from localmodels.dialects.protocol import EventReader
from localmodels.dialects.strict_json import encode

NAME = "tool_call"
# Under these keys of a schema stand values, not schemas.
_DATA = frozenset({"const", "enum", "default", "examples"})


class _Call(Struct):
    name: str
    arguments: msgspec.Raw


_CALL = msgspec.json.Decoder(_Call)


def forced(request: ChatRequest) -> tuple[Tool, ...]:
    """The tools of which one must be called; none where the model may choose."""
    mode, name = request.tool_choice.mode, request.tool_choice.name
    if mode == "function":
        return tuple(tool for tool in request.tools if tool.name == name)
    return request.tools if mode == "required" else ()


def shape(tools: tuple[Tool, ...]) -> Format:
    """The JSON that says a call of one of them."""
    definitions: dict[str, object] = {}
    calls = [
        {
            "type": "object",
            "properties": {"name": {"const": tool.name}, "arguments": _arguments(tool, definitions)},
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for tool in tools
    ]
    call = calls[0] if len(calls) == 1 else {"anyOf": calls}
    return Format({**call, "$defs": definitions} if definitions else call, NAME)


def _arguments(tool: Tool, definitions: dict[str, object]) -> dict[str, object]:
    """The schema of a tool's arguments. One that points into itself is put among the definitions."""
    if not tool.parameters:
        return {"type": "object", "additionalProperties": False}
    parameters = dict(tool.parameters)
    if b'"$ref"' not in encode(parameters):
        return parameters
    place = f"#/$defs/tool{len(definitions)}"
    definitions[f"tool{len(definitions)}"] = _moved(parameters, place)
    return {"$ref": place}


def _moved(schema: Any, place: str) -> Any:
    """A schema whose references, which point from its root, find what they mean when the root is at ``place``."""
    if isinstance(schema, list):
        return [_moved(item, place) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: place + value[1:]
        if key == "$ref" and isinstance(value, str) and value.startswith("#")
        else value
        if key in _DATA
        else _moved(value, place)
        for key, value in schema.items()
    }


class CallReader:
    """Reads the JSON that :func:`shape` asked for as a tool call.

    Args:
        reader: of the answer that carries the JSON.
    """

    def __init__(self, reader: EventReader) -> None:
        self._reader = reader
        self._call = ForcedCall()

    def feed(self, data: bytes) -> list[Event]:
        """The events completed by these bytes."""
        return [read for event in self._reader.feed(data) for read in self._call.read(event)]

    def close(self) -> None:
        """Tells that the connection ended."""
        self._reader.close()


class ForcedCall:
    """Makes a tool call of the events that carry its JSON; it is handed on whole.

    What breaks off in the middle is told as text, never as a call.
    """

    def __init__(self) -> None:
        self._text: list[str] = []

    def read(self, event: Event) -> list[Event]:
        """What is certain after this event."""
        if isinstance(event, Done):
            return self._end(event)
        self._text.append(event.text)
        return [Chunk(thinking=event.thinking, prompt=event.prompt)] if event.thinking or event.prompt else []

    def _end(self, done: Done) -> list[Event]:
        text = "".join(self._text)
        try:
            call = _CALL.decode(text)
            arguments = arguments_text(json.loads(bytes(call.arguments)))
        except (msgspec.DecodeError, ValueError, RecursionError):  # broken off, endless digits, endless brackets
            arguments = None
        if arguments is None:
            return [Chunk(text), done] if text else [done]
        delta = ToolCallDelta(0, f"call_{uuid4().hex[:24]}", call.name, arguments)
        return [Chunk(tool_calls=(delta,)), replace(done, reason="tool_calls") if done.reason == "stop" else done]
