"""The description of all routes: complete, valid, and what the codecs do."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any

import jsonschema
import msgspec
import pytest
from msgspec import UNSET, Raw, Struct, UnsetType
from tools.reference import rows

from localmodels.server.openapi.bodies import BODIES, NDJSON, SSE, Body
from localmodels.server.openapi.document import ITEM, document
from localmodels.server.openapi.page import page
from localmodels.server.openapi.schema import REF, Schemas
from localmodels.server.routes import Row

ROWS = rows()
DOCUMENT = json.loads(msgspec.json.encode(document(ROWS)))


def test_every_row_and_method_is_described() -> None:
    written = {(path, method) for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert written == {(row.path.replace(":path", ""), method.lower()) for row in ROWS for method in row.methods}


def test_every_schema_is_one() -> None:
    validator = jsonschema.Draft202012Validator
    parts = DOCUMENT["components"]
    for schema in parts["schemas"].values():
        validator.check_schema(schema)
    for one in (*parts["headers"].values(), *parts["parameters"].values()):
        validator.check_schema(one["schema"])


@pytest.mark.parametrize("kind", ["schemas", "responses", "headers", "parameters"])
def test_every_reference_leads_somewhere(kind: str) -> None:
    text = json.dumps(DOCUMENT)
    names = {piece.partition('"')[0] for piece in text.split(f"#/components/{kind}/")[1:]}
    assert names == set(DOCUMENT["components"][kind])


def test_every_stream_says_what_its_pieces_are() -> None:
    streams = [
        (media, told)
        for methods in DOCUMENT["paths"].values()
        for operation in methods.values()
        for status, answer in operation["responses"].items()
        if status.startswith("2")
        for media, told in answer.get("content", {}).items()
        if media in {NDJSON, SSE}
    ]
    assert {media for media, _ in streams} == {NDJSON, SSE}
    for media, told in streams:
        words = told["schema"]["description"]
        assert words.startswith({NDJSON: "One JSON object a line", SSE: "Server-sent events"}[media])
        for one in told[ITEM].get("anyOf", [told[ITEM]]):
            assert f"`{one['$ref'].removeprefix(REF)}`" in words


def test_what_is_always_refused_gives_nothing() -> None:
    assert set(DOCUMENT["paths"]["/v1/responses/compact"]["post"]["responses"]) == {"4XX", "5XX"}


def test_operations_have_names_of_their_own() -> None:
    names = [operation["operationId"] for methods in DOCUMENT["paths"].values() for operation in methods.values()]
    assert len(names) == len(set(names))


def test_every_parameter_of_a_path_is_told() -> None:
    told = DOCUMENT["paths"]["/v1/responses/{id}/input_items"]["get"]["parameters"]
    assert [(one["name"], one["in"]) for one in told if "$ref" not in one] == [
        ("id", "path"),
        ("after", "query"),
        ("limit", "query"),
        ("order", "query"),
    ]


def test_a_row_without_a_body_is_refused() -> None:
    with pytest.raises(LookupError, match="GET /new is not in the table"):
        document([*ROWS, Row(("GET",), "/new", "plain", "", ROWS[0].answers)])


def test_a_body_without_a_row_is_refused() -> None:
    with pytest.raises(LookupError, match="/gone"):
        document(ROWS, {**BODIES, "/gone": {"GET": Body()}})


class Inner(Struct, tag="inner", omit_defaults=True):
    """Inside.

    More about it.
    """

    number: int
    maybe: str | UnsetType = UNSET


class Other(Struct):
    raw: Raw = Raw(b"null")
    again: tuple[Inner, ...] = ()


class Outer(Struct, rename={"kind": "from"}):
    kind: str
    inner: Inner | Other | None = None
    pair: tuple[int, str] = (0, "")
    anything: dict[str, Any] = {}


def test_structs_become_schemas() -> None:
    schemas = Schemas()
    assert schemas.of(Outer)["$ref"].endswith(".Outer")
    whole = {name.rpartition(".")[2]: schema for name, schema in schemas.components.items()}
    outer = whole["Outer"]
    assert outer["required"] == ["from"]
    assert outer["properties"]["pair"]["prefixItems"] == [{"type": "integer"}, {"type": "string"}]
    assert [one.get("$ref", "").rpartition(".")[2] for one in outer["properties"]["inner"]["anyOf"]] == [
        "Inner",
        "Other",
        "",
    ]
    inner = whole["Inner"]
    assert inner["required"] == ["type", "number"]
    assert inner["properties"] == {
        "type": {"const": "inner"},
        "number": {"type": "integer"},
        "maybe": {"type": "string"},
    }
    assert inner["description"] == "Inside."
    assert whole["Other"]["properties"]["raw"] == {}


def test_what_has_no_schema_is_said() -> None:
    with pytest.raises(TypeError, match="complex"):
        Schemas().of(complex)


class Reads(HTMLParser):
    """Gathers tags and what they point to."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.places: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.places |= {value or "" for name, value in attrs if name in {"href", "src"}}


def test_the_page_shows_every_operation_and_loads_nothing() -> None:
    text = page(DOCUMENT)
    read = Reads()
    read.feed(text)
    assert read.places == {"/openapi.json"}
    assert not read.tags & {"script", "img", "link", "iframe", "form"}
    assert text.count("<details>") == sum(len(methods) for methods in DOCUMENT["paths"].values())


def test_the_page_shows_words_as_words() -> None:
    hostile = {**DOCUMENT, "info": {**DOCUMENT["info"], "title": "<script>alert(1)</script>"}}
    assert "<script>" not in page(hostile)
