"""The rows of keys and usage."""

from __future__ import annotations

from localmodels.server.inference import WholeRoute
from localmodels.server.parts import Parts
from localmodels.server.routes import Row

NAME = "management"
SMALL = 2**16  # bytes of a wish for a key


def rows(parts: Parts) -> tuple[Row, ...]:
    """All of them."""
    routes = parts.management
    keys, add = WholeRoute(routes.list, most=SMALL), WholeRoute(routes.add, most=SMALL)
    revoke, usage = WholeRoute(routes.revoke, most=SMALL), WholeRoute(routes.usage, most=SMALL)
    return (
        Row(("GET",), "/api/keys", NAME, "All keys, without their texts.", keys),
        Row(("POST",), "/api/keys", NAME, "Makes a key; its text is in this answer alone.", add),
        Row(("DELETE",), "/api/keys/{id}", NAME, "Makes a key open nothing from now on.", revoke),
        Row(("GET",), "/api/usage", NAME, "What keys used, by model and hour; `?key=`, `?since=`.", usage),
    )
