"""Tools in OpenAI's chats: what may be called, what must be, and what was, functions and custom tools alike.

The rule: a call is of the kind of the tool that it calls, in both directions. What a custom tool takes is a text, in a
field of another name than a function's arguments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from localmodels.core.chat import Tool, ToolCall, ToolCallDelta, ToolChoice
from localmodels.core.errors import InvalidRequest, InvalidValue, Unsupported
from localmodels.dialects import asked
from localmodels.dialects.openai import wire
from localmodels.dialects.strict_json import encode

_WORDS: Mapping[str, ToolChoice] = {
    "auto": ToolChoice("auto"),
    "none": ToolChoice("none"),
    "required": ToolChoice("required"),
}


def read_tools(
    sent: Sequence[wire.Tool] | None, choice: str | wire.ToolChoice | None
) -> tuple[tuple[Tool, ...], ToolChoice]:
    """The tools that may be called, and which must be."""
    tools = asked.check_tools([_read_tool(tool, f"tools[{i}]") for i, tool in enumerate(sent or ())])
    return _chosen(tools, choice)


def _read_tool(sent: wire.Tool, name: str) -> Tool:
    if sent.type == "custom":
        tool = asked.required(sent.custom, f"{name}.custom")
        grammar = _read_grammar(tool.format, f"{name}.custom.format")
        title = asked.required(tool.name, f"{name}.custom.name")
        return Tool(title, tool.description or "", custom=True, grammar=grammar)
    if sent.type != "function":
        raise Unsupported(f"{name}.type must be function or custom, not '{sent.type[:60]}'", param=f"{name}.type")
    function = asked.required(sent.function, f"{name}.function")
    return Tool(function.name, function.description or "", function.parameters or {})


def _read_grammar(sent: wire.CustomFormat | None, name: str) -> str:
    """Of a custom tool; empty where any text will do."""
    if sent is None or sent.type == "text":
        return ""
    if sent.type != "grammar":
        raise InvalidValue(f"{name}.type must be text or grammar", param=f"{name}.type")
    grammar = asked.required(sent.grammar, f"{name}.grammar")
    return asked.read_grammar(grammar.syntax, grammar.definition, f"{name}.grammar")


def _chosen(tools: tuple[Tool, ...], sent: str | wire.ToolChoice | None) -> tuple[tuple[Tool, ...], ToolChoice]:
    """The tools that remain, and which must be called."""
    if isinstance(sent, wire.ToolChoice):
        if sent.type == "allowed_tools" and sent.allowed_tools:
            allowed = {named.name for tool in sent.allowed_tools.tools if (named := tool.function or tool.custom)}
            return _chosen(tuple(tool for tool in tools if tool.name in allowed), sent.allowed_tools.mode)
        named = {"function": sent.function, "custom": sent.custom}.get(sent.type)
        if named is None:
            raise Unsupported(f"tool_choice of type '{sent.type[:60]}' is not supported", param="tool_choice")
        if not any(tool.name == named.name and tool.custom == (sent.type == "custom") for tool in tools):
            raise InvalidRequest(
                f"tool_choice names '{named.name[:60]}', which is not among tools", param="tool_choice"
            )
        return tools, ToolChoice("function", named.name)
    choice = _WORDS.get(sent or "auto")
    if choice is None:
        raise InvalidValue(f"tool_choice must be one of {', '.join(_WORDS)} or an object", param="tool_choice")
    if choice.mode == "required" and not tools:
        raise InvalidRequest("tool_choice is required, but there are no tools", param="tool_choice")
    return tools, choice


def write_tools(tools: Sequence[Tool]) -> list[wire.Tool]:
    """The tools."""
    return [_write_custom(tool) if tool.custom else _write_function(tool) for tool in tools]


def _write_function(tool: Tool) -> wire.Tool:
    return wire.Tool("function", wire.ToolFunction(tool.name, tool.description or None, tool.parameters))


def _write_custom(tool: Tool) -> wire.Tool:
    form = wire.CustomFormat("grammar", wire.Grammar("lark", tool.grammar)) if tool.grammar else None
    return wire.Tool("custom", custom=wire.CustomTool(tool.name, tool.description or None, form))


def write_choice(choice: ToolChoice, tools: Sequence[Tool]) -> str | wire.ToolChoice | None:
    """Which of them must be called."""
    if choice.mode != "function":
        return None if choice.mode == "auto" else choice.mode
    if any(tool.custom for tool in tools if tool.name == choice.name):
        return wire.ToolChoice("custom", custom=wire.Named(choice.name))
    return wire.ToolChoice("function", wire.Named(choice.name))


def read_call(call: wire.ToolCall, name: str) -> ToolCall:
    """A call in an earlier turn."""
    if call.custom is not None:
        title = asked.required(call.custom.name, f"{name}.custom.name")
        return ToolCall(call.id or "", title, call.custom.input or "", custom=True)
    if call.function is None or not call.function.name:
        raise InvalidRequest(f"{name}.function.name is required", param=f"{name}.function.name")
    return ToolCall(call.id or "", call.function.name, _arguments(call.function.arguments))


def write_call(call: ToolCall) -> wire.ToolCall:
    """A whole call."""
    if call.custom:
        return wire.ToolCall(None, call.id, "custom", custom=wire.CustomCall(call.name, call.arguments))
    return wire.ToolCall(None, call.id, "function", wire.Function(call.name, call.arguments))


def read_deltas(calls: Sequence[wire.ToolCall]) -> tuple[ToolCallDelta, ...]:
    """Pieces of calls, or whole ones."""
    return tuple(_read_delta(i if call.index is None else call.index, call) for i, call in enumerate(calls))


def _read_delta(index: int, call: wire.ToolCall) -> ToolCallDelta:
    if call.custom is not None:
        return ToolCallDelta(index, call.id or "", call.custom.name or "", call.custom.input or "", custom=True)
    function = call.function or wire.Function()
    return ToolCallDelta(index, call.id or "", function.name or "", _arguments(function.arguments))


def write_delta(call: ToolCallDelta) -> wire.ToolCall:
    """A piece of a call; the first says of which kind it is."""
    if call.custom:
        custom = wire.CustomCall(call.name or None, call.arguments)
        return wire.ToolCall(call.index, call.id or None, "custom" if call.name else None, custom=custom)
    function = wire.Function(call.name or None, call.arguments)
    return wire.ToolCall(call.index, call.id or None, "function" if call.name else None, function)


def _arguments(arguments: str | dict[str, Any] | None) -> str:
    """Arguments as the text that they are, or the text of the object that some send instead."""
    return encode(arguments).decode() if isinstance(arguments, dict) else arguments or ""
