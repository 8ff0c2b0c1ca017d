"""The fleet's servers and models as JSON (seed 000), in both roles: what routes take and give, and what clients say."""

from __future__ import annotations

from localmodels.dialects.plain import Plain
from localmodels.dialects.servers.asked import (
    AskedModel,
    AskedRelease,
    AskedServer,
    read_change,
    read_model_change,
    read_release,
    read_server,
    read_switch,
    write_change,
    write_model_change,
    write_release,
)
from localmodels.dialects.servers.shown import (
    ShownAvailability,
    ShownDiscovery,
    ShownHolder,
    ShownModel,
    ShownModels,
    ShownOffer,
    ShownRelease,
    ShownServer,
    ShownServers,
    ShownUnload,
    read_availability,
    read_discovery,
    read_freed,
    read_holder,
    read_model,
    read_models,
    read_servers,
    read_shown,
    read_unloaded,
    shown,
    shown_model,
    write_availability,
    write_discovery,
    write_freed,
    write_holder,
    write_model,
    write_models,
    write_server,
    write_servers,
    write_unloaded,
)

__all__ = [
    "AskedModel",
    "AskedRelease",
    "AskedServer",
    "FleetDialect",
    "ShownAvailability",
    "ShownDiscovery",
    "ShownHolder",
    "ShownModel",
    "ShownModels",
    "ShownOffer",
    "ShownRelease",
    "ShownServer",
    "ShownServers",
    "ShownUnload",
    "read_availability",
    "read_change",
    "read_discovery",
    "read_freed",
    "read_holder",
    "read_model",
    "read_model_change",
    "read_models",
    "read_release",
    "read_server",
    "read_servers",
    "read_shown",
    "read_switch",
    "read_unloaded",
    "shown",
    "shown_model",
    "write_availability",
    "write_change",
    "write_discovery",
    "write_freed",
    "write_holder",
    "write_model",
    "write_model_change",
    "write_models",
    "write_release",
    "write_server",
    "write_servers",
    "write_unloaded",
]


class FleetDialect(Plain):
    """The dialect of these routes; its errors are those of all paths of our own."""

    name: str = "fleet"
    title: str = "Fleet"
    roots: tuple[str, ...] = ("/api/servers", "/api/models", "/api/route")
