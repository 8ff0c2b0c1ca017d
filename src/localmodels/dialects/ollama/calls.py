"""Tool calls in Ollama's form: whole, with the arguments as an object.

A model writes arguments as text, and now and then the text is no JSON object. Such a call cannot be said in this
dialect, and nobody could safely run it: it is handed over as text, in full, so that nothing is lost and nothing runs.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec import Raw, Struct

from localmodels.core.chat import ToolCall
from localmodels.core.errors import InvalidValue
from localmodels.dialects.called import as_object
from localmodels.dialects.ollama import wire
from localmodels.dialects.strict_json import encode


class _Unusable(Struct):
    name: str
    arguments: str


def message_calls(calls: Iterable[ToolCall]) -> tuple[list[wire.ToolCall], str]:
    """The calls, and those that cannot be said as the text that stands for them."""
    said: list[wire.ToolCall] = []
    leftover = []
    for call in calls:
        arguments = as_object(call.arguments)
        if arguments is None:
            leftover.append(encode(_Unusable(call.name, call.arguments)).decode())
        else:
            said.append(wire.ToolCall(wire.Function(call.name, Raw(arguments), len(said)), call.id or None))
    return said, "\n".join(leftover)


def read_arguments(sent: Raw, name: str) -> str:
    """Arguments as JSON text, from an object or from the text of one.

    Raises:
        InvalidValue: neither.
    """
    text = bytes(sent)
    if not text or text == b"null":
        return "{}"
    if text.startswith(b"{"):
        return text.decode()
    if text.startswith(b'"'):
        return msgspec.json.decode(text, type=str)
    raise InvalidValue(f"{name}.function.arguments must be an object", param=f"{name}.function.arguments")
