"""JSON as Go's encoding/json writes it. The rule: byte for byte, since models were trained on such prompts.

Go sorts the keys of maps, writes ``<``, ``>`` and ``&`` as escapes (and the two line separators of Unicode), and uses
an exponent only below 1e-6 and from 1e21 on.
"""

from __future__ import annotations

import math
import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from json.encoder import encode_basestring

from localmodels.artifacts.gotemplate.floats import all_digits
from localmodels.artifacts.gotemplate.limits import Mistake
from localmodels.artifacts.gotemplate.values import NOTHING, Byte, Map, Record, Slice, Value

_ESCAPES = (
    ("<", "\\u003c"),
    (">", "\\u003e"),
    ("&", "\\u0026"),
    ("\u2028", "\\u2028"),
    ("\u2029", "\\u2029"),
)
_HALVES = re.compile("[\ud800-\udfff]")


def to_json(value: Value) -> str:
    """The value as JSON without spaces.

    Raises:
        Mistake: a number that is not finite.
    """
    if type(value) is str:
        return text_to_json(value)
    writer = _WRITERS.get(type(value))
    if writer is not None:
        return writer(value)
    if isinstance(value, Record):
        return _record(value)
    return _list(value) if isinstance(value, tuple | list) else _map(value)


def text_to_json(text: str) -> str:
    """A text in its quotes."""
    quoted: str = encode_basestring(text)
    for sign, escape in _ESCAPES:
        if sign in quoted:
            quoted = quoted.replace(sign, escape)
    return quoted if quoted.isascii() or not _is_torn(quoted) else _HALVES.sub("\\\\ufffd", quoted)


def float_to_json(number: float) -> str:
    """A number as JavaScript would write it.

    Raises:
        Mistake: it is not finite.
    """
    if not math.isfinite(number):
        raise Mistake("a number that is not finite has no JSON")
    if number and not 1e-6 <= abs(number) < 1e21:
        mantissa, exponent = repr(number).split("e")
        return f"{mantissa}e{int(exponent):+d}"
    return all_digits(number)


def _is_torn(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


_WRITERS: Mapping[type, Callable[[Value], str]] = {
    type(None): lambda _: "null",
    type(NOTHING): lambda _: "null",
    bool: lambda value: "true" if value else "false",
    int: str,
    Byte: lambda value: str(int(value)),
    float: float_to_json,
    bytes: lambda value: f'"{b64encode(value).decode()}"',
}


def _list(value: tuple[Value, ...] | list[Value]) -> str:
    if isinstance(value, Slice):
        if value.plain is not None:
            return to_json(value.plain())
        if value.nil:
            return "null"
    return f"[{','.join(map(to_json, value))}]"


def _map(value: dict[str, Value]) -> str:
    if isinstance(value, Map) and value.nil:
        return "null"
    ordered = isinstance(value, Map) and value.ordered
    return _object(value.items() if ordered else sorted(value.items()))


def _record(value: Record) -> str:
    if value.shape.plain is not None:
        return to_json(value.shape.plain(value))
    fields = value.fields
    if not value.shape.json:
        return _object(fields.items())
    return _object(
        (key, fields[name])
        for name, key, may_miss in value.shape.json
        if not may_miss or isinstance(fields[name], Record) or fields[name]  # omitempty: false, 0, nil, no items
    )


def _object(items: Iterable[tuple[str, Value]]) -> str:
    return f"{{{','.join(f'{text_to_json(key)}:{to_json(item)}' for key, item in items)}}}"
