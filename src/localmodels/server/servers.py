"""``/api/servers`` and ``/api/models`` (seed 000): the servers of the fleet and what was found on them.

The rule: an id that is nobody's is 404, whatever it looks like; only servers that are known are ever asked; and a key
that is for some models alone hears of no others.
"""

from __future__ import annotations

from msgspec.structs import replace
from starlette.types import Receive, Scope, Send

from localmodels.core.access import EVERY_MODEL, Caller
from localmodels.core.errors import InvalidRequest
from localmodels.core.roster import ServerNow
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
        active_only = wire.read_switch(query_of(scope), "active_only")
        return wire.write_servers(_seen_by(visit_of(scope).caller, *self._servers.all(active_only=active_only)))

    async def add(self, scope: Scope, receive: Receive, send: Send) -> None:
        """``POST /api/servers``: 201, and the server."""
        body = await read_body(receive, SMALL)
        await attended(scope, receive, self._added(visit_of(scope).caller, body, send))

    async def one(self, scope: Scope, body: bytes) -> bytes:
        """``/api/servers/{server_id}``, by its method."""
        server_id = scope["path_params"]["server_id"]
        match scope["method"]:
            case "PUT":
                server = await self._servers.change(server_id, await decoded(wire.read_change, body))
            case "DELETE":
                server = await self._servers.remove(server_id)
            case _:
                await self._servers.fresh()
                server = self._servers.one(server_id)
        return wire.write_server(*_seen_by(visit_of(scope).caller, server))

    async def discover(self, scope: Scope, body: bytes) -> bytes:
        """``POST /api/servers/{server_id}/discover``."""
        server_id = scope["path_params"]["server_id"]
        seen = await self._servers.discover(server_id)
        return wire.write_discovery(seen, self._servers.row(server_id).name)

    async def models(self, scope: Scope, body: bytes) -> bytes:
        """``GET /api/servers/{server_id}/models``."""
        await self._servers.fresh()
        found, caller = self._servers.models(scope["path_params"]["server_id"]), visit_of(scope).caller
        return wire.write_models(
            tuple(one for one in found if _may_ask(caller, one.row.model, prefix_of(one.server_name)))
        )

    async def live(self, scope: Scope, body: bytes) -> bytes:
        """``GET /api/models/servers``: all that may be asked, as they are now."""
        return wire.write_servers(_seen_by(visit_of(scope).caller, *await self._servers.live()))

    async def at(self, scope: Scope, body: bytes) -> bytes:
        """``GET /api/models/server/models?server_url=``: a server that is registered, and what it has."""
        url = query_of(scope).get("server_url")
        if not url:
            raise InvalidRequest("server_url is required: the address of a registered server", param="server_url")
        return wire.write_holder(*_seen_by(visit_of(scope).caller, await self._servers.at(url)))

    async def model(self, scope: Scope, body: bytes) -> bytes:
        """``/api/models/{model_id}``, by its method."""
        match scope["method"]:
            case "PUT":
                change = await decoded(wire.read_model_change, body)
                return wire.write_model(await self._servers.change_model(await self._askable_id(scope), change))
            case "DELETE":
                return wire.write_model(await self._servers.forget_model(await self._askable_id(scope)))
            case _:
                return wire.write_model(self._servers.model(await self._askable_id(scope)))

    async def check(self, scope: Scope, body: bytes) -> bytes:
        """``POST /api/models/{model_id}/check-availability``."""
        return wire.write_availability(await self._unloading.check(await self._askable_id(scope)))

    async def unload(self, scope: Scope, body: bytes) -> bytes:
        """``POST /api/models/{model_id}/unload``."""
        done = await self._unloading.unload(await self._askable_id(scope))
        if not visit_of(scope).caller.may("observe"):  # where servers stand is for those who may see servers
            done = replace(done, server_url="")
        return wire.write_unloaded(done)

    async def release(self, scope: Scope, body: bytes) -> bytes:
        """``POST /api/models/{model_id}/unload-from-gpu``; ``{"keep_on_cpu": true}`` is for our own engine."""
        keep_on_cpu = await decoded(wire.read_release, body)
        model_id = await self._askable_id(scope)
        return wire.write_freed(await self._unloading.release(model_id, visit_of(scope), keep_on_cpu=keep_on_cpu))

    async def _askable_id(self, scope: Scope) -> str:
        """Which model is meant; by now our own engine has told of those that it has.

        Raises:
            NotFound: there is no model of this id, or the caller's key is for others: he does not learn which.
        """
        await self._servers.fresh()
        model_id: str = scope["path_params"]["model_id"]
        found = self._servers.model(model_id)
        if not _may_ask(visit_of(scope).caller, found.row.model, prefix_of(found.server_name)):
            raise no_model(model_id)
        return model_id

    async def _added(self, caller: Caller, body: bytes, send: Send) -> None:
        server = await self._servers.add(await decoded(wire.read_server, body))
        location = f"/api/servers/{server.row.id}".encode()
        await respond(send, 201, wire.write_server(*_seen_by(caller, server)), headers=[(b"location", location)])


def _may_ask(caller: Caller, model: str, prefix: str) -> bool:
    """May he ask this model of a server, by its bare name or with the server's prefix before it?"""
    return caller.may_ask(model) or caller.may_ask(f"{prefix}/{model}")


def _seen_by(caller: Caller, *servers: ServerNow) -> tuple[ServerNow, ...]:
    """The servers, each with those of its models that this caller may ask."""
    if caller.models == EVERY_MODEL:
        return servers
    return tuple(
        replace(one, models=tuple(offer for offer in one.models if _may_ask(caller, offer.model, one.prefix)))
        for one in servers
    )
