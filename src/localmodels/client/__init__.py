"""The SDK: how Python programs talk to a LocalModels server.

::

    from localmodels.client import ChatRequest, Client, user

    with Client() as client:
        for event in client.stream_chat(ChatRequest("localmodels", (user("Why is the sky blue?"),))):
            ...

Requests and answers are the values of ``localmodels.core``; errors are those of ``localmodels.core.errors``. A name is
imported when it is first used, since the command line uses parts of this package and must not wait for the rest.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from localmodels.client._async import AsyncClient
    from localmodels.client._sync import Client
    from localmodels.client.messages import assistant, system, user
    from localmodels.client.wire import Health
    from localmodels.core.access import Allowance, Use, Wish
    from localmodels.core.artifacts import Artifact
    from localmodels.core.chat import (
        Answer,
        ChatRequest,
        Chunk,
        Done,
        EmbedRequest,
        Event,
        GenerateRequest,
        Lora,
        Message,
    )
    from localmodels.core.deploys import Deployment
    from localmodels.core.fleet import ModelChange, ServerChange
    from localmodels.core.library import CreateRequest, Outcome, PartlyDone, Progress
    from localmodels.core.rerank import RerankRequest
    from localmodels.core.roster import Availability, Freed, Unloaded
    from localmodels.core.tasks import Task
    from localmodels.dialects.management import ShownKey
    from localmodels.dialects.routing import ShownRoute
    from localmodels.dialects.servers import ShownDiscovery, ShownModel, ShownServer

__all__ = [
    "Allowance",
    "Answer",
    "Artifact",
    "AsyncClient",
    "Availability",
    "ChatRequest",
    "Chunk",
    "Client",
    "CreateRequest",
    "Deployment",
    "Done",
    "EmbedRequest",
    "Event",
    "Freed",
    "GenerateRequest",
    "Health",
    "Lora",
    "Message",
    "ModelChange",
    "Outcome",
    "PartlyDone",
    "Progress",
    "RerankRequest",
    "ServerChange",
    "ShownDiscovery",
    "ShownKey",
    "ShownModel",
    "ShownRoute",
    "ShownServer",
    "Task",
    "Unloaded",
    "Use",
    "Wish",
    "assistant",
    "system",
    "user",
]

_HOMES = {
    "AsyncClient": "localmodels.client._async",
    "Client": "localmodels.client._sync",
    "Health": "localmodels.client.wire",
    **dict.fromkeys(("assistant", "system", "user"), "localmodels.client.messages"),
    "ShownKey": "localmodels.dialects.management",
    **dict.fromkeys(("Allowance", "Use", "Wish"), "localmodels.core.access"),
    **dict.fromkeys(("CreateRequest", "Outcome", "PartlyDone", "Progress"), "localmodels.core.library"),
    "RerankRequest": "localmodels.core.rerank",
    "Artifact": "localmodels.core.artifacts",
    "Deployment": "localmodels.core.deploys",
    "Task": "localmodels.core.tasks",
    **dict.fromkeys(("ModelChange", "ServerChange"), "localmodels.core.fleet"),
    **dict.fromkeys(("Availability", "Freed", "Unloaded"), "localmodels.core.roster"),
    **dict.fromkeys(("ShownDiscovery", "ShownModel", "ShownServer"), "localmodels.dialects.servers"),
    "ShownRoute": "localmodels.dialects.routing",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES.get(name, "localmodels.core.chat")), name)
    globals()[name] = value  # the next use finds it without us
    return value
