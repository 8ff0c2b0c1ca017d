"""The document: OpenAPI 3.1 of every row, made from the tables that the server runs on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import localmodels
from localmodels.core.access import Grant
from localmodels.dialects.table import SPOKEN
from localmodels.server.openapi import headers
from localmodels.server.openapi.bodies import BODIES, BYTES, FORM, JSON, NDJSON, SSE, TEXT, Body, Stream
from localmodels.server.openapi.schema import REF, Schema, Schemas
from localmodels.server.permissions import PERMISSIONS
from localmodels.server.routes import OLLAMA_PREFIX, Row

_PARAMETER = re.compile(r"{(\w+)(?::\w+)?}")
_ABOUT = (
    "A model server that answers in the dialects of Ollama, OpenAI and Anthropic. Unknown fields are ignored; a value "
    "out of range is refused with a sentence that says what would be right. Every answer has its request's id in the "
    "header `X-Request-Id`."
)
RESPONSES = "#/components/responses/"
# What each kind of stream is made of; of what type a piece is, its media type has under ``ITEM``.
_STREAMS: Mapping[str, str] = {
    NDJSON: "One JSON object a line, each of type {}.",
    SSE: "Server-sent events, the data of each a JSON object of type {}",
}
ITEM = "x-item-schema"
# By whose fault it is: the statuses, and what they say.
_FAILURES: Mapping[bool, tuple[str, str]] = {
    True: ("4XX", "The request is at fault; the body says why."),
    False: ("5XX", "The server, or one behind it, is; `Retry-After` says when to ask again."),
}


def document(rows: Iterable[Row], bodies: Mapping[str, Mapping[str, Body]] = BODIES) -> Schema:
    """All operations.

    Raises:
        LookupError: a row without an entry in the table of bodies, or an entry without a row.
    """
    schemas, failures = Schemas(), dict[str, Schema]()
    paths: dict[str, Schema] = {}
    described: set[tuple[str, str]] = set()
    spoke: set[str] = set()
    for row in rows:
        spoke.add(row.dialect)
        own = row.path.removeprefix(OLLAMA_PREFIX)
        for method in row.methods:
            try:
                body = bodies[own][method]
            except KeyError:
                raise LookupError(f"{method} {own} is not in the table of bodies") from None
            described.add((own, method))
            operation = _operation(row, method, body, PERMISSIONS[own][method], schemas, failures)
            paths.setdefault(_path(row), {})[method.lower()] = operation
    if idle := {(path, method) for path in bodies for method in bodies[path]} - described:
        raise LookupError(f"bodies of routes that are not there: {sorted(idle)}")
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "LocalModels",
            "version": localmodels.__version__,
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [{"name": spoken.title} for name, spoken in SPOKEN.items() if name in spoke],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "responses": failures,
            **headers.components(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }


def _path(row: Row) -> str:
    """As OpenAPI writes it: what a parameter may hold is not said in its name."""
    return _PARAMETER.sub(r"{\1}", row.path)


def _operation(
    row: Row, method: str, body: Body, grant: Grant, schemas: Schemas, failures: dict[str, Schema]
) -> Schema:
    operation: Schema = {
        "operationId": f"{method.lower()} {_path(row)}",
        "tags": [SPOKEN[row.dialect].title],
        "summary": row.doc,
        "responses": {**_success(row, body, schemas), **_failures(row, body, schemas, failures)},
    }
    if grant != "open":
        operation["description"] = f"A key needs the scope `{grant}`; programs of this machine need no key."
        operation["security"] = [{}, {"bearer": []}, {"header": []}]
    if parameters := _parameters(row, body, schemas):
        operation["parameters"] = parameters
    if body.upload:
        operation["requestBody"] = {"content": {BYTES: {}}}
    elif body.form is not None:
        operation["requestBody"] = {"required": True, "content": {FORM: {"schema": schemas.of(body.form)}}}
    elif body.takes is not None:
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": schemas.of(body.takes)}}}
    return operation


def _parameters(row: Row, body: Body, schemas: Schemas) -> list[Schema]:
    path = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PARAMETER.findall(row.path)
    ]
    query = [{"name": name, "in": "query", "schema": schemas.of(kind)} for name, kind in body.query.items()]
    return [*path, *query, *headers.parameters(row)]


def _success(row: Row, body: Body, schemas: Schemas) -> Schema:
    if not body.success:
        return {}
    success: Schema = {"description": "The answer.", "headers": headers.of_answer(row, body)}
    content: dict[str, Schema] = {}
    if body.gives is not None:
        content[body.media] = {"schema": schemas.of(body.gives)}
    elif body.media == TEXT:
        content[TEXT] = {"schema": {"type": "string"}}
    if body.stream is not None:
        content[body.stream.media] = _streamed(body.stream, schemas)
        if body.gives is not None:
            success["description"] = f"The answer; with `stream`, one piece after the other as `{body.stream.media}`."
    if content:
        success["content"] = content
    if row.path == "/health":
        return {"200": success, "503": success | {"description": "A request would not be answered now."}}
    return {str(body.success): success}


def _streamed(stream: Stream, schemas: Schemas) -> Schema:
    """Its text as a whole, and what a piece of it is."""
    piece = schemas.of(stream.piece)
    *some, last = [f"`{one['$ref'].removeprefix(REF)}`" for one in piece.get("anyOf", [piece])]
    words = _STREAMS[stream.media].format(f"{', '.join(some)} or {last}" if some else last)
    if stream.media == SSE:
        words += f"; the last says `{stream.end}`." if stream.end else "."
    return {"schema": {"type": "string", "description": words}, ITEM: piece}


def _failures(row: Row, body: Body, schemas: Schemas, failures: dict[str, Schema]) -> Schema:
    """References to what rows of one dialect refuse with, which are gathered."""
    kinds = [SPOKEN[row.dialect].failure]
    if headers.versioned(row):
        kinds.append(SPOKEN["anthropic"].failure)
    some = [schemas.of(kind) for kind in kinds]
    made: Schema = {}
    for caller_s, (status, words) in _FAILURES.items():
        name = f"{row.dialect}.{'asked.' if headers.asks(row, body) else ''}{status}"
        failures[name] = {
            "description": words,
            "headers": headers.of_failure(row, body, caller_s=caller_s),
            "content": {JSON: {"schema": some[0] if len(some) == 1 else {"anyOf": some}}},
        }
        made[status] = {"$ref": RESPONSES + name}
    return made
