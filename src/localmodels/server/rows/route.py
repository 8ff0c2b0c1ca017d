"""The rows by which one sees where requests go."""

from __future__ import annotations

from localmodels.server.inference import WholeRoute
from localmodels.server.route import Route
from localmodels.server.routes import Row

NAME = "plain"


def rows(route: Route) -> tuple[Row, ...]:
    """All of them, each with and without a slash behind it."""
    explain = WholeRoute(route.explain)
    doc = "Where a request for a model would go now, and why; nobody is asked."
    return tuple(Row(("GET",), path, NAME, doc, explain) for path in ("/api/route", "/api/route/"))
