"""What a template may call: Go's own functions and the four that Ollama adds. The rule: a table, and nothing beside it.

A function gets the values of its arguments and the rendering's :class:`Context`, and pays for every text that it goes
through. ``and`` and ``or`` are not here, since they do not look at all of their arguments: the evaluator has them.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import quote_plus

from msgspec import Struct

from localmodels.artifacts.gotemplate.gojson import to_json
from localmodels.artifacts.gotemplate.limits import Meter, Mistake
from localmodels.artifacts.gotemplate.printing import Formatter, show_all, size_of
from localmodels.artifacts.gotemplate.values import (
    NOTHING,
    Byte,
    Map,
    Record,
    Slice,
    Value,
    is_nil,
    is_true,
    type_name,
)

# In this order: an ampersand of ours is not one of the text's.
_HTML = (("&", "&amp;"), ('"', "&#34;"), ("'", "&#39;"), ("<", "&lt;"), (">", "&gt;"), ("\0", "\ufffd"))
_JS = {"\\": "\\\\", "'": "\\'", '"': '\\"', "<": "\\u003C", ">": "\\u003E", "&": "\\u0026", "=": "\\u003D"}
_JS_SPECIAL = re.compile(r"[\\'\"<>&=\x00-\x1f]|[^\x00-\x7f]")


class Context(Struct, frozen=True):
    """What a function may know beside its arguments."""

    meter: Meter
    today: datetime.date


class Row(Struct, frozen=True):
    """A function and how many arguments it takes (``most`` None: any number)."""

    call: Callable[[Context, Sequence[Value]], Value]
    least: int
    most: int | None


def _made(context: Context, text: str, *, bytes_a_step: int = 64) -> str:
    """Pays for a text that a function made."""
    context.meter.check(len(text))
    context.meter.pay(len(text) // bytes_a_step)
    return text


def _rate(arguments: Sequence[Value]) -> int:
    """Bytes a step of printing these: a text is copied, everything else is gone through item by item."""
    return 64 if all(isinstance(argument, str) for argument in arguments) else 4


# Texts


def _print(context: Context, arguments: Sequence[Value]) -> str:
    return _made(context, show_all(arguments), bytes_a_step=_rate(arguments))


def _println(context: Context, arguments: Sequence[Value]) -> str:
    return _made(context, " ".join(map(_shown, arguments)) + "\n", bytes_a_step=_rate(arguments))


def _shown(value: Value) -> str:
    return show_all((value,))


def _printf(context: Context, arguments: Sequence[Value]) -> str:
    template = arguments[0]
    if not isinstance(template, str):
        raise Mistake(f"printf needs a text as its format, not a value of type {type_name(template)}")
    text = Formatter(arguments[1:], context.meter).format(template)
    return _made(context, text, bytes_a_step=_rate(arguments))


def _html(context: Context, arguments: Sequence[Value]) -> str:
    text = _printable(arguments)
    for sign, escape in _HTML:
        text = text.replace(sign, escape)
    return _made(context, text, bytes_a_step=16)


def _js(context: Context, arguments: Sequence[Value]) -> str:
    text = _printable(arguments)
    context.meter.pay(len(text))
    return _made(context, _JS_SPECIAL.sub(_js_escape, text))


def _js_escape(match: re.Match[str]) -> str:
    sign = match[0]
    if sign in _JS:
        return _JS[sign]
    # Half surrogates are bytes that are no UTF-8: Go lets them through.
    if ord(sign) >= 0x80 and (sign.isprintable() or "\ud800" <= sign <= "\udfff"):
        return sign
    return f"\\u{ord(sign):04X}"


def _urlquery(context: Context, arguments: Sequence[Value]) -> str:
    data = _printable(arguments).encode("utf-8", "surrogateescape")
    context.meter.pay(len(data) // 2)
    return _made(context, quote_plus(data))


def _printable(arguments: Sequence[Value]) -> str:
    return show_all(["<no value>" if value is None or value is NOTHING else value for value in arguments])


def _json(context: Context, arguments: Sequence[Value]) -> str:
    try:
        return _made(context, to_json(arguments[0]), bytes_a_step=4)
    except Mistake:  # Ollama drops the error and keeps what there is: nothing
        return ""


# Parts of values


def _len(context: Context, arguments: Sequence[Value]) -> int:
    value = arguments[0]
    if isinstance(value, str):
        context.meter.pay(len(value) // 512)
        return size_of(value)
    if isinstance(value, tuple | list | dict | bytes):
        return len(value)
    raise Mistake(f"a value of type {type_name(value)} has no length")


def _index(context: Context, arguments: Sequence[Value]) -> Value:
    value = arguments[0]
    if value is None or value is NOTHING:
        raise Mistake("index of nil")
    for index in arguments[1:]:
        value = _item(context, value, index)
    return value


def _item(context: Context, value: Value, index: Value) -> Value:
    if isinstance(value, dict):
        if not isinstance(index, str):
            raise Mistake(f"a key must be a text, not a value of type {type_name(index)}")
        return value.get(index, value.missing if isinstance(value, Map) else None)
    if value is None or value is NOTHING:
        raise Mistake("index of nil")
    if isinstance(value, str):
        context.meter.pay(len(value) // 64)
        value = value.encode("utf-8", "surrogateescape")
    if not isinstance(value, tuple | list | bytes):
        raise Mistake(f"a value of type {type_name(value)} has no items")
    at = _position(index, len(value) - 1)
    return Byte(value[at]) if isinstance(value, bytes) else value[at]


def _position(index: Value, last: int) -> int:
    if isinstance(index, bool) or not isinstance(index, int):
        raise Mistake(f"a position must be a whole number, not a value of type {type_name(index)}")
    if not 0 <= index <= last:
        raise Mistake(f"position {index} is out of range")
    return index


def _slice(context: Context, arguments: Sequence[Value]) -> Value:
    value, *indexes = arguments
    text = isinstance(value, str)
    if isinstance(value, Record) or not isinstance(value, str | bytes | tuple | list):
        raise Mistake(f"a value of type {type_name(value)} cannot be sliced")
    if len(indexes) > 2 + (not text):
        raise Mistake(f"{len(indexes)} positions are too many for a slice")
    context.meter.pay(len(value) // 64)
    items = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
    places = [_position(index, len(items)) for index in indexes]
    start, end = (*places[:2], *(0, len(items))[len(places[:2]) :])
    if start > end or (len(places) == 3 and end > places[2]):
        raise Mistake(f"a slice from {start} to {end} runs backwards")
    part = items[start:end]
    if isinstance(part, bytes) and text:
        return part.decode("utf-8", "surrogateescape")
    return type(value)(part) if isinstance(value, Slice) else part


# Truth


def _not(_context: Context, arguments: Sequence[Value]) -> bool:
    return not is_true(arguments[0])


_KINDS: Mapping[type, str] = {bool: "bool", int: "int", Byte: "int", float: "float", str: "string"}


def _kind(value: Value) -> str:
    """What Go compares by value; empty for everything else."""
    return _KINDS.get(type(value), "")


def _build(value: Value) -> str:
    """How a value is built that is not compared by value; empty for nil."""
    if isinstance(value, Record):
        return "pointer" if value.shape.identity else "struct"
    if isinstance(value, dict):
        return "map"
    return "slice" if isinstance(value, tuple | list | bytes) else ""


def _eq(context: Context, arguments: Sequence[Value]) -> bool:
    first, *others = arguments
    if not others:
        raise Mistake("eq needs at least two arguments")
    return any(_equal(context, first, other) for other in others)


def _ne(context: Context, arguments: Sequence[Value]) -> bool:
    return not _equal(context, *arguments)


def _equal(context: Context, one: Value, other: Value) -> bool:
    kind, other_kind = _kind(one), _kind(other)
    if kind != other_kind:
        if (kind or _build(one)) and (other_kind or _build(other)):
            raise _incomparable(one, other)
        return False
    if kind == "string":
        context.meter.pay(min(len(one), len(other)) // 256)
    return bool(one == other) if kind else _same(one, other)


def _same(one: Value, other: Value) -> bool:
    """Whether two values are equal that are no numbers, texts or truth values."""
    build, other_build = _build(one), _build(other)
    if build and other_build and build != other_build:
        raise _incomparable(one, other)
    if is_nil(one) or is_nil(other):
        return is_nil(one) and is_nil(other)
    if build == "pointer":
        return one is other
    raise _incomparable(one, other)


def _incomparable(one: Value, other: Value) -> Mistake:
    return Mistake(f"values of types {type_name(one)} and {type_name(other)} cannot be compared")


def _lt(context: Context, arguments: Sequence[Value]) -> bool:
    one, other = arguments
    kind = _kind(one)
    if kind in {"", "bool"} or kind != _kind(other):
        raise _incomparable(one, other)
    if kind == "string":
        context.meter.pay(min(len(one), len(other)) // 256)
    return bool(one < other)


def _le(context: Context, arguments: Sequence[Value]) -> bool:
    return _lt(context, arguments) or _equal(context, *arguments)


def _gt(context: Context, arguments: Sequence[Value]) -> bool:
    return not _le(context, arguments)


def _ge(context: Context, arguments: Sequence[Value]) -> bool:
    return not _lt(context, arguments)


def _call(_context: Context, arguments: Sequence[Value]) -> Value:
    raise Mistake(f"a value of type {type_name(arguments[0])} is no function and cannot be called")


# Ollama's


def _date(days: int) -> Callable[[Context, Sequence[Value]], str]:
    def date(context: Context, arguments: Sequence[Value]) -> str:
        for argument in arguments:
            if not isinstance(argument, str):
                raise Mistake(f"the form of a date is a text, not a value of type {type_name(argument)}")
        return (context.today + datetime.timedelta(days=days)).isoformat()

    return date


def _typescript(_context: Context, arguments: Sequence[Value]) -> Value:
    value = arguments[0]
    method = value.shape.methods.get("ToTypeScriptType") if isinstance(value, Record) else None
    return method(value) if method else "any"


FUNCTIONS: Mapping[str, Row] = {
    "call": Row(_call, 1, None),
    "currentDate": Row(_date(0), 0, None),
    "eq": Row(_eq, 1, None),
    "ge": Row(_ge, 2, 2),
    "gt": Row(_gt, 2, 2),
    "html": Row(_html, 0, None),
    "index": Row(_index, 1, None),
    "js": Row(_js, 0, None),
    "json": Row(_json, 1, 1),
    "le": Row(_le, 2, 2),
    "len": Row(_len, 1, 1),
    "lt": Row(_lt, 2, 2),
    "ne": Row(_ne, 2, 2),
    "not": Row(_not, 1, 1),
    "print": Row(_print, 0, None),
    "printf": Row(_printf, 1, None),
    "println": Row(_println, 0, None),
    "slice": Row(_slice, 1, None),
    "toTypeScriptType": Row(_typescript, 1, 1),
    "urlquery": Row(_urlquery, 0, None),
    "yesterdayDate": Row(_date(-1), 0, None),
}

# The evaluator's own: they stop at the first argument that decides.
SHORT_CIRCUITS: Mapping[str, bool] = {"and": False, "or": True}
NAMES = frozenset({*FUNCTIONS, *SHORT_CIRCUITS})
