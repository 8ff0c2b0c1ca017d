"""What a template can get hold of. The rule: these types and no others, so that no template reaches a Python object.

==========  =======================================  ============================================
Python      Go                                       notes
==========  =======================================  ============================================
None        a nil interface                          what a map says of a missing key
NOTHING     no value at all                          what a pipeline makes of nil; prints the same
bool int    bool, int                                an int has 64 bits
Byte        uint8                                    what ``index`` finds in a text
float       float64                                  every number that came from JSON
str         string                                   bytes that are no UTF-8 as half surrogates
bytes       []byte                                   a picture
tuple list  []any, or the type that :class:`Slice` names
dict        map[string]any, or what :class:`Map` names
Record      a struct, or a pointer to one            fields by name
==========  =======================================  ============================================

A :class:`Slice`, :class:`Map` or :class:`Record` may know how it prints (``shown``: Go's ``String``) and how it stands
in JSON (``plain``: Go's ``MarshalJSON``); these are functions of ours on values of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, ClassVar, Final

from msgspec import Struct

from localmodels.artifacts.gotemplate.limits import Mistake

# A value of the table above. Written as Any, since a recursive union would have to be narrowed on every line.
Value = Any


class Nothing(Enum):
    """The type of :data:`NOTHING`."""

    NOTHING = "nothing"


NOTHING: Final = Nothing.NOTHING


class Byte(int):
    """A byte of a text: a number to every function but those that look at its type."""

    __slots__ = ()


class Slice(tuple[Value, ...]):
    """A slice of a named type. ``nil``: Go's nil slice, which equals nil and is ``null`` in JSON."""

    go_type: ClassVar[str] = "[]interface {}"
    nil: ClassVar[bool] = False
    shown: ClassVar[Callable[[Any], str] | None] = None
    plain: ClassVar[Callable[[Any], Value] | None] = None


class Map(dict[str, Value]):
    """A map of a named type. ``missing`` is what stands for a key that is not there: the zero value of its items."""

    go_type: ClassVar[str] = "map[string]interface {}"
    nil: ClassVar[bool] = False
    ordered: ClassVar[bool] = False
    missing: ClassVar[Value] = None
    shown: ClassVar[Callable[[Any], str] | None] = None
    plain: ClassVar[Callable[[Any], Value] | None] = None


class Shape(Struct, frozen=True):
    """The type of a :class:`Record`.

    Attributes:
        name: the Go type, for errors.
        json: field, key and whether an empty value is left out, in order; no entry for a field means its own name.
        shown: how it prints, if not as ``{a b c}``.
        methods: what is computed from the record, by name; without arguments.
        identity: it is a pointer, and equal only to itself.
    """

    name: str
    json: tuple[tuple[str, str, bool], ...] = ()
    shown: Callable[[Record], str] | None = None
    plain: Callable[[Record], Value] | None = None
    methods: Mapping[str, Callable[[Record], Value]] = {}
    identity: bool = False


class Record:
    """A struct: fields by name, in order."""

    __slots__ = ("fields", "shape")

    def __init__(self, shape: Shape, fields: dict[str, Value]) -> None:
        self.shape = shape
        self.fields = fields


_NAMES: Mapping[type, str] = {
    bool: "bool",
    int: "int",
    Byte: "uint8",
    float: "float64",
    str: "string",
    bytes: "[]uint8",
    tuple: "[]interface {}",
    list: "[]interface {}",
    dict: "map[string]interface {}",
}


def type_name(value: Value) -> str:
    """The Go type of the value, as errors and ``%T`` say it."""
    if isinstance(value, Record):
        return ("*" if value.shape.identity else "") + value.shape.name
    if isinstance(value, Slice | Map):
        return value.go_type
    return _NAMES.get(type(value), "nil")


def is_true(value: Value) -> bool:
    """Not the zero value of its type; structs always."""
    return value is not NOTHING and (isinstance(value, Record) or bool(value))


def is_nil(value: Value) -> bool:
    """Go's nil: none at all, or a nil slice or map."""
    return value is None or value is NOTHING or (isinstance(value, Slice | Map) and value.nil)


def field(receiver: Value, name: str) -> Value:
    """``.name`` of a value: a key of a map, a field or a method of a struct.

    Raises:
        Mistake: it has no such field.
    """
    if isinstance(receiver, Record):
        if name in receiver.fields:
            return receiver.fields[name]
        if name in receiver.shape.methods:
            return receiver.shape.methods[name](receiver)
    elif isinstance(receiver, dict):
        if name in receiver:
            return receiver[name]
        if name == "String" and isinstance(receiver, Map) and receiver.shown:
            return receiver.shown()
        return receiver.missing if isinstance(receiver, Map) else None
    elif receiver is NOTHING:
        return NOTHING
    elif receiver is None:
        raise Mistake(f"there is no .{name}, because what should have it is nil")
    elif name == "String" and isinstance(receiver, Slice) and receiver.shown:
        return receiver.shown()
    raise Mistake(f"there is no field {name} in a value of type {type_name(receiver)}")
