"""The document: OpenAPI 3.1 of every row, made from the tables that the server runs on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import localmodels
from localmodels.core.access import Grant
from localmodels.dialects.table import SPOKEN
from localmodels.server.openapi.bodies import BODIES, BYTES, FORM, JSON, TEXT, Body
from localmodels.server.openapi.schema import Schema, Schemas
from localmodels.server.permissions import PERMISSIONS
from localmodels.server.routes import OLLAMA_PREFIX, Row

_PARAMETER = re.compile(r"{(\w+)(?::\w+)?}")
_ABOUT = (
    "A model server that answers in the dialects of Ollama, OpenAI and Anthropic. Unknown fields are ignored; a value "
    "out of range is refused with a sentence that says what would be right. Every answer has its request's id in the "
    "header `X-Request-Id`."
)


def document(rows: Iterable[Row], bodies: Mapping[str, Mapping[str, Body]] = BODIES) -> Schema:
    """All operations.

    Raises:
        LookupError: a row without an entry in the table of bodies, or an entry without a row.
    """
    schemas = Schemas()
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
            operation = _operation(row, method, body, PERMISSIONS[own][method], schemas)
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
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }


def _path(row: Row) -> str:
    """As OpenAPI writes it: what a parameter may hold is not said in its name."""
    return _PARAMETER.sub(r"{\1}", row.path)


def _operation(row: Row, method: str, body: Body, grant: Grant, schemas: Schemas) -> Schema:
    operation: Schema = {
        "operationId": f"{method.lower()} {_path(row)}",
        "tags": [SPOKEN[row.dialect].title],
        "summary": row.doc,
        "responses": _responses(row, body, schemas),
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
    return [*path, *query]


def _responses(row: Row, body: Body, schemas: Schemas) -> Schema:
    success: Schema = {"description": "The answer."}
    if body.gives is not None:
        success["content"] = {body.media: {"schema": schemas.of(body.gives)}}
        if body.stream:
            success["description"] = f"The answer; with `stream`, one piece after the other as `{body.stream}`."
            success["content"][body.stream] = {"schema": {"type": "string"}}
    elif body.media == TEXT:
        success["content"] = {TEXT: {"schema": {"type": "string"}}}
    failure = {JSON: {"schema": schemas.of(SPOKEN[row.dialect].failure)}}
    responses = {
        str(body.success): success,
        "4XX": {"description": "The request is at fault; the body says why.", "content": failure},
        "5XX": {"description": "The server, or one behind it, is; `Retry-After` says when to ask again.",
                "content": failure},
    }  # fmt: skip
    if row.path == "/health":
        responses["503"] = success | {"description": "A request would not be answered now."}
    return responses
