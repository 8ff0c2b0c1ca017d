"""Custom tools: those that take a free text instead of JSON.

No model that runs here knows them, so each is offered as a function with one text, and a call of it is turned back. The
rule: whoever asked for a custom tool gets calls of a custom tool, with the bare text; a call in the other form ends
some of these clients. The flow of chats does it, around everything else that is done for tools: so every dialect may
have them, and a call that must be made is one like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import msgspec
from msgspec.structs import replace

from localmodels.core.chat import ChatRequest, Chunk, Done, Event, Message, Tool, ToolCall, ToolCallDelta
from localmodels.dialects.strict_json import encode

INPUT = "input"
_LANGUAGE = "The input must follow this grammar, in Lark's notation:"


Read = Callable[[list[Event]], list[Event]]


def turned_back(request: ChatRequest) -> Read:
    """Makes of the events of an answer those that this request, before :func:`as_functions`, is answered with."""
    names = {tool.name for tool in request.tools if tool.custom}
    if not names:
        return _as_they_are
    calls = CustomCalls(names)
    return lambda events: [told for event in events for told in calls.read(event)]


def _as_they_are(events: list[Event]) -> list[Event]:
    return events


def as_functions(request: ChatRequest) -> ChatRequest:
    """The request with functions in place of custom tools, among its tools and in what was called before."""
    if not any(tool.custom for tool in request.tools) and not any(
        call.custom for message in request.messages for call in message.tool_calls
    ):
        return request
    return replace(
        request,
        tools=tuple(_function(tool) if tool.custom else tool for tool in request.tools),
        messages=tuple(_called(message) for message in request.messages),
    )


def _function(tool: Tool) -> Tool:
    description = f"{tool.description}\n\n{_LANGUAGE}\n{tool.grammar}" if tool.grammar else tool.description
    parameters = {"type": "object", "properties": {INPUT: {"type": "string"}}, "required": [INPUT]}
    return Tool(tool.name, description.strip(), {**parameters, "additionalProperties": False})


def _called(message: Message) -> Message:
    if not any(call.custom for call in message.tool_calls):
        return message
    calls = tuple(_function_call(call) if call.custom else call for call in message.tool_calls)
    return replace(message, tool_calls=calls)


def _function_call(call: ToolCall) -> ToolCall:
    return ToolCall(call.id, call.name, encode({INPUT: call.arguments}).decode())


def text_of(arguments: str) -> str:
    """The text that a call's arguments carry; what is no such object is itself the text that was meant."""
    try:
        value = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, RecursionError):
        return arguments
    if isinstance(value, dict):
        value = value.get(INPUT) if INPUT in value or len(value) != 1 else next(iter(value.values()))
    return value if isinstance(value, str) else arguments


class CustomCalls:
    """Turns calls of functions back into calls of the custom tools ``names`` that they stand for.

    That one was called is told at once; its text when the arguments are whole, since half of them has no meaning.
    """

    def __init__(self, names: Collection[str]) -> None:
        self._names = names
        self._held: dict[int, list[str]] = {}

    def read(self, event: Event) -> list[Event]:
        """What is certain after this event."""
        if isinstance(event, Done):
            return [*self._texts(), event]
        if not event.tool_calls:
            return [event]
        deltas = [delta for call in event.tool_calls for delta in self._delta(call)]
        rest = replace(event, tool_calls=tuple(deltas))
        return [rest] if rest != _NOTHING else []

    def _delta(self, delta: ToolCallDelta) -> list[ToolCallDelta]:
        if delta.name in self._names and delta.index not in self._held:
            self._held[delta.index] = [delta.arguments]
            return [ToolCallDelta(delta.index, delta.id, delta.name, custom=True)]
        if delta.index in self._held:
            self._held[delta.index].append(delta.arguments)
            return []
        return [delta]

    def _texts(self) -> list[Event]:
        deltas = tuple(
            ToolCallDelta(index, arguments=text_of("".join(pieces)), custom=True)
            for index, pieces in self._held.items()
        )
        return [Chunk(tool_calls=deltas)] if deltas else []


_NOTHING = Chunk()
