"""Every call about the servers of a fleet and their models; ``_sync_fleet_calls.py`` is generated from it.

Apart from the others, as those about tasks are. The rule: servers and models go by their ids; :meth:`server` finds
the id that a name belongs to. How a server is, is always the server's word of a moment ago, never kept here.
"""

from __future__ import annotations

from urllib.parse import quote, urlencode

from msgspec.structs import replace

from localmodels.client._async_calls import AsyncCalls
from localmodels.client.roster import NOTHING, meant, wish
from localmodels.core.fleet import ModelChange, ServerChange
from localmodels.core.roster import Availability, Freed, Unloaded
from localmodels.dialects import routing
from localmodels.dialects import servers as wire
from localmodels.dialects.routing import ShownRoute
from localmodels.dialects.servers import ShownDiscovery, ShownModel, ShownServer


class AsyncFleetCalls(AsyncCalls):
    """Speaks with one LocalModels server about the servers behind it.

    Looking needs a key that may ``observe``, changing one of an administrator, taking models out of memory ``manage``.
    """

    async def servers(self, *, active_only: bool = False) -> tuple[ShownServer, ...]:
        """All of them, as they were when they were asked last; ``active_only`` those that may be asked."""
        return wire.read_servers(await self._get(f"/api/servers?active_only={str(active_only).lower()}"))

    async def live_servers(self) -> tuple[ShownServer, ...]:
        """Those that may be asked, and what they have: all are asked now, and who is silent for long is not there."""
        return wire.read_servers(await self._get("/api/models/servers"))

    async def server(self, server: str) -> ShownServer:
        """The one of this id or name, as it was when it was asked last.

        Raises:
            NotFound: there is none; says which there are.
        """
        return meant(server, await self.servers())

    async def look_at(self, url: str) -> ShownServer:
        """The server at this address, which is asked now; one that is not registered is never asked.

        Raises:
            NotFound: none is registered there.
        """
        told, models = wire.read_holder(await self._get(f"/api/models/server/models?{urlencode({'server_url': url})}"))
        return replace(told, models=models)

    async def add_server(
        self,
        name: str,
        url: str,
        said: ServerChange = NOTHING,
        *,
        key: str | None = None,
    ) -> ShownServer:
        """Registers a server, and looks for its models; it stays registered if it does not answer.

        ::

            client.add_server("gpu", "http://10.0.0.5:11434", ServerChange(max_concurrent=8, weight=2.0))

        Args:
            name: unique; in lower case it stands before the names of its models.
            url: ``http://HOST:PORT`` or ``https://HOST``.
            said: what else is to be said of it; an Ollama, or a LocalModels, unless ``kind`` says otherwise.
            key: sent to this server and to nobody else; nobody is ever shown it.

        Raises:
            Conflict: there is one of this name, or at this address.
            InvalidValue: there can be none at this address; says what would be right.
        """
        body = wire.write_change(wish(replace(said, name=name, url=url), key))
        return wire.read_shown(await self._post("/api/servers", body))

    async def change_server(self, id: str, said: ServerChange = NOTHING, *, key: str | None = None) -> ShownServer:  # noqa: A002
        """Changes what is said of a server, and leaves the rest; an empty ``key`` takes its key away.

        Raises:
            NotFound: there is none of this id.
            Conflict: it stands in the server's file, or another one has the name or the address.
        """
        return wire.read_shown(await self._send("PUT", _server(id), wire.write_change(wish(said, key))))

    async def remove_server(self, id: str) -> ShownServer:  # noqa: A002
        """Forgets a server, its key and its models; answers that it has begun come to their end. Gives what it was.

        Raises:
            NotFound: there is none of this id.
            Conflict: it stands in the server's file, or is its own engine.
        """
        return wire.read_shown(await self._send("DELETE", _server(id), None))

    async def discover(self, id: str) -> ShownDiscovery:  # noqa: A002
        """Has a server asked for its models now; what has changed.

        Raises:
            NotFound: there is none of this id.
            BackendError: it does not answer.
        """
        return wire.read_discovery(await self._post(f"{_server(id)}/discover", b""))

    async def server_models(self, id: str) -> tuple[ShownModel, ...]:  # noqa: A002
        """What was found on a server, also what it has no more."""
        return wire.read_models(await self._get(f"{_server(id)}/models"))

    async def model(self, id: str) -> ShownModel:  # noqa: A002
        """One of these models."""
        return wire.read_model(await self._get(_model(id)))

    async def change_model(self, id: str, said: ModelChange) -> ShownModel:  # noqa: A002
        """Changes what is said of a model on its server: name, capabilities, priority, and whether it may be asked.

        Raises:
            NotFound: there is none of this id.
            Conflict: its server stands in the server's file.
        """
        return wire.read_model(await self._send("PUT", _model(id), wire.write_model_change(said)))

    async def forget_model(self, id: str) -> ShownModel:  # noqa: A002
        """Forgets what is kept of a model that its server has no more, and what was said of it. Gives what it was.

        Raises:
            NotFound: there is none of this id.
            Conflict: its server had it when it was asked last.
        """
        return wire.read_model(await self._send("DELETE", _model(id), None))

    async def check_model(self, id: str) -> Availability:  # noqa: A002
        """Is a model there, and is it in memory? Its server is asked now, and loads nothing for it."""
        return wire.read_availability(await self._post(f"{_model(id)}/check-availability", b""))

    async def unload_model(self, id: str) -> Unloaded:  # noqa: A002
        """Takes a model out of the memory of its server, and returns when it is out.

        Raises:
            NotFound: there is none of this id.
            Unsupported: servers of this kind cannot be told to.
            BackendError: its server does not answer.
            Conflict: it still answers; the model leaves when it has.
        """
        return wire.read_unloaded(await self._post(f"{_model(id)}/unload", b""))

    async def unload_from_gpu(self, id: str, *, keep_on_cpu: bool = False) -> Freed:  # noqa: A002
        """Takes a model off the graphics cards of its server; raises as :meth:`unload_model`.

        ``keep_on_cpu`` loads it anew for the processor, where it is on the engine of the server that is asked.
        """
        body = wire.write_release(keep_on_cpu=keep_on_cpu)
        return wire.read_freed(await self._post(f"{_model(id)}/unload-from-gpu", body))

    async def route(self, model: str = "", *, capability: str = "", session: str = "") -> ShownRoute:
        """Where a request for a model would go now, and why; nobody is asked for it.

        Args:
            model: its name; ``auto``, or empty, leaves the choice to the server.
            capability: what the model must be able to do.
            session: what the request would say in ``X-LocalModels-Session``.

        Raises:
            ModelNotFound: nobody has it.
        """
        asked = {"model": model, "capability": capability, "session": session}
        query = urlencode({name: text for name, text in asked.items() if text})
        return routing.read_route(await self._get(f"/api/route?{query}"))

    async def _send(self, method: str, path: str, body: bytes | None) -> bytes:
        async with self._carrier.open(method, path, body) as reply:
            return await self._good(reply)


def _server(id: str) -> str:  # noqa: A002
    return f"/api/servers/{quote(id, safe='')}"


def _model(id: str) -> str:  # noqa: A002
    return f"/api/models/{quote(id, safe='')}"
