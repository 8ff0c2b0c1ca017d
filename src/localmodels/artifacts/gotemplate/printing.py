"""Values as Go's fmt prints them. The rule: byte for byte, as far as a template can ask; the rest is refused by name.

One :class:`Printer` works off one format: it keeps the flags of the verb at hand and pays the meter for what it makes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from json.encoder import encode_basestring

from msgspec import Struct

from localmodels.artifacts.gotemplate import floats
from localmodels.artifacts.gotemplate.limits import WIDEST, Meter, Mistake
from localmodels.artifacts.gotemplate.values import NOTHING, Byte, Map, Record, Slice, Value, type_name

_VERB = re.compile(
    r"%(?P<flags>[#0+\- ]*)(?P<at1>\[[^\]]*\])?(?P<width>\*|[0-9]+)?"
    r"(?:(?P<point>\.)(?P<at2>\[[^\]]*\])?(?P<precision>\*|[0-9]+)?)?(?P<at3>(?<!\])\[[^\]]*\])?(?P<verb>.)?",
    re.DOTALL,
)
_STRINGS = frozenset("vsxXq")
_QUOTED = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}
_OWN_VERBS: Mapping[type, str] = {str: "s", bool: "t", int: "d", Byte: "d", float: "g"}
_BASES: Mapping[str, str] = {"b": "b", "o": "o", "O": "o", "d": "d", "v": "d", "x": "x", "X": "X"}
_FOREIGN: Mapping[str, str] = {"p": "the address of a value", "w": "an error in an error"}
_PREFIXES: Mapping[str, str] = {"b": "0b", "o": "0", "O": "0", "x": "0x", "X": "0X"}


class Flags(Struct, frozen=True):
    """What stands between the percent sign and the verb."""

    signs: str = ""
    width: int | None = None
    precision: int | None = None

    def has(self, sign: str) -> bool:
        return sign in self.signs


PLAIN = Flags()


def show(value: Value) -> str:
    """The value as ``%v`` prints it."""
    return value if type(value) is str else _value(value, "v", PLAIN)


def show_all(values: Sequence[Value]) -> str:
    """As Go's ``Sprint``: with a space between two values of which neither is a text."""
    parts = []
    for number, value in enumerate(values):
        if number and not isinstance(value, str) and not isinstance(values[number - 1], str):
            parts.append(" ")
        parts.append(show(value))
    return "".join(parts)


def size_of(text: str) -> int:
    """The bytes of a text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogateescape"))


class Formatter:
    """Go's ``Sprintf``, one format at a time."""

    def __init__(self, arguments: Sequence[Value], meter: Meter) -> None:
        self._arguments = arguments
        self._meter = meter
        self._next = 0
        self._reordered = False
        self._good = True
        self._size = 0

    def format(self, template: str) -> str:
        """The format with every verb replaced.

        Raises:
            ModelDamaged: it costs more than is allowed.
            Mistake: a verb that is not supported.
        """
        parts: list[str] = []
        at = 0
        while (start := template.find("%", at)) >= 0:
            self._keep(parts, template[at:start])
            match = _VERB.match(template, start)
            at = match.end() if match else start + 1
            self._meter.pay(3)
            self._keep(parts, self._verb(match) if match else "%!(NOVERB)")
        self._keep(parts, template[at:])
        if not self._reordered and self._next < len(self._arguments):
            extra = ", ".join(_typed(value) for value in self._arguments[self._next :])
            self._keep(parts, f"%!(EXTRA {extra})")
        return "".join(parts)

    def _keep(self, parts: list[str], text: str) -> None:
        self._size += len(text)
        self._meter.check(self._size)
        parts.append(text)

    def _verb(self, match: re.Match[str]) -> str:
        self._good = True
        complaints, flags = self._flags(match)
        verb = match["verb"]
        if verb is None:
            return complaints + "%!(NOVERB)"
        if verb == "%":
            return complaints + "%"
        if not self._good:
            return f"{complaints}%!{verb}(BADINDEX)"
        if self._next >= len(self._arguments):
            return f"{complaints}%!{verb}(MISSING)"
        value = self._arguments[self._next]
        self._next += 1
        if isinstance(value, str) and verb not in {"s", "v"}:  # looked at sign by sign
            self._meter.pay(2 * len(value))
        return complaints + _argument(value, verb, flags)

    def _flags(self, match: re.Match[str]) -> tuple[str, Flags]:
        """The flags, and what Go writes for a bad width or precision."""
        signs, complaints, precision = match["flags"], "", None
        self._go_to(match["at1"])
        width = self._number(match["width"])
        if match["width"] == "*" and width is None:
            complaints += "%!(BADWIDTH)"
        if match["width"] not in {None, "*"} and match["at1"]:
            self._good = False
        if width is not None and width < 0:
            width, signs = -width, signs.replace("0", "") + "-"
        if match["point"]:
            self._good = self._good and not (match["at1"] and match["width"] is None)
            self._go_to(match["at2"])
            precision = self._number(match["precision"]) if match["precision"] else 0
            if match["precision"] == "*" and (precision is None or precision < 0):
                complaints, precision = complaints + ("%!(BADPREC)"), None
            if match["precision"] not in {None, "*"} and match["at2"]:
                self._good = False
        self._go_to(match["at3"])
        return complaints, Flags(signs, width, precision)

    def _go_to(self, index: str | None) -> None:
        """``[3]``: go on with the third argument."""
        if index is None:
            return
        self._reordered = True
        digits = index[1:-1]
        if digits.isascii() and digits.isdigit() and len(digits) < 7 and 0 < int(digits) <= len(self._arguments):
            self._next = int(digits) - 1
        else:
            self._good = False

    def _number(self, text: str | None) -> int | None:
        """A width or precision, perhaps from the arguments; None if there is none."""
        if text is None:
            return None
        if text != "*":
            number: Value = int(text[:8])
        elif self._next < len(self._arguments):
            number = self._arguments[self._next]
            self._next += 1
        else:
            return None
        if isinstance(number, bool) or not isinstance(number, int):
            return None
        if abs(number) > WIDEST:
            raise Mistake(f"a format asks for {number} characters; at most {WIDEST} are allowed")
        return number


def _argument(value: Value, verb: str, flags: Flags) -> str:
    if verb == "T":
        return _text("<nil>" if value is None or value is NOTHING else type_name(value), "s", flags)
    if verb in _FOREIGN:
        raise Mistake(f"%{verb}, {_FOREIGN[verb]}, is not supported")
    return _value(value, verb, flags)


def _typed(value: Value) -> str:
    return "<nil>" if value is None or value is NOTHING else f"{type_name(value)}={show(value)}"


def _bad(value: Value, verb: str, flags: Flags) -> str:
    """What Go prints for a verb that the value does not know: its type, and itself under the same flags."""
    if value is None or value is NOTHING:
        return f"%!{verb}(<nil>)"
    own = _value(
        value, _OWN_VERBS.get(type(value), "v"), Flags(flags.signs.replace("#", ""), flags.width, flags.precision)
    )
    return f"%!{verb}({type_name(value)}={own})"


def _value(value: Value, verb: str, flags: Flags) -> str:
    printer = _PRINTERS.get(type(value))
    if printer is not None:
        return printer(value, verb, flags)
    if verb == "v" and flags.has("#"):
        return _source(value)
    if verb in _STRINGS:
        if isinstance(value, Record) and value.shape.shown is not None:
            return _text(value.shape.shown(value), verb, flags)
        if isinstance(value, Slice | Map) and value.shown is not None:
            return _text(value.shown(), verb, flags)
    return _nested(value, verb, flags)


def _nested(value: Value, verb: str, flags: Flags) -> str:
    if isinstance(value, Record):
        named = verb == "v" and flags.has("+")
        items = (f"{name}:" * named + _item(item, verb, flags) for name, item in value.fields.items())
        return f"{{{' '.join(items)}}}"
    if isinstance(value, tuple | list):
        return f"[{' '.join(_item(item, verb, flags) for item in value)}]"
    pairs = (f"{_text(key, verb, flags)}:{_item(item, verb, flags)}" for key, item in sorted(value.items()))
    return f"map[{' '.join(pairs)}]"


def _item(value: Value, verb: str, flags: Flags) -> str:
    return "<nil>" if value is None else _value(value, verb, flags)


def _source(value: Value) -> str:
    """The value as ``%#v`` prints it: as Go's source text."""
    if isinstance(value, Record):
        fields = ", ".join(f"{name}:{_source(item)}" for name, item in value.fields.items())
        return f"{'&' * value.shape.identity}{value.shape.name}{{{fields}}}"
    if isinstance(value, Slice | Map) and value.nil:
        return f"{value.go_type}(nil)"
    if isinstance(value, tuple | list):
        return f"{type_name(value)}{{{', '.join(map(_item_source, value))}}}"
    if isinstance(value, dict):
        pairs = (f"{quote(key)}:{_item_source(item)}" for key, item in sorted(value.items()))
        return f"{type_name(value)}{{{', '.join(pairs)}}}"
    return _value(value, "v", Flags("#"))


def _item_source(value: Value) -> str:
    return "interface {}(nil)" if value is None or value is NOTHING else _source(value)


def _none(value: Value, verb: str, flags: Flags) -> str:
    return _pad("<nil>", flags) if verb == "v" else _bad(value, verb, flags)


def _bool(value: bool, verb: str, flags: Flags) -> str:
    return _pad("true" if value else "false", flags) if verb in {"t", "v"} else _bad(value, verb, flags)


def _bytes(value: bytes, verb: str, flags: Flags) -> str:
    if verb in {"s", "x", "X", "q"}:
        return _text(value.decode("utf-8", "surrogateescape"), verb, flags)
    return f"[{' '.join(map(str, value))}]" if verb in {"v", "d"} else _bad(value, verb, flags)


def _int(value: int, verb: str, flags: Flags) -> str:
    if verb in {"c", "q", "U"}:
        return _code_point(int(value), verb, flags)
    if verb == "v" and flags.has("#") and isinstance(value, Byte):
        return f"0x{int(value):x}"
    base = _BASES.get(verb)
    if base is None:
        return _bad(value, verb, flags)
    sign = "-" if value < 0 else "+" if flags.has("+") and verb != "v" else " " if flags.has(" ") else ""
    if flags.precision == 0 and value == 0:
        return " " * (flags.width or 0)
    digits = format(abs(int(value)), base)
    wanted = flags.precision or 0
    if flags.precision is None and flags.width and flags.has("0") and not flags.has("-"):
        wanted = flags.width - len(sign)
    digits = digits.rjust(wanted, "0")
    if flags.has("#") and verb != "v":
        prefix = _PREFIXES.get(verb, "")
        digits = digits if prefix == "0" and digits.startswith("0") else prefix + digits
    return _pad(sign + "0o" * (verb == "O") + digits, flags, zeros=False)


def _code_point(value: int, verb: str, flags: Flags) -> str:
    known = 0 <= value <= 0x10FFFF and not 0xD800 <= value < 0xE000
    sign = chr(value) if known else "\ufffd"
    if verb == "c":
        return _pad(sign, flags)
    if verb == "q":
        return _pad(f"'{_escape(sign, chr(39), ascii_only=flags.has('+'))}'", flags)
    text = f"U+{value & (2**64 - 1):0{max(4, flags.precision or 4)}X}"
    return _pad(text + (f" '{sign}'" if flags.has("#") and known and sign.isprintable() else ""), flags, zeros=False)


def _float(value: float, verb: str, flags: Flags) -> str:
    if verb in {"b", "x", "X"} or (flags.has("#") and verb != "v"):
        raise Mistake(f"%{'#' * flags.has('#')}{verb} of a number with a point is not supported")
    if verb not in "vgGeEfF":
        return _bad(value, verb, flags)
    precision = flags.precision if flags.precision is not None else (None if verb in "vgG" else 6)
    if precision is None:
        text = floats.shortest(value)
        text = text.upper() if verb == "G" else text
    else:
        text = floats.fixed(value, "g" if verb == "v" else verb, precision)
    sign, digits = (text[0], text[1:]) if text[0] in "+-" else ("", text)
    if sign != "-":
        sign = "+" if flags.has("+") and verb != "v" else " " if flags.has(" ") else "+" * text.startswith("+Inf")
    finite = digits[-1:].isdigit()
    if finite and flags.width and flags.has("0") and not flags.has("-"):
        return sign + digits.rjust(flags.width - len(sign), "0")
    return _pad(sign + digits, flags, zeros=finite)


def _text(value: str, verb: str, flags: Flags) -> str:
    if verb in {"x", "X"}:
        return _hex(value, verb, flags)
    text = value if flags.precision is None else value[: flags.precision]
    if verb == "q" or (verb == "v" and flags.has("#")):
        raw = verb == "q" and flags.has("#") and "`" not in text and all(c == "\t" or c.isprintable() for c in text)
        text = f"`{text}`" if raw else quote(text, ascii_only=flags.has("+") and verb == "q")
    elif verb not in {"s", "v"}:
        return _bad(value, verb, flags)
    return _pad(text, flags)


def _hex(value: str, verb: str, flags: Flags) -> str:
    data = value.encode("utf-8", "surrogateescape")[: flags.precision]
    prefix = f"0{verb}" if flags.has("#") and data else ""
    pieces = (
        [f"{byte:02{verb}}" for byte in data] if flags.has(" ") else [data.hex() if verb == "x" else data.hex().upper()]
    )
    return _pad(" ".join(prefix + piece for piece in pieces), flags)


def _pad(text: str, flags: Flags, *, zeros: bool = True) -> str:
    if not flags.width:
        return text
    if flags.has("-"):
        return text.ljust(flags.width)
    return text.rjust(flags.width, "0" if zeros and flags.has("0") else " ")


def quote(text: str, *, ascii_only: bool = False) -> str:
    """The text as a constant of Go's source."""
    if text.isprintable() and (text.isascii() or not ascii_only):
        return encode_basestring(text)
    return f'"{_escape(text, chr(34), ascii_only=ascii_only)}"'


def _escape(text: str, mark: str, *, ascii_only: bool) -> str:
    return "".join(_escaped(sign, mark, ascii_only=ascii_only) for sign in text)


def _escaped(sign: str, mark: str, *, ascii_only: bool) -> str:
    if sign == mark or sign == "\\":
        return "\\" + sign
    if sign.isprintable() and (not ascii_only or sign.isascii()):
        return sign
    code = ord(sign)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if sign in _QUOTED:
        return _QUOTED[sign]
    return f"\\x{code:02x}" if code < 0x20 or code == 0x7F else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


_PRINTERS: Mapping[type, Callable[[Value, str, Flags], str]] = {
    str: _text,
    bool: _bool,
    int: _int,
    Byte: _int,
    float: _float,
    bytes: _bytes,
    type(None): _none,
    type(NOTHING): _none,
}
