"""``/docs``: the description as a page that needs nothing but itself: no scripts, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from localmodels.server.openapi.schema import REF, Schema

# Nothing may be loaded or run, so that nothing in a description can do harm (V-23).
POLICY = b"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1c1c1c; }
code { font: 14px ui-monospace, monospace; background: #f3f3f0; padding: 0 .25em; border-radius: 3px; }
summary { cursor: pointer; padding: .3rem 0; } summary b { display: inline-block; width: 4.5rem; }
table { border-collapse: collapse; margin: .5rem 0 1rem 1rem; }
td { padding: .1rem .8rem .1rem 0; vertical-align: top; }
p { margin: .3rem 0 .3rem 1rem; }
@media (prefers-color-scheme: dark) { body { background: #161616; color: #e4e4e4; } code { background: #262626; } }
"""


def page(document: Schema) -> str:
    """The page."""
    info = document["info"]
    return "".join([
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>{escape(info['title'])} {escape(info['version'])}</title><style>{_STYLE}</style>",
        f"<h1>{escape(info['title'])}</h1><p>{_text(info['description'])}</p>",
        "<p>For programs: <a href='/openapi.json'>openapi.json</a></p>",
        *(_section(tag["name"], document) for tag in document["tags"]),
        "</html>",
    ])  # fmt: skip


def _section(tag: str, document: Schema) -> str:
    operations = [
        _operation(path, method, operation, document["components"]["schemas"])
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if tag in operation["tags"]
    ]
    return f"<h2>{escape(tag)}</h2>{''.join(operations)}" if operations else ""


def _operation(path: str, method: str, operation: Schema, schemas: Schema) -> str:
    takes = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    success: Schema = next((told for status, told in operation["responses"].items() if status.startswith("2")), {})
    gives = success.get("content", {}).get("application/json", {}).get("schema")
    return "".join([
        f"<details><summary><b>{method.upper()}</b> <code>{escape(path)}</code> ",
        f"{_text(operation['summary'])}</summary>",
        f"<p>{_text(operation.get('description', ''))}</p>",
        _fields("Takes", takes, schemas),
        _fields("Gives", gives, schemas),
        "</details>",
    ])  # fmt: skip


def _fields(title: str, schema: Schema | None, schemas: Schema) -> str:
    if not schema or "$ref" not in schema:
        return ""
    struct = schemas[schema["$ref"].removeprefix(REF)]
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code>{' *' if name in struct.get('required', ()) else ''}</td>"
        f"<td>{escape(' or '.join(_words(kind)))}</td></tr>"
        for name, kind in struct["properties"].items()
    )
    return f"<p>{title}: {_text(struct.get('description', ''))}</p><table>{rows}</table>"


def _words(schema: Schema) -> Iterator[str]:
    """A schema in a few words."""
    if "$ref" in schema:
        yield schema["$ref"].removeprefix(REF)
    elif "anyOf" in schema:
        for one in schema["anyOf"]:
            yield from _words(one)
    elif "enum" in schema:
        yield from map(str, schema["enum"])
    elif schema.get("type") == "array":
        yield f"list of {' or '.join(_words(schema.get('items') or {}))}"
    else:
        yield schema.get("type", "anything")


def _text(text: str) -> str:
    """Words, and between backquotes code."""
    pieces = escape(text).replace("``", "`").split("`")
    return "".join(f"<code>{piece}</code>" if place % 2 else piece for place, piece in enumerate(pieces))
