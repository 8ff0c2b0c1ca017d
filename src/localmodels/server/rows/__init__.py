"""The rows of all dialects, one file each; here they become one table."""

from __future__ import annotations

from localmodels.server.parts import Parts
from localmodels.server.routes import Row
from localmodels.server.rows import ollama, openai, plain


def table(parts: Parts) -> tuple[Row, ...]:
    """All rows, in the order of the reference page."""
    return (*plain.first(parts), *ollama.rows(parts), *openai.rows(parts), *plain.rows(parts))
