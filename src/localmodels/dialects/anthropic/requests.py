"""Anthropic's requests, read as a server and written as a client.

The one rule: what a client sends unasked (hosted tools, cache marks, beta fields) is passed over and, where it matters,
named; what a conversation cannot do without is refused by the name of its field. Results of tools are messages of their
own here, and neighbours of one role are one turn.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from localmodels.core.chat import ChatRequest, Format, Message, Text, ThinkLevel, Tool, ToolChoice
from localmodels.core.errors import InvalidRequest, InvalidValue
from localmodels.core.options import INT32_MAX, OPTIONS, Options, check
from localmodels.dialects import asked, strict_json
from localmodels.dialects.anthropic import blocks, wire
from localmodels.dialects.durations import read_keep_alive, write_keep_alive
from localmodels.dialects.strict_json import encode

_REQUEST = msgspec.json.Decoder(wire.Request)

# Agents bring more than the other dialects' 128: Claude Code with a few MCP servers sends 130.
MAX_TOOLS = 256
# Anthropic's API insists on a limit. This is what Claude Code asks of every model; larger ones some models refuse.
MAX_TOKENS = 32_000
_TOP = ("temperature", "top_p", "top_k", "max_tokens")
_EFFORTS: Mapping[str, ThinkLevel] = {"low": "low", "medium": "medium", "high": "high", "xhigh": "max", "max": "max"}
_THINKS: Mapping[str, bool] = {"enabled": True, "adaptive": True, "between_tools": True, "disabled": False}
_CHOICES: Mapping[str, ToolChoice] = {
    "auto": ToolChoice("auto"),
    "any": ToolChoice("required"),
    "none": ToolChoice("none"),
}
# Claude Code's first block of the system text holds a hash that is another one each time: as it stands, no prompt would
# begin like the one before, and each would be computed from its start.
_BILLING = "x-anthropic-billing-header:"
_HASH = re.compile(r"(?<=\bcch=)[^;\s]+")
_CONSTANT_HASH = "fffff"


def read_chat(body: bytes) -> ChatRequest:
    """``POST /v1/messages``."""
    sent = strict_json.read(body, _REQUEST)
    asked.within(asked.required(sent.max_tokens, "max_tokens"), 0, INT32_MAX, "max_tokens")
    return replace(_conversation(sent), options=_read_options(sent), stream=bool(sent.stream), early_prompt=True)


def read_count(body: bytes) -> ChatRequest:
    """``POST /v1/messages/count_tokens``: a conversation that nobody goes on with."""
    return _conversation(strict_json.read(body, _REQUEST))


def _conversation(sent: wire.Request) -> ChatRequest:
    """What makes the prompt."""
    if sent.truncation not in {None, "auto", "disabled"}:
        raise InvalidValue("truncation must be 'auto' or 'disabled'", param="truncation")
    tools, ignored = _read_tools(sent.tools or ())
    think, budget = _read_thinking(sent)
    return ChatRequest(
        model=asked.required(sent.model, "model"),
        messages=(*_read_system(sent.system), *_read_messages(sent.messages)),
        tools=tools,
        tool_choice=_read_choice(sent.tool_choice, tools),
        parallel_tool_calls=_read_parallel(sent.tool_choice),
        format=_read_format(sent),
        think=think,
        think_wish=True,
        think_budget=budget,
        keep_alive=read_keep_alive(sent.keep_alive),
        truncate=sent.truncation != "disabled",
        ignored_tools=ignored,
        include_thinking=not (sent.thinking and sent.thinking.display == "omitted"),
    )


def _read_options(sent: wire.Request) -> Options:
    options = asked.read_options(sent.options, {name: getattr(sent, name) for name in _TOP})
    if sent.stop_sequences is None or options.stop is not None:
        return options
    return replace(options, stop=check(OPTIONS["stop"], sent.stop_sequences, param="stop_sequences"))


def _read_system(sent: str | list[wire.Block] | None) -> tuple[Message, ...]:
    if not sent:
        return ()
    said = (Text(sent),) if isinstance(sent, str) else blocks.read_texts(sent, "system")
    parts = tuple(Text(_without_hash(part.text)) for part in said)
    return (Message("system", parts),) if parts else ()


def _without_hash(text: str) -> str:
    return _HASH.sub(_CONSTANT_HASH, text, count=1) if text.startswith(_BILLING) else text


def _read_messages(sent: list[wire.Message] | None) -> tuple[Message, ...]:
    listed = asked.at_most(asked.required(sent or None, "messages"), asked.MAX_MESSAGES, "messages")
    read = [message for i, one in enumerate(listed) for message in blocks.read_message(one, f"messages[{i}]")]
    asked.check_images(read, "messages")
    messages = joined(read)
    if not messages:
        raise InvalidRequest("messages hold nothing that a model could answer", param="messages")
    if messages[-1].tool_calls:
        last = f"messages[{len(listed) - 1}]"
        raise InvalidRequest(f"{last}: a tool_use must be followed by its tool_result", param=last)
    return messages


def joined(messages: Iterable[Message]) -> tuple[Message, ...]:
    """The messages, neighbours of one role as one: templates want turns to alternate, and engines refuse two ends."""
    turns: list[Message] = []
    for message in messages:
        before = turns[-1] if turns else None
        if before is None or before.role != message.role or message.role not in {"user", "assistant"}:
            turns.append(message)
        else:
            turns[-1] = _together(before, message)
    return tuple(turns)


def _together(first: Message, second: Message) -> Message:
    """Two messages as one. An assistant's text goes on where it stopped; a user's are two paragraphs."""
    parts = (*first.parts, *second.parts)
    if first.parts and second.parts:
        end, beginning = first.parts[-1], second.parts[0]
        if isinstance(end, Text) and isinstance(beginning, Text):
            between = "\n\n" if first.role == "user" else ""
            parts = (*first.parts[:-1], Text(end.text + between + beginning.text), *second.parts[1:])
    return replace(
        first,
        parts=parts,
        thinking=first.thinking + second.thinking,
        tool_calls=(*first.tool_calls, *second.tool_calls),
    )


def _read_tools(sent: Sequence[wire.Tool]) -> tuple[tuple[Tool, ...], tuple[str, ...]]:
    """The tools that a client runs, and the names of those that only Anthropic's servers have or know how to call."""
    tools: list[Tool] = []
    ignored: list[str] = []
    for i, tool in enumerate(asked.at_most(sent, MAX_TOOLS, "tools")):
        name = f"tools[{i}]"
        if tool.type not in {None, "custom"}:
            ignored.append(tool.name or str(tool.type))
            continue
        schema = asked.required(tool.input_schema, f"{name}.input_schema")
        asked.check_schema(schema, f"{name}.input_schema")
        tools.append(Tool(asked.required(tool.name, f"{name}.name"), tool.description or "", schema))
    return tuple(tools), tuple(ignored)


def _read_choice(sent: wire.ToolChoice | None, tools: Sequence[Tool]) -> ToolChoice:
    if sent is None:
        return ToolChoice()
    if sent.type == "tool":
        wanted = asked.required(sent.name, "tool_choice.name")
        if not any(tool.name == wanted for tool in tools):
            raise InvalidRequest(
                f"tool_choice.name is '{wanted[:60]}', which is not among the tools that can be called here",
                param="tool_choice.name",
            )
        return ToolChoice("function", wanted)
    choice = _CHOICES.get(sent.type)
    if choice is None:
        words = ", ".join((*_CHOICES, "tool"))
        raise InvalidValue(f"tool_choice.type must be one of {words}, not '{sent.type[:60]}'", param="tool_choice.type")
    if choice.mode == "required" and not tools:
        raise InvalidRequest("tool_choice is any, but there are no tools that can be called here", param="tool_choice")
    return choice


def _read_parallel(sent: wire.ToolChoice | None) -> bool | None:
    return None if sent is None or sent.disable_parallel_tool_use is None else not sent.disable_parallel_tool_use


def _read_thinking(sent: wire.Request) -> tuple[bool | ThinkLevel | None, int | None]:
    """Whether to think and how hard, and for how many tokens at most."""
    effort = sent.output_config.effort if sent.output_config else None
    if effort is not None and effort not in _EFFORTS:
        name = "output_config.effort"
        raise InvalidValue(f"{name} must be one of {', '.join(_EFFORTS)}, not '{effort[:60]}'", param=name)
    level = _EFFORTS[effort] if effort else None
    if sent.thinking is None:
        return level, None
    if sent.thinking.type not in _THINKS:
        name = "thinking.type"
        raise InvalidValue(f"{name} must be one of {', '.join(_THINKS)}, not '{sent.thinking.type[:60]}'", param=name)
    if not _THINKS[sent.thinking.type]:
        return False, None
    return level or True, asked.within(sent.thinking.budget_tokens, 1, INT32_MAX, "thinking.budget_tokens")


def _read_format(sent: wire.Request) -> Format | None:
    """The newer place of the shape, or the older one."""
    newer = sent.output_config.format if sent.output_config else None
    shape, name = (newer, "output_config.format") if newer else (sent.output_format, "output_format")
    if shape is None:
        return None
    if shape.type != "json_schema":
        raise InvalidValue(f"{name}.type must be json_schema, not '{shape.type[:60]}'", param=f"{name}.type")
    schema = asked.required(shape.schema, f"{name}.schema")
    return Format(asked.check_schema(schema, f"{name}.schema"))


def write_chat(request: ChatRequest) -> bytes:
    """The request as a client sends it."""
    options = asked.write_options(request.options)
    limit = options.pop("num_predict", None)
    sent = _write_conversation(request)
    sent.max_tokens = MAX_TOKENS if limit is None or limit < 0 else limit
    sent.stop_sequences = options.pop("stop", None)
    for name in ("temperature", "top_p", "top_k"):
        setattr(sent, name, options.pop(name, None))
    sent.stream = request.stream or None
    sent.options = options or None
    return encode(sent)


def write_count_request(request: ChatRequest) -> bytes:
    """The question how long a conversation is."""
    return encode(_write_conversation(request))


def _write_conversation(request: ChatRequest) -> wire.Request:
    system, messages = blocks.write_messages(request.messages)
    return wire.Request(
        model=request.model,
        messages=messages,
        system=system,
        tools=[wire.Tool(tool.name, tool.description or None, tool.parameters) for tool in request.tools] or None,
        tool_choice=_write_choice(request),
        thinking=_write_thinking(request),
        output_config=_write_output(request),
        keep_alive=write_keep_alive(request.keep_alive),
        truncation=None if request.truncate else "disabled",
    )


_MODES: Mapping[str, str] = {"auto": "auto", "none": "none", "required": "any", "function": "tool"}


def _write_choice(request: ChatRequest) -> wire.ToolChoice | None:
    choice, parallel = request.tool_choice, request.parallel_tool_calls
    if not request.tools or (choice == ToolChoice() and parallel is None):
        return None  # without tools the API takes none
    return wire.ToolChoice(
        _MODES[choice.mode],
        choice.name or None,
        None if parallel is None or choice.mode == "none" else not parallel,
    )


def _write_thinking(request: ChatRequest) -> wire.Thinking | None:
    if request.think is None:
        return None
    if request.think is False:
        return wire.Thinking("disabled")
    kind = "adaptive" if request.think_budget is None else "enabled"
    return wire.Thinking(kind, request.think_budget, None if request.include_thinking else "omitted")


def _write_output(request: ChatRequest) -> wire.OutputConfig | None:
    effort = request.think if isinstance(request.think, str) else None
    shape = None
    if request.format is not None:
        schema = request.format.schema
        # This API has no JSON without a schema: any object will do.
        shape = wire.OutputFormat("json_schema", {"type": "object"} if schema is None else schema)
    return wire.OutputConfig(effort, shape) if effort or shape else None
