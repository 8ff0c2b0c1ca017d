"""Requests of the Responses API, read as a server and written as a client.

:class:`Create` is a question with all that only this API knows of it. The conversation is made at last, since it may go
on from responses that are kept elsewhere. Tools that a server would run itself are left out and named: clients send
them unasked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from localmodels.core.chat import ChatRequest, Format, ThinkLevel, Tool, ToolChoice
from localmodels.core.errors import InvalidRequest, InvalidValue, Unsupported
from localmodels.dialects import asked, strict_json
from localmodels.dialects.durations import read_keep_alive, write_keep_alive
from localmodels.dialects.openai.requests import SCHEMA_NAME
from localmodels.dialects.responses import wire
from localmodels.dialects.responses.items import (
    TOOLS,
    Item,
    conversation,
    converted,
    full_name,
    kind_of,
    read_items,
    write_items,
)
from localmodels.dialects.strict_json import encode

_ASKED = msgspec.json.Decoder(wire.Asked)
LOGPROBS = "message.output_text.logprobs"
ENCRYPTED = "reasoning.encrypted_content"
MAX_METADATA, MAX_KEY, MAX_VALUE = 16, 64, 512
_WORDS: Mapping[str, ToolChoice] = {
    "auto": ToolChoice("auto"),
    "none": ToolChoice("none"),
    "required": ToolChoice("required"),
}
# Options that go at the top level as a client; the rest goes into ``options``, which is ours.
_TOP = frozenset({"temperature", "top_p"})


class Create(Struct, frozen=True):
    """A question of this API.

    Attributes:
        request: as every model is asked, without messages.
        items: that the caller sent with it.
        echo: the response before it has an id: what was asked, as it is said back.
        previous_id: of the response that it goes on from; empty for none.
        namespaces: of tools that are in one, the namespace and the name in it by the full name.
        summary: thoughts are told as their summary.
        encrypted: thoughts are also told sealed, for clients that keep nothing else.
        ignored_tools: kinds of tools that nobody here runs.
        ignored_items: kinds of items that nobody here understands.
        size: bytes in which it came.
    """

    request: ChatRequest
    items: tuple[Item, ...] = ()
    echo: wire.Response = wire.Response()
    previous_id: str = ""
    namespaces: Mapping[str, tuple[str, str]] = {}
    summary: bool = False
    encrypted: bool = False
    ignored_tools: tuple[str, ...] = ()
    ignored_items: tuple[str, ...] = ()
    size: int = 0

    def after(self, history: Sequence[Item] = ()) -> ChatRequest:
        """The question, in a conversation that may have begun before.

        Raises:
            InvalidRequest, InvalidValue: the items do not make one.
            NotFound: a reference to an item that is nowhere.
        """
        messages = conversation(history, self.items, self.echo.instructions)
        if not messages or not (history or self.items):
            raise InvalidRequest("input is required", param="input")
        return replace(self.request, messages=messages)


def read_create(body: bytes) -> Create:
    """``POST /v1/responses``, and ``/v1/responses/input_tokens``."""
    sent = strict_json.read(body, _ASKED)
    _check(sent)
    items, ignored_items = read_items(sent.input)
    offered = _Offered(_tools(sent))
    tools, choice = offered.chosen(sent.tool_choice)
    reasoning = sent.reasoning or wire.Reasoning()
    include = sent.include or ()
    request = ChatRequest(
        model=asked.required(sent.model, "model"),
        messages=(),
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=sent.parallel_tool_calls,
        format=_read_format(sent.text.format if sent.text else None),
        think=_read_effort(reasoning.effort),
        options=asked.read_options(sent.options, sent.chosen()),
        stream=bool(sent.stream),
        keep_alive=read_keep_alive(sent.keep_alive),
        truncate=sent.truncation == "auto",
        shift=sent.shift is not False,
        logprobs=LOGPROBS in include,
        top_logprobs=asked.within(sent.top_logprobs, 0, asked.MAX_TOP_LOGPROBS, "top_logprobs") or 0,
        lora=asked.read_lora(sent.lora),
        think_wish=True,
    )
    summary = reasoning.summary or reasoning.generate_summary
    return Create(
        request=request,
        items=items,
        echo=_echo(sent, request, summary),
        previous_id=sent.previous_response_id or "",
        namespaces=offered.namespaces,
        summary=bool(summary),
        encrypted=ENCRYPTED in include,
        ignored_tools=offered.ignored,
        ignored_items=ignored_items,
        size=len(body),
    )


def read_chat(body: bytes) -> ChatRequest:
    """The same where nothing is kept.

    Raises:
        Unsupported: it goes on from a response.
    """
    create = read_create(body)
    if create.previous_id:
        raise Unsupported("no responses are kept here; send the whole conversation", param="previous_response_id")
    return create.after()


def plain(request: ChatRequest) -> Create:
    """The question of this API that a request amounts to, for those who answer it in this dialect."""
    options = request.options
    echo = wire.Response(
        model=request.model,
        store=False,
        parallel_tool_calls=request.parallel_tool_calls is not False,
        temperature=1.0 if options.temperature is None else options.temperature,
        top_p=1.0 if options.top_p is None else options.top_p,
        top_logprobs=request.top_logprobs,
    )
    return Create(request, echo=echo)


def _check(sent: wire.Asked) -> None:
    """Refuses what cannot be honoured, by name."""
    for name in ("conversation", "prompt"):
        if getattr(sent, name) is not None:
            raise Unsupported(f"{name} is not supported; use input and previous_response_id", param=name)
    if sent.truncation not in {None, "auto", "disabled"}:
        raise InvalidValue("truncation must be 'auto' or 'disabled'", param="truncation")
    if sent.background and sent.store is False:
        raise InvalidRequest("background needs store to be true", param="background")
    limit = sent.max_output_tokens
    if isinstance(limit, int) and not isinstance(limit, bool) and limit < 1:
        raise InvalidValue(f"max_output_tokens must be at least 1, not {limit}", param="max_output_tokens")
    metadata = sent.metadata or {}
    if len(metadata) > MAX_METADATA:
        raise InvalidValue(f"metadata takes at most {MAX_METADATA} entries, not {len(metadata)}", param="metadata")
    for key, value in metadata.items():
        if len(key) > MAX_KEY or len(value) > MAX_VALUE:
            raise InvalidValue(
                f"metadata takes keys of {MAX_KEY} and values of {MAX_VALUE} characters",
                param=f"metadata.{key[:MAX_KEY]}",
            )


def _echo(sent: wire.Asked, request: ChatRequest, summary: str | None) -> wire.Response:
    """What was asked, as the response says it back."""
    options, text = request.options, sent.text or wire.TextSettings()
    return wire.Response(
        model=request.model,
        background=bool(sent.background),
        instructions=sent.instructions,
        max_output_tokens=sent.max_output_tokens,
        max_tool_calls=sent.max_tool_calls,
        parallel_tool_calls=sent.parallel_tool_calls is not False,
        previous_response_id=sent.previous_response_id,
        reasoning=wire.Effort(sent.reasoning.effort if sent.reasoning else None, summary),
        store=sent.store is not False,
        temperature=1.0 if options.temperature is None else options.temperature,
        text=wire.TextSettings(text.format or wire.Format("text"), text.verbosity),
        tool_choice=sent.tool_choice or "auto",
        tools=tuple(sent.tools or ()),
        top_logprobs=request.top_logprobs,
        top_p=1.0 if options.top_p is None else options.top_p,
        truncation=sent.truncation or "disabled",
        user=sent.user,
        metadata=sent.metadata or {},
        prompt_cache_key=sent.prompt_cache_key,
        safety_identifier=sent.safety_identifier,
    )


def _tools(sent: wire.Asked) -> Iterator[tuple[str, Any]]:
    """Everything that is offered, each with the place where it stands."""
    yield from ((f"tools[{i}]", tool) for i, tool in enumerate(sent.tools or ()))
    for i, item in enumerate(sent.input if isinstance(sent.input, list) else ()):
        if isinstance(item, dict) and kind_of(item) == TOOLS:
            more = converted(item, wire.MoreTools, f"input[{i}]").tools
            yield from ((f"input[{i}].tools[{j}]", tool) for j, tool in enumerate(more))


class _Offered:
    """The tools of a request, and those among them that nobody here runs."""

    def __init__(self, sent: Iterable[tuple[str, Any]]) -> None:
        self.namespaces: dict[str, tuple[str, str]] = {}
        self._ignored: list[str] = []
        tools = [tool for name, one in sent for tool in self._read(one, name, "")]
        self._tools = asked.check_tools(tools)
        self.ignored = tuple(dict.fromkeys(self._ignored))

    def _read(self, value: Any, name: str, namespace: str) -> list[Tool]:
        kind = value.get("type") if isinstance(value, dict) else None
        if isinstance(kind, str) and kind not in {"function", "custom", "namespace"}:
            self._ignored.append(kind)
            return []
        sent = converted(value, wire.Tool, name)
        called = asked.required(sent.name, f"{name}.name")
        if sent.type == "namespace":
            inner = enumerate(sent.tools or ())
            return [tool for i, one in inner for tool in self._read(one, f"{name}.tools[{i}]", called)]
        full = full_name(called, namespace)
        if namespace:
            self.namespaces[full] = (namespace, called)
        if sent.type == "custom":
            return [Tool(full, sent.description or "", custom=True, grammar=_read_grammar(sent.format, name))]
        return [Tool(full, sent.description or "", sent.parameters or {})]

    def chosen(self, sent: str | dict[str, Any] | None) -> tuple[tuple[Tool, ...], ToolChoice]:
        """The tools that remain, and which must be called."""
        if isinstance(sent, dict):
            return self._pointed(converted(sent, wire.Choice, "tool_choice"))
        return self._tools, _worded(sent, self._tools)

    def _pointed(self, sent: wire.Choice) -> tuple[tuple[Tool, ...], ToolChoice]:
        if sent.type == "allowed_tools":
            names = {self._name_of(one, f"tool_choice.tools[{i}]") for i, one in enumerate(sent.tools or ())}
            tools = tuple(tool for tool in self._tools if tool.name in names)
            return tools, _worded(sent.mode, tools)
        if sent.type not in {"function", "custom"}:
            raise Unsupported(
                f"tool_choice of type '{sent.type[:60]}': this server runs no tools itself", param="tool_choice"
            )
        name = full_name(asked.required(sent.name, "tool_choice.name"), sent.namespace)
        if not any(tool.name == name for tool in self._tools):
            raise InvalidRequest(f"tool_choice names '{name[:60]}', which is not among tools", param="tool_choice")
        return self._tools, ToolChoice("function", name)

    @staticmethod
    def _name_of(value: dict[str, Any], name: str) -> str:
        sent = converted(value, wire.Choice, name)
        return full_name(sent.name or "", sent.namespace)


def _worded(word: str | None, tools: tuple[Tool, ...]) -> ToolChoice:
    choice = _WORDS.get(word or "auto")
    if choice is None:
        raise InvalidValue(f"tool_choice must be one of {', '.join(_WORDS)} or an object", param="tool_choice")
    if choice.mode == "required" and not tools:
        raise InvalidRequest("tool_choice is required, but there are no tools", param="tool_choice")
    return choice


def _read_grammar(sent: wire.Grammar | None, name: str) -> str:
    """Of a custom tool; empty where any text will do."""
    if sent is None or sent.type == "text":
        return ""
    if sent.type != "grammar":
        raise InvalidValue(f"{name}.format.type must be text or grammar", param=f"{name}.format.type")
    return asked.read_grammar(sent.syntax, sent.definition, f"{name}.format")


def _read_format(sent: wire.Format | None) -> Format | None:
    if sent is None or sent.type == "text":
        return None
    if sent.type == "json_object":
        return Format()
    if sent.type != "json_schema":
        raise InvalidValue("text.format.type must be text, json_object or json_schema", param="text.format.type")
    return Format(asked.check_schema(sent.schema or {}, "text.format.schema"), sent.name or SCHEMA_NAME)


def _read_effort(word: str | None) -> bool | ThinkLevel | None:
    return asked.read_effort(word, "reasoning.effort") if word else None


def write_chat(request: ChatRequest) -> bytes:
    """The request as a client sends it; nothing is to be kept there."""
    options = asked.write_options(request.options)
    limit = options.pop("num_predict") if options.get("num_predict", -1) >= 1 else None
    top = {name: options.pop(name) for name in tuple(options) if name in _TOP}
    effort = _write_effort(request.think)
    return encode(
        wire.Asked(
            model=request.model,
            input=write_items(request.messages),
            store=False,
            stream=request.stream,
            tools=[_write_tool(tool) for tool in request.tools] or None,
            tool_choice=_write_choice(request),
            parallel_tool_calls=request.parallel_tool_calls,
            text=_write_format(request.format),
            reasoning=wire.Reasoning(effort) if effort else None,
            include=[LOGPROBS] if request.logprobs else None,
            truncation="auto" if request.truncate else None,
            top_logprobs=request.top_logprobs or None,
            keep_alive=write_keep_alive(request.keep_alive),
            options=options or None,
            shift=None if request.shift else False,
            lora=asked.write_lora(request.lora),
            max_output_tokens=limit,
            **top,
        )
    )


def _write_effort(think: bool | ThinkLevel | None) -> str | None:
    if isinstance(think, bool):
        return "medium" if think else "none"
    return "xhigh" if think == "max" else think


def _write_tool(tool: Tool) -> dict[str, Any]:
    if tool.custom:
        grammar = {"type": "grammar", "syntax": "lark", "definition": tool.grammar}
        form = grammar if tool.grammar else {"type": "text"}
        return {"type": "custom", "name": tool.name, "description": tool.description, "format": form}
    fields = {"type": "function", "name": tool.name, "description": tool.description or None}
    return {**fields, "parameters": tool.parameters, "strict": False}


def _write_choice(request: ChatRequest) -> str | dict[str, Any] | None:
    choice = request.tool_choice
    if choice.mode != "function":
        return None if choice.mode == "auto" else choice.mode
    custom = any(tool.custom for tool in request.tools if tool.name == choice.name)
    return {"type": "custom" if custom else "function", "name": choice.name}


def _write_format(chosen: Format | None) -> wire.TextSettings | None:
    if chosen is None:
        return None
    if chosen.schema is None:
        return wire.TextSettings(wire.Format("json_object"))
    return wire.TextSettings(wire.Format("json_schema", chosen.name or SCHEMA_NAME, chosen.schema))
