"""What the requests of several dialects have in common: their limits, and the pieces that are read in one way.

The limits are those of part D of the reliability notes. Each function takes what the wire said and the path of the
field, so that an objection names the field as the caller wrote it.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any, TypeVar

from msgspec import Struct

from localmodels.core.chat import Image, Lora, Message, Text, ThinkLevel, Tool
from localmodels.core.errors import InvalidRequest, InvalidValue
from localmodels.core.options import NO_OPTIONS, OPTIONS, Options, check, parse_options
from localmodels.dialects.strict_json import encode

T = TypeVar("T")


class Adapter(Struct, omit_defaults=True):
    """An entry of ``lora``: a name or a number, and how strongly the adapter counts."""

    name: str | None = None
    id: int | None = None
    scale: float = 1.0


MAX_MESSAGES = 4_096
MAX_TOOLS = 128
MAX_INPUTS = 2_048
MAX_IMAGES = 16
MAX_IMAGE = 20 * 2**20
MAX_SCHEMA = 64 * 2**10
MAX_COUNT, MAX_PATTERN = 1_000_000, 1024
# Of one object. The engine's grammar grows with their square: 400 take half a second to compile, 1,500 six, and who has
# left meanwhile does not stop it.
MAX_OPTIONAL = 256
# In one place. Their square, too: 2,000 take a third of a second, 6,000 more than four.
MAX_CHOICES = 2_000
_CHOICES = ("enum", "anyOf", "oneOf")
_COUNTS = (("minLength", "maxLength"), ("minItems", "maxItems"), ("minProperties", "maxProperties"))
_REPEATED = re.compile(r"\{([0-9]{1,9})?,([0-9]{1,9})?\}")
MAX_SCHEMA_DEPTH = 32
MAX_TOP_LOGPROBS = 20

MAX_ADAPTERS = 64
MAX_SCALE = 100.0  # either way; adapters are trained for 1, and beyond 10 nothing of the model is left

THINK_LEVELS: Mapping[str, ThinkLevel] = {"low": "low", "medium": "medium", "high": "high", "max": "max"}
# The same in OpenAI's words, which others have taken over.
EFFORTS: Mapping[str, bool | ThinkLevel] = {
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "max",
    "max": "max",
}


def required(value: T | None, name: str) -> T:
    """The value of a field that must be there.

    Raises:
        InvalidRequest: it is not.
    """
    if value is None or value == "":
        raise InvalidRequest(f"{name} is required", param=name)
    return value


def at_most(items: Sequence[T], most: int, name: str) -> Sequence[T]:
    """The items, if they are not too many."""
    if len(items) > most:
        raise InvalidValue(f"{name} takes at most {most:,} entries, not {len(items):,}", param=name)
    return items


def within(value: int | None, low: int, high: int, name: str) -> int | None:
    """The number, if it lies in the range."""
    if value is not None and not low <= value <= high:
        raise InvalidValue(f"{name} must be between {low} and {high}, not {value}", param=name)
    return value


def read_options(options: Mapping[str, Any] | None, top: Mapping[str, Any]) -> Options:
    """Options in the ``options`` object, over those at the top level.

    ``top`` gives the name on the wire and the value; ``max_tokens`` and its like are ``num_predict``.
    """
    inner = parse_options(options, prefix="options.") if options else NO_OPTIONS
    outer = {
        _OPTION_OF.get(name, name): check(OPTIONS[_OPTION_OF.get(name, name)], value, param=name)
        for name, value in top.items()
        if value is not None
    }
    return inner.over(Options(**outer)) if outer else inner


_OPTION_OF = dict.fromkeys(("max_tokens", "max_completion_tokens", "max_output_tokens"), "num_predict")


def read_lora(sent: Sequence[Adapter] | None) -> tuple[Lora, ...] | None:
    """Which adapters count, and how strongly.

    Raises:
        InvalidRequest: an entry with a name and a number, or with neither.
        InvalidValue: an adapter named twice, or a scale out of range.
    """
    if sent is None:
        return None
    read: dict[str | int, Lora] = {}
    for place, one in enumerate(at_most(sent, MAX_ADAPTERS, "lora")):
        where = f"lora[{place}]"
        if (one.name is None) == (one.id is None):
            raise InvalidRequest(f"{where} needs the name or the id of an adapter, one of the two", param=where)
        if not -MAX_SCALE <= one.scale <= MAX_SCALE:
            most = f"{MAX_SCALE:.12g}"
            raise InvalidValue(f"{where}.scale must be between -{most} and {most}", param=f"{where}.scale")
        adapter: str | int = one.id if one.name is None else one.name  # type: ignore[assignment]
        if adapter in read:
            raise InvalidValue(f"{where} names the adapter {adapter!r} again", param=where)
        read[adapter] = Lora(adapter, one.scale)
    return tuple(read.values())


def write_lora(lora: Sequence[Lora] | None) -> list[Adapter] | None:
    """The same, as a client."""
    if lora is None:
        return None
    return [
        Adapter(name=one.adapter, scale=one.scale)
        if isinstance(one.adapter, str)
        else Adapter(id=one.adapter, scale=one.scale)
        for one in lora
    ]


def write_options(options: Options) -> dict[str, Any]:
    """The options that were chosen, by the names of the table."""
    chosen = {name: value for name in OPTIONS if (value := getattr(options, name)) is not None}
    if options.logit_bias is not None:
        chosen["logit_bias"] = {str(token): bias for token, bias in options.logit_bias}
    return chosen


def read_effort(word: str, name: str) -> bool | ThinkLevel:
    """How much a model shall think, in OpenAI's words.

    Raises:
        InvalidValue: it is none of them.
    """
    if word not in EFFORTS:
        raise InvalidValue(f"{name} must be one of {', '.join(EFFORTS)}, not '{word[:60]}'", param=name)
    return EFFORTS[word]


def read_grammar(syntax: str | None, definition: str | None, name: str) -> str:
    """A custom tool's grammar in Lark's notation, in which a regular expression is a grammar of one rule.

    Raises:
        InvalidRequest: it is not there.
    """
    text = required(definition, f"{name}.definition")
    return f"start: /{text}/" if syntax == "regex" else text


def read_image(text: str, name: str) -> bytes:
    """The bytes of a picture in base64."""
    if len(text) > MAX_IMAGE * 4 // 3 + 4:
        raise InvalidValue(f"{name} is larger than {MAX_IMAGE >> 20} MiB", param=name)
    try:
        data = b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidValue(f"{name} is not base64: {error}", param=name) from error
    if not data:
        raise InvalidValue(f"{name} is empty", param=name)
    return data


def check_images(messages: Iterable[Message], name: str) -> None:
    """Raises ``InvalidValue`` for more than 16 pictures in one request."""
    if sum(isinstance(part, Image) for message in messages for part in message.parts) > MAX_IMAGES:
        raise InvalidValue(f"{name} may hold at most {MAX_IMAGES} images in all", param=name)


def text_parts(content: str | None) -> tuple[Text, ...]:
    """The one part that a plain text is; none for an empty one."""
    return (Text(content),) if content else ()


def check_tools(tools: Sequence[Tool], name: str = "tools") -> tuple[Tool, ...]:
    """The tools, if they are not too many and each has a name and parameters that a grammar can be made of."""
    for i, tool in enumerate(at_most(tools, MAX_TOOLS, name)):
        if not tool.name:
            raise InvalidRequest(f"{name}[{i}].function.name is required", param=f"{name}[{i}].function.name")
        check_schema(tool.parameters, f"{name}[{i}].function.parameters")
    return tuple(tools)


def check_schema(schema: dict[str, Any], name: str) -> dict[str, Any]:
    """The schema, if it is small, flat and without cycles enough to become a grammar.

    Raises:
        InvalidValue: over 64 KB, deeper than 32, a reference that leads out of it or back to itself.
    """
    if schema:
        size = len(encode(schema))
        if size > MAX_SCHEMA:
            raise InvalidValue(f"{name} is {size:,} bytes of JSON; at most {MAX_SCHEMA:,} are read", param=name)
        if _too_deep(schema, MAX_SCHEMA_DEPTH):
            raise InvalidValue(f"{name} nests deeper than {MAX_SCHEMA_DEPTH} levels", param=name)
        _check_references(schema, name)
        _check_counts(schema, name)
    return schema


def _check_counts(value: Any, name: str) -> None:
    """Every "at least" is at most its "at most", and none is huge.

    A grammar of ``{5,2}`` wraps an unsigned number in llama.cpp: the runner computes for ever and takes all memory.
    """
    if isinstance(value, dict):
        for least, most in _COUNTS:
            low, high = value.get(least), value.get(most)
            for limit in (low, high):
                if isinstance(limit, (int, float)) and not 0 <= limit <= MAX_COUNT:
                    raise InvalidValue(f"{name}: {least} and {most} lie between 0 and {MAX_COUNT:,}", param=name)
            if isinstance(low, (int, float)) and isinstance(high, (int, float)) and low > high:
                raise InvalidValue(f"{name}: {least} {low:.12g} is more than {most} {high:.12g}", param=name)
        properties, needed = value.get("properties"), value.get("required")
        if isinstance(properties, dict):
            free = len(properties) - len(needed if isinstance(needed, list) else ())
            if free > MAX_OPTIONAL:
                raise InvalidValue(
                    f"{name}: an object has {free} optional properties; at most {MAX_OPTIONAL}", param=name
                )
        _check_choices(value, name)
        pattern = value.get("pattern")
        if isinstance(pattern, str):
            _check_pattern(pattern, name)
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_counts(child, name)


def _check_choices(value: dict[str, Any], name: str) -> None:
    for word in _CHOICES:
        choices = value.get(word)
        if isinstance(choices, list) and len(choices) > MAX_CHOICES:
            raise InvalidValue(f"{name}: {word} has {len(choices):,} choices; at most {MAX_CHOICES:,}", param=name)


def _check_pattern(pattern: str, name: str) -> None:
    if len(pattern) > MAX_PATTERN:
        raise InvalidValue(f"{name}: a pattern may have {MAX_PATTERN:,} characters", param=name)
    for low, high in _REPEATED.findall(pattern):
        if int(low or 0) > MAX_COUNT or int(high or 0) > MAX_COUNT or (high and int(low or 0) > int(high)):
            raise InvalidValue(f"{name}: {{{low},{high}}} is no number of repetitions", param=name)


def _too_deep(value: Any, room: int) -> bool:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return children is not None and (room == 0 or any(_too_deep(child, room - 1) for child in children))


def _check_references(schema: dict[str, Any], name: str) -> None:
    """Follows every reference once, without recursion: a chain of them may be as long as the schema."""
    graph: dict[str, set[str]] = {}
    pending = ["#"]
    while pending:
        pointer = pending.pop()
        if pointer not in graph:
            graph[pointer] = set(_targets(_resolved(schema, pointer, name)))
            pending.extend(graph[pointer])
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pointer = error.args[1][0]
        raise InvalidValue(f"{name}: the reference {pointer[:80]} leads back to itself", param=name) from error


def _resolved(schema: dict[str, Any], pointer: str, name: str) -> Any:
    """What a reference points to."""
    value: Any = schema
    for step in pointer.removeprefix("#").split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        value = value.get(key) if isinstance(value, dict) else None
    if value is None or not pointer.startswith("#"):
        raise InvalidValue(f"{name}: the reference {pointer[:80]} leads nowhere in it", param=name)
    return value


def _targets(value: Any) -> Iterable[str]:
    """Every ``$ref`` in a value."""
    if isinstance(value, dict):
        reference = value.get("$ref")
        if isinstance(reference, str):
            yield reference
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _targets(child)
