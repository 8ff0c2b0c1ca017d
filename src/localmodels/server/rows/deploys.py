"""The rows of seed 001: artifacts, and models made of them. ``/models`` without the slash is another row (seed 003)."""

from __future__ import annotations

from localmodels.dialects.tasks import TaskDialect
from localmodels.server.parts import Parts
from localmodels.server.routes import Row

NAME = TaskDialect.name


def rows(parts: Parts) -> tuple[Row, ...]:
    """All of them."""
    routes = parts.deploying
    create = "Makes a model of an artifact; one JSON object a line."
    return (
        Row(("GET",), "/models/", NAME, "What was uploaded to become models, one JSON object a line.", routes.list),
        Row(("DELETE",), "/models/", NAME, "Takes an artifact away; models that were made of it stay.", routes.delete),
        Row(("POST",), "/models/upload/", NAME, "Takes an archive of weights, or one GGUF file.", routes.upload),
        Row(("POST",), "/models/create/", NAME, create, routes.create),
        Row(("POST",), "/models/deploy/", NAME, "Takes an archive, and makes a model of it.", routes.deploy),
    )
