"""A message of Anthropic's as blocks, and what each block is to a model.

The rule: everything that a model can read becomes text or a picture in its place; what it cannot (a PDF, a file that
lies elsewhere) is refused by the name of its field; traces of tools that Anthropic's own servers run say nothing to a
local model and are left out.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec
from msgspec import Raw

from localmodels.core.chat import Image, Message, Part, Role, Text, ToolCall
from localmodels.core.errors import InvalidRequest, InvalidValue, Unsupported
from localmodels.dialects import asked
from localmodels.dialects.anthropic import wire
from localmodels.dialects.anthropic.calls import as_text, input_of
from localmodels.dialects.pictures import media_type
from localmodels.dialects.strict_json import encode

_INNER: msgspec.json.Decoder[str | list[wire.Block] | None] = msgspec.json.Decoder(str | list[wire.Block] | None)
_ROLES: Mapping[str, Role] = {"user": "user", "assistant": "assistant", "system": "system"}
# Anthropic's clients name a failed tool by a field of the result; templates know only its text.
_FAILED = "Error: "
# What hosted tools leave in a conversation: their calls, their results, and files for their containers.
_HOSTED = re.compile(r"server_tool_use|mcp_tool_use|container_upload|compaction|browser_state|\w+_tool_result")


def read_message(sent: wire.Message, name: str) -> list[Message]:
    """The messages that one of theirs is: results of tools first, as Anthropic's API wants them, then what was said.

    Args:
        sent: a message.
        name: where it stands in the request.
    """
    role = _ROLES.get(sent.role)
    if role is None:
        if not sent.role:
            raise InvalidRequest(f"{name}.role is required", param=f"{name}.role")
        words = ", ".join(_ROLES)
        raise InvalidValue(f"{name}.role must be one of {words}, not '{sent.role[:60]}'", param=f"{name}.role")
    if not isinstance(sent.content, list):
        return [Message(role, asked.text_parts(sent.content))]
    if role == "system":
        return [Message(role, read_texts(sent.content, f"{name}.content"))]
    placed = [(block, f"{name}.content[{i}]") for i, block in enumerate(sent.content)]
    return _read_assistant(placed) if role == "assistant" else list(_read_user(placed))


_Placed = Sequence[tuple[wire.Block, str]]


def _read_user(placed: _Placed) -> Iterator[Message]:
    for block, name in placed:
        if block.type == "tool_result":
            yield _read_result(block, name)
    parts: list[Part] = []
    for block, name in placed:
        if block.type == "tool_use":
            raise InvalidRequest(f"{name}.type: only an assistant's message may hold a tool_use", param=f"{name}.type")
        if block.type == "mid_conv_system":  # the older form of a message whose role is system
            yield from _spoken(parts)
            parts = []
            yield Message("system", _read_inner(block.content, f"{name}.content"))
        elif block.type != "tool_result":
            parts += _read_part(block, name)
    yield from _spoken(parts)


def _spoken(parts: Sequence[Part]) -> Iterator[Message]:
    if parts:
        yield Message("user", tuple(parts))


def _read_assistant(placed: _Placed) -> list[Message]:
    """What the model itself said; its text is one, since it may be gone on with."""
    said: list[str] = []
    thought: list[str] = []
    calls: list[ToolCall] = []
    for block, name in placed:
        if block.type == "tool_use":
            calls.append(_read_call(block, name))
        elif block.type == "thinking":
            thought.append(block.thinking or "")
        elif block.type == "tool_result":
            raise InvalidRequest(f"{name}.type: only a user's message may hold a tool_result", param=f"{name}.type")
        elif block.type == "image":
            raise InvalidRequest(f"{name}.type: only a user's message may hold an image", param=f"{name}.type")
        else:
            said += [part.text for part in _read_part(block, name) if isinstance(part, Text)]
    return [Message("assistant", asked.text_parts("".join(said)), "".join(thought), tuple(calls))]


def _read_call(block: wire.Block, name: str) -> ToolCall:
    called = asked.required(block.name, f"{name}.name")
    sent = bytes(block.input) or b"{}"
    if not sent.startswith(b"{"):
        raise InvalidValue(f"{name}.input must be an object", param=f"{name}.input")
    return ToolCall(asked.required(block.id, f"{name}.id"), called, sent.decode())


def _read_result(block: wire.Block, name: str) -> Message:
    parts = _read_inner(block.content, f"{name}.content")
    if block.is_error:
        first = parts[0] if parts else None
        parts = (Text(_FAILED + first.text), *parts[1:]) if isinstance(first, Text) else (Text(_FAILED), *parts)
    return Message("tool", parts, tool_call_id=asked.required(block.tool_use_id, f"{name}.tool_use_id"))


def _read_inner(content: Raw, name: str) -> tuple[Part, ...]:
    """The content of a block that has some: a text or blocks."""
    try:
        inner = _INNER.decode(bytes(content) or b"null")
    except msgspec.ValidationError as error:
        raise InvalidValue(f"{name} must be a text or a list of blocks: {error}", param=name) from error
    if isinstance(inner, list):
        return tuple(part for i, block in enumerate(inner) for part in _read_part(block, f"{name}[{i}]"))
    return asked.text_parts(inner)


def read_texts(sent: Iterable[wire.Block], name: str) -> tuple[Text, ...]:
    """Blocks of text.

    Raises:
        InvalidValue: there is another one.
    """
    texts: list[Text] = []
    for i, block in enumerate(sent):
        if block.type != "text":
            raise InvalidValue(f"{name}[{i}].type must be text, not '{block.type[:60]}'", param=f"{name}[{i}].type")
        texts += _read_text(block, f"{name}[{i}]")
    return tuple(texts)


def _read_part(block: wire.Block, name: str) -> Sequence[Part]:
    """What a block is to a model: mostly one part, none where it says nothing to one."""
    if read := _PARTS.get(block.type):
        return read(block, name)
    if _HOSTED.fullmatch(block.type):
        return ()
    words = ", ".join((*_PARTS, "tool_use", "tool_result", "thinking"))
    raise InvalidValue(f"{name}.type must be one of {words}, not '{block.type[:60]}'", param=f"{name}.type")


def _read_text(block: wire.Block, name: str) -> Sequence[Text]:
    if block.text is None:
        raise InvalidRequest(f"{name}.text is required", param=f"{name}.text")
    return asked.text_parts(block.text)


def _read_image(block: wire.Block, name: str) -> Sequence[Part]:
    source = _source(block, name)
    if source.type != "base64":
        raise Unsupported(
            f"{name}.source.type must be base64, not '{source.type[:60]}'; this server fetches nothing from elsewhere",
            param=f"{name}.source.type",
        )
    data = asked.read_image(asked.required(source.data, f"{name}.source.data"), f"{name}.source.data")
    return (Image(data, (source.media_type or "")[:100]),)


def _read_document(block: wire.Block, name: str) -> Sequence[Part]:
    """A document of text, with its title and what was said of it before it."""
    source = _source(block, name)
    if source.type == "content":
        inner = _read_inner(source.content, f"{name}.source.content")
    elif source.type == "text":
        inner = asked.text_parts(source.data)
    else:
        raise Unsupported(
            f"{name}.source.type must be text or content, not '{source.type[:60]}'; this server reads no PDF and "
            "fetches nothing from elsewhere",
            param=f"{name}.source.type",
        )
    return (*_lines(block.title, block.context), *inner)


def _read_found(block: wire.Block, name: str) -> Sequence[Part]:
    where = block.source if isinstance(block.source, str) else None
    return (*_lines(block.title, where), *_read_inner(block.content, f"{name}.content"))


def _read_reference(block: wire.Block, name: str) -> Sequence[Part]:
    return asked.text_parts(block.tool_name)


def _nothing(block: wire.Block, name: str) -> Sequence[Part]:
    return ()


_PARTS: Mapping[str, Callable[[wire.Block, str], Sequence[Part]]] = {
    "text": _read_text,
    "image": _read_image,
    "document": _read_document,
    "search_result": _read_found,
    "tool_reference": _read_reference,
    "redacted_thinking": _nothing,  # sealed for Anthropic's own servers
}


def _source(block: wire.Block, name: str) -> wire.Source:
    if isinstance(block.source, wire.Source):
        return block.source
    if block.source is None:
        raise InvalidRequest(f"{name}.source is required", param=f"{name}.source")
    raise InvalidValue(f"{name}.source must be an object", param=f"{name}.source")


def _lines(*texts: str | None) -> tuple[Text, ...]:
    return tuple(Text(f"{text}\n") for text in texts if text)


def write_messages(messages: Sequence[Message]) -> tuple[str | list[wire.Block] | None, list[wire.Message]]:
    """The system text, which is what stands before every turn, and the turns."""
    first = next((i for i, message in enumerate(messages) if message.role != "system"), len(messages))
    opening = [part for message in messages[:first] for part in message.parts if isinstance(part, Text)]
    turns: list[tuple[str, list[wire.Block]]] = []
    for message in messages[first:]:
        role, written = _write_message(message)
        if turns and role == "user" == turns[-1][0] and _only_results(turns[-1][1]):
            turns[-1][1].extend(written)  # all results of one turn in one message, and what was said after them
        elif written:
            turns.append((role, written))
    return _write_system(opening), [wire.Message(role, written) for role, written in turns]


def _only_results(written: Iterable[wire.Block]) -> bool:
    return all(block.type == "tool_result" for block in written)


def _write_system(opening: Sequence[Text]) -> str | list[wire.Block] | None:
    if len(opening) == 1:
        return opening[0].text or None
    return [wire.Block("text", text=part.text) for part in opening if part.text] or None


def _write_message(message: Message) -> tuple[str, list[wire.Block]]:
    """Who speaks, and what. Pictures are a user's, or a tool's.

    Thoughts of earlier turns stay here: they are sealed by the server that they came from, and no other takes them.
    """
    pictures = message.role in {"user", "tool"}
    said = [block for part in message.parts if pictures or isinstance(part, Text) for block in _write_part(part)]
    if message.role == "tool":
        return "user", [wire.Block("tool_result", tool_use_id=message.tool_call_id, content=Raw(encode(said)))]
    if message.role != "assistant":
        return message.role, said
    called = []
    for call in message.tool_calls:
        arguments = input_of(call)
        if arguments is None:
            said.append(wire.Block("text", text=as_text(call)))
        else:
            called.append(wire.Block("tool_use", id=call.id, name=call.name, input=Raw(arguments)))
    return "assistant", [*said, *called]


def _write_part(part: Part) -> list[wire.Block]:
    if isinstance(part, Text):
        return [wire.Block("text", text=part.text)] if part.text else []
    data = b64encode(part.data).decode("ascii")
    return [wire.Block("image", source=wire.Source("base64", part.media_type or media_type(part.data), data))]
