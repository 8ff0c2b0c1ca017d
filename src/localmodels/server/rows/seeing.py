"""The rows by which one sees into the server."""

from __future__ import annotations

from localmodels.server.openapi.routes import Description
from localmodels.server.parts import Parts
from localmodels.server.routes import Row

NAME = "plain"


def rows(parts: Parts, description: Description) -> tuple[Row, ...]:
    """All of them."""
    return (
        Row(("GET",), "/metrics", NAME, "Figures for Prometheus, or for OpenMetrics.", parts.scrape),
        Row(("GET",), "/openapi.json", NAME, "This list, with what each route takes and gives.", description.as_json()),
        Row(("GET",), "/docs", NAME, "The same as a page for people.", description.as_page()),
    )
