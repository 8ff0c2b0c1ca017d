"""The rows of all dialects, one file each; here they become one table."""

from __future__ import annotations

from localmodels.server.openapi.routes import Description
from localmodels.server.parts import Parts
from localmodels.server.routes import Row
from localmodels.server.rows import (
    anthropic,
    deploys,
    gateway,
    management,
    ollama,
    openai,
    plain,
    rerank,
    responses,
    route,
    seeing,
    servers,
    tasks,
)


def table(parts: Parts) -> tuple[Row, ...]:
    """All rows, in the order of the reference page."""
    made: list[Row] = []
    made += (
        *plain.first(parts),
        *seeing.rows(parts, Description(lambda: made)),
        *ollama.rows(parts),
        *openai.rows(parts),
        *responses.rows(parts),
        *anthropic.rows(parts),
        *rerank.rows(parts),
        *gateway.rows(parts),
        *management.rows(parts),
        *deploys.rows(parts),
        *tasks.rows(parts),
        *servers.of(parts.servers),
        *route.rows(parts.route),
        *plain.rows(parts),
    )
    return tuple(made)
