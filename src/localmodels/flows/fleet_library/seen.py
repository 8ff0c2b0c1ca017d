"""A server whose models are not managed from here, to be asked what it has: llama.cpp's own, vLLM, Anthropic.

The rule: it is looked at and never changed. What is in its memory is what it told when it was looked at, just now.
"""

from __future__ import annotations

from collections.abc import Sequence

from localmodels.core.catalog import Description, Running
from localmodels.core.errors import Unavailable, Unsupported
from localmodels.flows.connections.remotes import Server
from localmodels.flows.routing.model_list import in_memory
from localmodels.flows.routing.name_resolution import described_there
from localmodels.flows.routing.remote_model import RemoteTarget


class Seen:
    """One of them.

    Args:
        server: the way there.
    """

    def __init__(self, server: Server) -> None:
        self._server = server

    async def running(self) -> Sequence[Running]:
        """What is in its memory.

        Raises:
            Unsupported: servers like this one do not tell.
            LocalModelsError: it could not be asked.
        """
        server = self._server
        await server.traffic.look(server.host.id)
        if not server.host.may_be_asked:
            raise Unavailable(f"the server '{server.name}' does not answer")
        rows = in_memory(server.host)
        if rows is None:
            raise Unsupported(f"the server '{server.name}' does not tell what is in its memory", param="server")
        return rows

    async def describe(self, name: str, *, verbose: bool) -> Description:
        """All that it tells about a model.

        Raises:
            ModelNotFound: it has told its models, and this is none of them.
            LocalModelsError: it could not be asked.
        """
        return await described_there(RemoteTarget(self._server, name), name)
