"""Limits on what requests may hold."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest

from localmodels.core.chat import Image, Lora, Message, Tool
from localmodels.core.errors import InvalidRequest, InvalidValue
from localmodels.core.options import Options
from localmodels.dialects import asked


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(depth):
        schema = {"items": schema}
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "object", "properties": {"$ref": {"type": "string"}}},
        nested(asked.MAX_SCHEMA_DEPTH - 1),
        {"$defs": {"a": {"type": "string"}}, "items": {"$ref": "#/$defs/a"}, "not": {"$ref": "#/$defs/a"}},
        {"$defs": {"a/b~": {"type": "string"}}, "items": {"$ref": "#/$defs/a~1b~0"}},
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"type": "string"}}, "items": {"$ref": "#/$defs/a"}},
    ],
)
def test_schemas_that_are_taken(schema: dict[str, Any]) -> None:
    assert asked.check_schema(schema, "format") is schema


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (nested(asked.MAX_SCHEMA_DEPTH), "deeper than 32"),
        ({"enum": ["x" * 70_000]}, "65,536"),
        ({"$ref": "#"}, "back to itself"),
        ({"$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}, "$ref": "#/$defs/a"}, "back to itself"),
        ({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}, "back to itself"),
        ({"$ref": "https://example.org/schema.json"}, "leads nowhere"),
        ({"$ref": "#/$defs/none"}, "leads nowhere"),
    ],
)
def test_schemas_that_are_not(schema: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidValue, match=reason) as caught:
        asked.check_schema(schema, "format")
    assert caught.value.param == "format"


def test_a_schema_whose_references_fan_out_is_followed_once_each() -> None:
    # Twenty levels that each refer twice to the next would be a million ways without a memory.
    levels = {f"l{i}": {"anyOf": [{"$ref": f"#/$defs/l{i + 1}"}] * 2} for i in range(20)}
    asked.check_schema({"$defs": {**levels, "l20": {"type": "string"}}, "$ref": "#/$defs/l0"}, "format")


def test_a_chain_of_references_may_be_longer_than_the_stack() -> None:
    chain = {f"l{i}": {"$ref": f"#/$defs/l{i + 1}"} for i in range(1_500)}
    asked.check_schema({"$defs": {**chain, "l1500": {}}, "$ref": "#/$defs/l0"}, "format")


def test_tools_are_128_with_a_name_each() -> None:
    tools = [Tool("a")] * asked.MAX_TOOLS
    assert asked.check_tools(tools) == tuple(tools)
    with pytest.raises(InvalidValue, match="at most 128"):
        asked.check_tools([*tools, Tool("b")])
    with pytest.raises(InvalidRequest, match=r"tools\[0\]\.function\.name is required"):
        asked.check_tools([Tool("")])
    with pytest.raises(InvalidValue, match=r"tools\[0\]\.function\.parameters"):
        asked.check_tools([Tool("a", parameters={"$ref": "#"})])


@pytest.mark.parametrize("text", ["", "%%%", "AAA", "data:image/png;base64,AAAA", "AAAA\n"])
def test_a_picture_must_be_base64(text: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        asked.read_image(text, "images[0]")
    assert caught.value.param == "images[0]"


def test_a_picture_is_at_most_20_mib() -> None:
    assert asked.read_image(b64encode(b"abc").decode(), "x") == b"abc"
    with pytest.raises(InvalidValue, match="larger than 20 MiB"):
        asked.read_image("A" * (asked.MAX_IMAGE * 4 // 3 + 5), "x")


def test_16_pictures_in_all() -> None:
    image = Image(b"a")
    asked.check_images([Message("user", (image,) * 8), Message("user", (image,) * 8)], "messages")
    with pytest.raises(InvalidValue, match="at most 16"):
        asked.check_images([Message("user", (image,) * 16), Message("user", (image,))], "messages")


def test_the_options_object_wins_over_the_top_level() -> None:
    read = asked.read_options({"temperature": 0.5, "typo": 1}, {"temperature": 1, "max_tokens": 7, "seed": None})
    assert read == Options(temperature=0.5, num_predict=7, ignored=("typo",))


def test_an_option_is_named_where_the_caller_put_it() -> None:
    with pytest.raises(InvalidValue) as top:
        asked.read_options(None, {"max_tokens": "many"})
    with pytest.raises(InvalidValue) as inner:
        asked.read_options({"num_predict": "many"}, {})
    assert (top.value.param, inner.value.param) == ("max_tokens", "options.num_predict")


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "minLength": 50, "maxLength": 5},
        {"type": "array", "items": {"type": "string"}, "minItems": 9, "maxItems": 2},
        {"type": "object", "minProperties": 2, "maxProperties": 1},
        {"type": "string", "pattern": "^a{5,2}$"},
        {"type": "string", "pattern": "a" * 2000},
        {"type": "string", "maxLength": 2**40},
        {"type": "string", "minLength": -1},
        {"properties": {"deep": {"anyOf": [{"type": "string", "minLength": 2, "maxLength": 1}]}}},
    ],
)
def test_a_schema_of_which_the_engine_would_never_be_done(schema: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue, match="format"):
        asked.check_schema(schema, "format")


def test_ordinary_counts_and_patterns_pass() -> None:
    schema = {"type": "string", "minLength": 1, "maxLength": 65_536, "pattern": "^a{2,5}b{3,}c{,4}$"}
    assert asked.check_schema(schema, "format") is schema


def test_an_object_of_very_many_optional_properties_is_no_grammar() -> None:
    properties = {f"p{number}": {"type": "string"} for number in range(asked.MAX_OPTIONAL + 1)}
    with pytest.raises(InvalidValue, match="257 optional"):
        asked.check_schema({"type": "object", "properties": properties}, "format")
    wanted = {"type": "object", "properties": properties, "required": ["p0"]}
    assert asked.check_schema(wanted, "format") is wanted


@pytest.mark.parametrize("word", ["enum", "anyOf", "oneOf"])
def test_very_many_choices_are_no_grammar(word: str) -> None:
    schema = {"type": "array", "items": {word: [{}] * asked.MAX_CHOICES}}
    assert asked.check_schema(schema, "format") is schema
    schema["items"][word].append({})  # type: ignore[index]
    with pytest.raises(InvalidValue, match="2,001 choices"):
        asked.check_schema(schema, "format")


def test_adapters_by_name_or_number() -> None:
    sent = [asked.Adapter(name="style"), asked.Adapter(id=1, scale=0.5)]
    assert asked.read_lora(sent) == (Lora("style"), Lora(1, 0.5))
    assert asked.read_lora(None) is None
    assert asked.read_lora([]) == ()


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        ([asked.Adapter()], "lora[0]"),
        ([asked.Adapter(name="a"), asked.Adapter(name="b", id=1)], "lora[1]"),
        ([asked.Adapter(name="a"), asked.Adapter(name="a")], "lora[1]"),
        ([asked.Adapter(id=0, scale=100.5)], "lora[0].scale"),
        ([asked.Adapter(id=0, scale=float("nan"))], "lora[0].scale"),
        ([asked.Adapter(id=number) for number in range(asked.MAX_ADAPTERS + 1)], "lora"),
    ],
)
def test_adapters_that_cannot_be_meant(sent: list[asked.Adapter], param: str) -> None:
    with pytest.raises((InvalidRequest, InvalidValue)) as raised:
        asked.read_lora(sent)
    assert raised.value.param == param
