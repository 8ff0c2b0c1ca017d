"""Tool calls in Anthropic's form: the input is an object.

A model writes arguments as text, and now and then the text is no JSON object. Such a call cannot be said here, and
nobody could safely run it: it is handed over as text, in full, so that nothing is lost and nothing runs.
"""

from __future__ import annotations

import re

from msgspec import Struct

from localmodels.core.chat import ToolCall
from localmodels.dialects.called import as_object
from localmodels.dialects.strict_json import encode

# What Anthropic's API takes as an id when it comes back with a result.
_OUTSIDE = re.compile(r"[^a-zA-Z0-9_-]")


class _Unusable(Struct):
    name: str
    arguments: str


def input_of(call: ToolCall) -> bytes | None:
    """The arguments as a JSON object in one line; None if they are none."""
    return as_object(call.arguments) if call.name else None


def as_text(call: ToolCall) -> str:
    """A call that cannot be said as one."""
    return encode(_Unusable(call.name, call.arguments)).decode()


def id_of(call: ToolCall, otherwise: str) -> str:
    """The call's id in the letters that this API has; another one where it has none."""
    return _OUTSIDE.sub("_", call.id) or otherwise
