"""``/api/servers`` and ``/api/models`` (seed 000): the servers of the fleet and what was found on them.

The rule: an id that is nobody's is 404, whatever it looks like; and only servers that are known are ever asked.
"""

from __future__ import annotations

from starlette.types import Receive, Scope, Send

from localmodels.core.errors import InvalidRequest
from localmodels.core.servers import prefix_of
from localmodels.dialects import servers as wire
from localmodels.flows.servers.roster import no_model
from localmodels.flows.servers.servers import Servers
from localmodels.flows.servers.unloading import Unloading
from localmodels.server.inference import decoded
from localmodels.server.wire import attended, query_of, read_body, respond, visit_of

# Bytes of a server as somebody describes it.
SMALL = 2**16


class ServerRoutes:
    """The routes.

    Args:
        servers: the fleet.
        unloading: looks for models, and takes them out of memory.
    """

    def __init__(self, servers: Servers, unloading: Unloading) -> None:
        self._servers = servers
        self._unloading = unloading

    async def list(self, scope: Scope, body: bytes) -> bytes:
        """``GET /api/servers``; ``?active_only=`` leaves out those that may not be asked."""
        await self._servers.fresh()
        return wire.write_servers(self._servers.all(active_only=wire.read_switch(query_of(scope), "active_only")))

    async def add(self, scope: Scope, receive: Receive, send: Send) -> None:
        """``POST /api/servers``: 201, and the server."""
        body = await read_body(receive, SMALL)
        await attended(scope, receive, self._added(body, send))

    async def one(self, scope: Scope, body: bytes) -> bytes:
        """``/api/servers/{server_id}``, by its method."""
        server_id = scope["path_params"]["server_id"]
        match scope["method"]:
            case "PUT":
                wish = await decoded(wire.read_change, body)
                return wire.write_server(await self._servers.change(server_id, wish))
            case "DELETE":
                return wire.write_server(await self._servers.remove(server_id))
            case _:
                await self._servers.fresh()
                return wire.write_server(self._servers.one(server_id))

    async def discover(self, scope: Scope, body: bytes) -> bytes:
        """``POST /api/servers/{server_id}/discover``."""
        server_id = scope["path_params"]["server_id"]
        seen = await self._servers.discover(server_id)
        return wire.write_discovery(seen, self._servers.row(server_id).name)

    async def models(self, scope: Scope, body: bytes) -> bytes:
        """``GET /api/servers/{server_id}/models``."""
        await self._servers.fresh()
        return wire.write_models(self._servers.models(scope["path_params"]["server_id"]))

    async def live(self, scope: Scope, body: bytes) -> bytes:
        """``GET /api/models/servers``: all that may be asked, as they are now."""
        return wire.write_servers(await self._servers.live())

    async def at(self, scope: Scope, body: bytes) -> bytes:
        """``GET /api/models/server/models?server_url=``: a server that is registered, and what it has."""
        url = query_of(scope).get("server_url")
        if not url:
            raise InvalidRequest("server_url is required: the address of a registered server", param="server_url")
        return wire.write_holder(await self._servers.at(url))

    async def model(self, scope: Scope, body: bytes) -> bytes:
        """``/api/models/{model_id}``, by its method."""
        model_id = await self._model_id(scope)
        match scope["method"]:
            case "PUT":
                change = await decoded(wire.read_model_change, body)
                return wire.write_model(await self._servers.change_model(model_id, change))
            case "DELETE":
                return wire.write_model(await self._servers.forget_model(model_id))
            case _:
                return wire.write_model(self._servers.model(model_id))

    async def check(self, scope: Scope, body: bytes) -> bytes:
        """``POST /api/models/{model_id}/check-availability``."""
        return wire.write_availability(await self._unloading.check(await self._model_id(scope)))

    async def unload(self, scope: Scope, body: bytes) -> bytes:
        """``POST /api/models/{model_id}/unload``."""
        return wire.write_unloaded(await self._unloading.unload(await self._askable_id(scope)))

    async def release(self, scope: Scope, body: bytes) -> bytes:
        """``POST /api/models/{model_id}/unload-from-gpu``; ``{"keep_on_cpu": true}`` is for our own engine."""
        keep_on_cpu = await decoded(wire.read_release, body)
        model_id = await self._askable_id(scope)
        return wire.write_freed(await self._unloading.release(model_id, visit_of(scope), keep_on_cpu=keep_on_cpu))

    async def _model_id(self, scope: Scope) -> str:
        """Which model is meant; by now our own engine has told of those that it has."""
        await self._servers.fresh()
        model_id: str = scope["path_params"]["model_id"]
        return model_id

    async def _askable_id(self, scope: Scope) -> str:
        """The same, where the caller may ask this model.

        Raises:
            NotFound: there is no model of this id, or his key is for others: he does not learn which.
        """
        model_id = await self._model_id(scope)
        found, caller = self._servers.model(model_id), visit_of(scope).caller
        if not (caller.may_ask(found.row.model) or caller.may_ask(f"{prefix_of(found.server_name)}/{found.row.model}")):
            raise no_model(model_id)
        return model_id

    async def _added(self, body: bytes, send: Send) -> None:
        server = await self._servers.add(await decoded(wire.read_server, body))
        location = f"/api/servers/{server.row.id}".encode()
        await respond(send, 201, wire.write_server(server), headers=[(b"location", location)])
