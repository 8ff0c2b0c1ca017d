"""The rows of the fleet (seed 000), each with and without the slash behind it."""

from __future__ import annotations

from starlette.types import ASGIApp

from localmodels.dialects.servers import FleetDialect
from localmodels.server.inference import WholeRoute
from localmodels.server.routes import Row
from localmodels.server.servers import SMALL, ServerRoutes

NAME = FleetDialect.name


def of(routes: ServerRoutes) -> tuple[Row, ...]:
    """All of them, over these routes."""
    every, one = WholeRoute(routes.list, most=SMALL), WholeRoute(routes.one, most=SMALL)
    found, discover = WholeRoute(routes.models, most=SMALL), WholeRoute(routes.discover, most=SMALL)
    live, at = WholeRoute(routes.live, most=SMALL), WholeRoute(routes.at, most=SMALL)
    model, check = WholeRoute(routes.model, most=SMALL), WholeRoute(routes.check, most=SMALL)
    unload, release = WholeRoute(routes.unload, most=SMALL), WholeRoute(routes.release, most=SMALL)
    server_path, model_path = "/api/servers/{server_id}", "/api/models/{model_id}"
    return (
        *_both(("GET",), "/api/servers", "The servers of the fleet; `?active_only=true`.", every),
        *_both(("POST",), "/api/servers", "Registers a server, and looks for its models.", routes.add),
        *_both(("GET", "PUT", "DELETE"), server_path, "A server; changes some of it; forgets it.", one),
        *_both(("POST",), f"{server_path}/discover", "Asks a server for its models now.", discover),
        *_both(("GET",), f"{server_path}/models", "What was found on a server.", found),
        *_both(("GET",), "/api/models/servers", "The servers that may be asked, as they are now.", live),
        *_both(("GET",), "/api/models/server/models", "The server at `?server_url=`, and what it has.", at),
        *_both(
            ("GET", "PUT", "DELETE"),
            model_path,
            "A model of a server; changes what its owner says of it; forgets one that is gone.",
            model,
        ),
        *_both(("POST",), f"{model_path}/check-availability", "Is a model there, and in memory?", check),
        *_both(("POST",), f"{model_path}/unload", "Takes a model out of its server's memory.", unload),
        *_both(("POST",), f"{model_path}/unload-from-gpu", "Takes a model off the graphics cards.", release),
    )


def _both(methods: tuple[str, ...], path: str, doc: str, answers: ASGIApp) -> tuple[Row, Row]:
    return Row(methods, path, NAME, doc, answers), Row(methods, f"{path}/", NAME, doc, answers)
