"""Items of the Responses API and the messages that they mean.

A message of ours is a turn; theirs is split into items: a thought, a text and each call are one apiece. The rule: what
a model says before the next one answers is one turn, and the result of a call follows the turn with the call at once,
whatever was replayed between them.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any, TypeVar
from uuid import uuid4

import msgspec
from msgspec.structs import replace

from localmodels.core.chat import Message, Part, Role, Text, ToolCall
from localmodels.core.errors import InvalidRequest, InvalidValue, NotFound
from localmodels.dialects import asked, strict_json
from localmodels.dialects.pictures import data_url, read_data_url
from localmodels.dialects.responses import wire

T = TypeVar("T")
Item = Mapping[str, Any]

_ROLES: Mapping[str, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_TEXTS = frozenset({"input_text", "output_text", "text", "summary_text", "reasoning_text"})
# The beginning of the id of each kind of item, as this API's clients know it.
PREFIXES: Mapping[str, str] = {
    "message": "msg_",
    "reasoning": "rs_",
    "function_call": "fc_",
    "function_call_output": "fco_",
    "custom_tool_call": "ctc_",
    "custom_tool_call_output": "ctco_",
}
# An item that offers tools, beside those of the request; newer models of OpenAI's have all of theirs there.
TOOLS = "additional_tools"
# Between two texts, or two thoughts, that become one.
_PAUSE = Text("\n\n")
# Before what a client cannot read and sends back as it is.
_SEAL = b"localmodels:"


def converted(value: Any, kind: type[T], name: str) -> T:
    """A part of a request that was decoded before, checked; ``name`` is where it stands in the request.

    Raises:
        InvalidRequest: a field is missing.
        InvalidValue: a field of the wrong type.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$")
        raise strict_json.objection(f"{what} - at `$.{name}{where or '`'}") from error


def kind_of(item: Item) -> str:
    """What an item is; without a word about it, it is a message."""
    kind = item.get("type")
    return kind if isinstance(kind, str) else "message" if kind is None else "?"


def full_name(name: str, namespace: str | None) -> str:
    """The name of a tool that is in a namespace."""
    return f"{namespace}.{name}" if namespace else name


def read_items(sent: str | list[Any] | None) -> tuple[tuple[Item, ...], tuple[str, ...]]:
    """The items that a caller sent, and the kinds of those that nobody here understands.

    Raises:
        InvalidRequest: there are none.
    """
    if isinstance(sent, str):
        sent = [{"type": "message", "role": "user", "content": sent}] if sent else []
    read: list[Item] = []
    ignored: list[str] = []
    for i, item in enumerate(asked.at_most(sent or (), asked.MAX_MESSAGES, "input")):
        if not isinstance(item, dict):
            raise InvalidValue(f"input[{i}] must be an object", param=f"input[{i}]")
        if kind_of(item) in PREFIXES or kind_of(item) == "item_reference":
            read.append(item)
        elif kind_of(item) != TOOLS:
            ignored.append(kind_of(item))
    return tuple(read), tuple(dict.fromkeys(ignored))


def identified(items: Iterable[Item]) -> list[dict[str, Any]]:
    """The items, each with an id, as they are kept; references are not, since what they mean is kept already."""
    return [_identified(item) for item in items if kind_of(item) in PREFIXES]


def _identified(item: Item) -> dict[str, Any]:
    """With id and type, and a message with a list as content, as this API shows them."""
    kind, content = kind_of(item), item.get("content")
    whole = {**item, "id": item.get("id") or PREFIXES[kind] + uuid4().hex, "type": kind}
    if kind == "message" and isinstance(content, str):
        text = "output_text" if item.get("role") == "assistant" else "input_text"
        whole["content"] = [{"type": text, "text": content}]
    return whole


def conversation(history: Sequence[Item], items: Sequence[Item], instructions: str | None) -> tuple[Message, ...]:
    """The messages that items mean.

    Args:
        history: of the responses that these go on from.
        items: of the request.
        instructions: come first.

    Raises:
        InvalidRequest, InvalidValue: an item is not what its kind must be, or a call at the end has no output.
        NotFound: a reference to an item that is not here.
    """
    turns = _Turns(instructions)
    for item in history:
        if kind_of(item) in PREFIXES:
            turns.add(converted(item, wire.Item, "previous_response_id"), "previous_response_id")
    known = [item.get("id") for item in (*history, *items) if kind_of(item) != "item_reference"]
    for i, item in enumerate(items):
        if kind_of(item) != "item_reference":
            turns.add(converted(item, wire.Item, f"input[{i}]"), f"input[{i}]")
        elif item.get("id") not in known:
            raise NotFound(f"item '{str(item.get('id'))[:80]}' not found", param=f"input[{i}].id")
    return turns.messages()


class _Turns:
    """Messages in the making."""

    def __init__(self, instructions: str | None) -> None:
        self._messages = [Message("system", asked.text_parts(instructions))] if instructions else []
        self._place = -1  # of the model's turn that may still grow
        self._waiting: set[str] = set()  # ids of its calls that have no output yet
        self._called: dict[str, str] = {}  # names of tools by the ids of calls

    def messages(self) -> tuple[Message, ...]:
        """All of them."""
        last = self._messages[-1] if self._messages else None
        if last is not None and last.tool_calls:
            call = last.tool_calls[-1].id[:80]
            raise InvalidRequest(f"input ends with a call that has no output; send that of '{call}'", param="input")
        asked.check_images(self._messages, "input")
        return tuple(self._messages)

    def add(self, item: wire.Item, name: str) -> None:
        """The next item."""
        _ADDERS[item.type or "message"](self, item, name)

    def add_message(self, item: wire.Item, name: str) -> None:
        role = _ROLES.get(item.role or "")
        if role is None:
            param = f"{name}.role"
            if not item.role:
                raise InvalidRequest(f"{param} is required", param=param)
            raise InvalidValue(f"{param} must be one of {', '.join(_ROLES)}, not '{item.role[:60]}'", param=param)
        parts = _read_content(item.content, f"{name}.content")
        if role == "assistant":
            self._said(Message("assistant", parts), between=True)
        else:
            self._heard(Message(role, parts))

    def add_reasoning(self, item: wire.Item, name: str) -> None:
        written = item.content if isinstance(item.content, list) else None
        thought = _joined(written) or opened(item.encrypted_content) or _joined(item.summary)
        self._said(Message("assistant", thinking=thought))

    def add_call(self, item: wire.Item, name: str) -> None:
        custom = item.type == "custom_tool_call"
        text = asked.required(item.name, f"{name}.name")
        call_id = asked.required(item.call_id, f"{name}.call_id")
        call = ToolCall(
            call_id, full_name(text, item.namespace), (item.input if custom else item.arguments) or "", custom
        )
        self._called[call_id] = call.name
        self._said(Message("assistant", tool_calls=(call,)))
        self._waiting.add(call_id)

    def add_output(self, item: wire.Item, name: str) -> None:
        call_id = asked.required(item.call_id, f"{name}.call_id")
        parts = _read_content(item.output, f"{name}.output")
        self._waiting.discard(call_id)
        self._messages.append(Message("tool", parts, tool_call_id=call_id, tool_name=self._called.get(call_id, "")))

    def _heard(self, message: Message) -> None:
        self._messages.append(message)
        self._place = -1

    def _said(self, said: Message, *, between: bool = False) -> None:
        """The model's turn goes on, or a new one begins. ``between`` outputs of calls only a text may be replayed."""
        grows = self._place == len(self._messages) - 1 or (between and bool(self._waiting))
        if self._place < 0 or not grows:
            self._place = len(self._messages)
            self._waiting.clear()
            self._messages.append(said)
            return
        turn = self._messages[self._place]
        self._messages[self._place] = replace(
            turn,
            parts=(*turn.parts, *((_PAUSE,) if turn.parts and said.parts else ()), *said.parts),
            thinking=_PAUSE.text.join(filter(None, (turn.thinking, said.thinking))),
            tool_calls=turn.tool_calls + said.tool_calls,
        )


_ADDERS = {
    "message": _Turns.add_message,
    "reasoning": _Turns.add_reasoning,
    "function_call": _Turns.add_call,
    "function_call_output": _Turns.add_output,
    "custom_tool_call": _Turns.add_call,
    "custom_tool_call_output": _Turns.add_output,
}


def _joined(parts: Iterable[wire.Part] | None) -> str:
    return "".join(part.text or "" for part in parts or ())


def _read_content(content: str | list[wire.Part] | None, name: str) -> tuple[Part, ...]:
    if not isinstance(content, list):
        return asked.text_parts(content)
    return tuple(_read_part(part, f"{name}[{i}]") for i, part in enumerate(content))


def _read_part(part: wire.Part, name: str) -> Part:
    if part.type in _TEXTS and part.text is not None:
        return Text(part.text)
    if part.type == "refusal":
        return Text(part.refusal or "")
    if part.type == "input_image" and part.image_url:
        return read_data_url(part.image_url, f"{name}.image_url")
    if part.type in {"input_image", "input_file"}:
        raise InvalidRequest(f"{name}: this server keeps no files; send a picture as a data: URL", param=name)
    raise InvalidValue(f"{name} must be an input_text, output_text, refusal or input_image part", param=name)


def sealed(thought: str) -> str:
    """A thought that only we can read."""
    return b64encode(_SEAL + thought.encode()).decode("ascii")


def opened(sent: str | None) -> str:
    """The thought that was sealed by us; empty for what others sealed."""
    try:
        data = b64decode(sent or "", validate=True)
        return data.removeprefix(_SEAL).decode() if data.startswith(_SEAL) else ""
    except (binascii.Error, ValueError):
        return ""


def write_items(messages: Sequence[Message]) -> list[wire.Item]:
    """The items that say these messages."""
    custom = {call.id for message in messages for call in message.tool_calls if call.custom}
    return [item for message in messages for item in _write_turn(message, custom)]


def _write_turn(message: Message, custom: Container[str]) -> list[wire.Item]:
    if message.role == "tool":
        kind = "custom_tool_call_output" if message.tool_call_id in custom else "function_call_output"
        return [wire.Item(type=kind, call_id=message.tool_call_id, output=_write_content(message.parts, "input_text"))]
    items: list[wire.Item] = []
    if message.thinking:
        items.append(wire.Item(type="reasoning", summary=[], content=[wire.Part("reasoning_text", message.thinking)]))
    if message.parts or not (message.thinking or message.tool_calls):
        kind = "output_text" if message.role == "assistant" else "input_text"
        items.append(wire.Item(type="message", role=message.role, content=_write_content(message.parts, kind)))
    return [*items, *map(_write_call, message.tool_calls)]


def _write_content(parts: Sequence[Part], kind: str) -> list[wire.Part]:
    return [
        wire.Part(kind, part.text) if isinstance(part, Text) else wire.Part("input_image", image_url=data_url(part))
        for part in parts
    ]


def _write_call(call: ToolCall) -> wire.Item:
    if call.custom:
        return wire.Item(type="custom_tool_call", call_id=call.id, name=call.name, input=call.arguments)
    return wire.Item(type="function_call", call_id=call.id, name=call.name, arguments=call.arguments)
