"""Messages and tools as templates see them. The rule: the fields, the order and the JSON are Ollama's.

Models were trained on these very texts, so a schema says no more here than Ollama lets through: of a property its type,
description, items, choices, alternatives and inner properties; every number with a point (JSON has no other); keys of
arguments sorted. In one thing it is as Ollama was, not as it is: ``{{ .Function }}`` and ``{{ .Parameters }}`` print as
JSON, which is what the templates of its library want; today's Ollama prints the inside of a Go struct there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from localmodels.artifacts.gotemplate.gojson import to_json
from localmodels.artifacts.gotemplate.printing import show
from localmodels.artifacts.gotemplate.values import Map, Record, Shape, Slice, Value
from localmodels.core.chat import Message, Text, Tool, ToolCall
from localmodels.core.errors import InvalidRequest, InvalidValue

DEEPEST_SCHEMA = 64


class Strings(Slice):
    """``[]string``."""

    go_type = "[]string"


class Items(Slice):
    """A list that is nil when it is empty."""


class Calls(Slice):
    """The calls of a message."""

    go_type = "[]template.templateToolCall"


class NoCalls(Calls):
    """No calls."""

    nil = True


class Images(Slice):
    """The pictures of a message."""

    go_type = "[]api.ImageData"


class NoImages(Images):
    """No pictures."""

    nil = True


class Messages(Slice):
    """All messages."""

    go_type = "[]*template.templateMessage"


class Tools(Slice):
    """All tools."""

    go_type = "template.templateTools"
    shown = to_json


class NoTools(Tools):
    """No tools."""

    nil = True


class NoStrings(Strings):
    """No texts."""

    nil = True


class NoItems(Items):
    """No items."""

    nil = True


class Types(Slice):
    """The types that a property may have: a text when there is one, else a list."""

    go_type = "api.PropertyType"

    def shown(self) -> str:
        return self[0] if len(self) == 1 else show(tuple(self)) if self else ""

    def plain(self) -> Value:
        return self[0] if len(self) == 1 else tuple(self)


class Arguments(Map):
    """The arguments of a call."""

    go_type = "template.templateArgs"
    shown = to_json


class Ordered(Map):
    """An object whose keys stay in the order in which they were sent."""

    ordered = True


def _typescript(record: Record) -> str:
    alternatives = record.fields["AnyOf"]
    if alternatives:
        return " | ".join(map(_typescript, alternatives))
    return " | ".join(_TYPESCRIPT.get(kind, "any") for kind in record.fields["Type"]) or "any"


_TYPESCRIPT: Mapping[str, str] = {
    "string": "string",
    "number": "number",
    "integer": "number",
    "boolean": "boolean",
    "array": "any[]",
    "object": "Record<string, any>",
    "null": "null",
}


def _json_fields(*fields: str) -> tuple[tuple[str, str, bool], ...]:
    """Go's field tags: ``Name=name``, with a question mark where an empty value is left out."""
    pairs = (field.rstrip("?").split("=") for field in fields)
    return tuple((name, key, field.endswith("?")) for (name, key), field in zip(pairs, fields, strict=True))


PROPERTY = Shape(
    "api.ToolProperty",
    json=_json_fields(
        "AnyOf=anyOf?", "Type=type?", "Items=items?", "Description=description?", "Enum=enum?",
        "Properties=properties?", "Required=required?",
    ),
    methods={"ToTypeScriptType": _typescript},
)  # fmt: skip
INNER = Shape(
    "api.ToolPropertiesMap",
    shown=to_json,
    plain=lambda record: Ordered(record.fields["om"]),
    methods={"Len": lambda record: len(record.fields["om"]), "ToMap": lambda record: Properties(record.fields["om"])},
    identity=True,
)
PARAMETERS = Shape(
    "template.templateToolFunctionParameters",
    json=_json_fields("Type=type", "Defs=$defs?", "Items=items?", "Required=required?", "Properties=properties"),
    shown=to_json,
)
FUNCTION = Shape(
    "template.templateToolFunction",
    json=_json_fields("Name=name", "Description=description", "Parameters=parameters"),
    shown=to_json,
)
TOOL = Shape(
    "template.templateTool", json=_json_fields("Type=type", "Items=items?", "Function=function"), shown=to_json
)
MESSAGE = Shape("template.templateMessage", identity=True)
CALL = Shape("template.templateToolCall")
CALLED = Shape("template.templateToolCallFunction")


class Properties(Map):
    """The parameters of a tool. One that is not there is a property about which nothing is said."""

    go_type = "template.templateProperties"
    shown = to_json
    missing = Record(
        PROPERTY,
        {
            "AnyOf": NoItems(),
            "Type": Types(),
            "Items": None,
            "Description": "",
            "Enum": NoItems(),
            "Properties": None,
            "Required": NoStrings(),
        },
    )


class NoProperties(Properties):
    """No parameters: an empty object when printed, null in JSON."""

    nil = True

    def shown(self) -> str:
        return "{}"


# Messages


def message(source: Message, content: str) -> Record:
    """A message, with the content that it has after pictures were marked and neighbours joined.

    Raises:
        InvalidRequest: the arguments of a call are no JSON object.
    """
    calls = tuple(_call(call, number) for number, call in enumerate(source.tool_calls))
    images = tuple(part.data for part in source.parts if not isinstance(part, Text))
    return Record(
        MESSAGE,
        {
            "Role": source.role,
            "Content": content,
            "Thinking": source.thinking,
            "Images": Images(images) if images else NoImages(),
            "ToolCalls": Calls(calls) if calls else NoCalls(),
            "ToolName": source.tool_name,
            "ToolCallID": source.tool_call_id,
        },
    )


def _call(call: ToolCall, number: int) -> Record:
    called = {"Index": number, "Name": call.name, "Arguments": _arguments(call)}
    return Record(CALL, {"ID": call.id, "Function": Record(CALLED, called)})


def _arguments(call: ToolCall) -> Arguments:
    try:
        read = msgspec.json.decode(call.arguments or "{}", type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError) as error:
        raise InvalidRequest(
            f"the arguments of the tool call {call.name[:60]!r} must be a JSON object", param="messages"
        ) from error
    return Arguments({key: _plain(value, "messages", 1) for key, value in read.items()})


def _plain(value: Any, where: str, depth: int) -> Value:
    """A JSON value as Go reads it."""
    if depth > DEEPEST_SCHEMA:
        raise InvalidValue(f"{where}: nested more than {DEEPEST_SCHEMA} deep", param=where)
    if isinstance(value, dict):
        return Map({str(key): _plain(item, where, depth + 1) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return tuple(_plain(item, where, depth + 1) for item in value)
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError as error:
            raise InvalidValue(f"{where}: a number is too large", param=where) from error
    return value


# Tools


def tools(sources: Sequence[Tool]) -> Tools:
    """The tools of a request.

    Raises:
        InvalidValue: a schema says something that a prompt cannot.
    """
    return Tools(_tool(tool, f"tools[{number}].parameters") for number, tool in enumerate(sources)) or NoTools()


def _tool(tool: Tool, where: str) -> Record:
    schema = tool.parameters
    parameters = {
        "Type": _text(schema.get("type"), f"{where}.type"),
        "Defs": _plain(schema.get("$defs"), f"{where}.$defs", 1),
        "Items": _plain(schema.get("items"), f"{where}.items", 1),
        "Required": _strings(schema.get("required"), f"{where}.required"),
        "Properties": _properties(schema.get("properties"), where, 1),
    }
    function = {"Name": tool.name, "Description": tool.description, "Parameters": Record(PARAMETERS, parameters)}
    return Record(TOOL, {"Type": "function", "Items": None, "Function": Record(FUNCTION, function)})


def _properties(value: Any, where: str, depth: int) -> Properties:
    where = f"{where}.properties"
    if depth > DEEPEST_SCHEMA:
        raise InvalidValue(f"{where}: nested more than {DEEPEST_SCHEMA} deep", param="tools")
    if value is None:
        return NoProperties()
    described = _object(value, where)
    return Properties({str(name): _property(item, f"{where}.{name}", depth) for name, item in described.items()})


def _property(value: Any, where: str, depth: int) -> Record:
    if depth > DEEPEST_SCHEMA:
        raise InvalidValue(f"{where}: nested more than {DEEPEST_SCHEMA} deep", param="tools")
    schema = _object(value, where)
    inner = schema.get("properties")
    kinds = schema.get("type")
    alternatives = _list(schema.get("anyOf"), f"{where}.anyOf")
    return Record(
        PROPERTY,
        {
            "AnyOf": Items(_property(item, f"{where}.anyOf", depth + 1) for item in alternatives) or NoItems(),
            "Type": Types((kinds,) if isinstance(kinds, str) else _strings(kinds, f"{where}.type")),
            "Items": _plain(schema.get("items"), f"{where}.items", 1),
            "Description": _text(schema.get("description"), f"{where}.description"),
            "Enum": Items(_plain(_list(schema.get("enum"), f"{where}.enum"), where, 1)) or NoItems(),
            "Properties": None if inner is None else Record(INNER, {"om": _properties(inner, where, depth + 1)}),
            "Required": _strings(schema.get("required"), f"{where}.required"),
        },
    )


def _strings(value: Any, where: str) -> Strings:
    return Strings(_text(text, where) for text in _list(value, where)) or NoStrings()


def _text(value: Any, where: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _wrong(where, "a text", value)
    return value


def _list(value: Any, where: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise _wrong(where, "a list", value)
    return value


def _object(value: Any, where: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _wrong(where, "an object", value)
    return value


def _wrong(where: str, expected: str, value: Any) -> InvalidValue:
    return InvalidValue(f"{where[:200]} must be {expected}, not {repr(value)[:60]}", param="tools")
