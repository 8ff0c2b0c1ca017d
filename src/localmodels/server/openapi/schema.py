"""JSON Schema (2020-12) of the structs that the codecs read and write.

Made from the very types that decode and encode, so that the description cannot say anything else than the code does.
msgspec can do this too, but for unions of structs without a tag and for raw JSON, of which OpenAI's and Ollama's wire
have several.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Any, Literal, Union, cast, get_args, get_origin

from msgspec import NODEFAULT, Raw, Struct, UnsetType
from msgspec.structs import fields

Schema = dict[str, Any]
REF = "#/components/schemas/"

_PLAIN: Mapping[Any, Schema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    None: {"type": "null"},
    type(None): {"type": "null"},
    Any: {},
    object: {},
    Raw: {},
    bytes: {"type": "string", "contentEncoding": "base64"},
}


class Schemas:
    """Gathers the schemas of structs under names that are each used once."""

    def __init__(self) -> None:
        self.components: dict[str, Schema] = {}
        self._names: dict[type[Struct], str] = {}

    def of(self, kind: Any) -> Schema:
        """The schema of a type; structs are described once and referred to."""
        if isinstance(kind, type) and issubclass(kind, Struct):
            return {"$ref": REF + self._named(kind)}
        if kind in _PLAIN:
            return _PLAIN[kind]
        origin, inner = get_origin(kind), get_args(kind)
        if origin in {Union, types.UnionType}:
            return self._any_of(inner)
        if origin is Literal:
            return {"enum": list(inner)}
        if origin in {list, tuple}:
            return self._list(kind, inner)
        if origin is dict:
            return {"type": "object", "additionalProperties": self.of(inner[1])}
        raise TypeError(f"{kind} has no schema")

    def _any_of(self, kinds: tuple[Any, ...]) -> Schema:
        some = [self.of(kind) for kind in kinds if kind is not UnsetType]
        return some[0] if len(some) == 1 else {"anyOf": some}

    def _list(self, kind: Any, inner: tuple[Any, ...]) -> Schema:
        if not inner:
            return {"type": "array", "maxItems": 0}
        if get_origin(kind) is tuple and inner[-1] is not ...:
            return {"type": "array", "prefixItems": [self.of(one) for one in inner], "items": False}
        return {"type": "array", "items": self.of(inner[0])}

    def _named(self, kind: type[Struct]) -> str:
        if kind not in self._names:
            self._names[kind] = name = _name(kind)
            self.components[name] = {}  # a struct may hold itself
            self.components[name] = self._struct(kind)
        return self._names[kind]

    def _struct(self, kind: type[Struct]) -> Schema:
        config = cast("Any", kind).__struct_config__
        properties: dict[str, Schema] = {}
        required: list[str] = []
        if config.tag is not None:
            properties[config.tag_field] = {"const": config.tag}
            required.append(config.tag_field)
        for field in fields(kind):
            properties[field.encode_name] = self.of(field.type)
            if field.default is NODEFAULT and field.default_factory is NODEFAULT:
                required.append(field.encode_name)
        schema: Schema = {"type": "object", "properties": properties}
        if required:
            schema["required"] = required
        if doc := (kind.__doc__ or "").strip():
            schema["description"] = " ".join(doc.partition("\n\n")[0].split())
        return schema


def _name(kind: type[Struct]) -> str:
    """``ollama.Chat``: the package or module that says whose it is, and its own name."""
    module = kind.__module__.removeprefix("localmodels.").split(".")
    whose = [part for part in module if part not in {"dialects", "wire", "server", "core"}]
    return ".".join([*whose, kind.__qualname__.lstrip("_")])
