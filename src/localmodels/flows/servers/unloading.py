"""A model of the fleet, looked for on its server, and taken out of that server's memory.

The rule: what is said has been seen. Nothing is generated, nobody but the model's own server is asked, and a model
counts as unloaded when its server lists it in memory no more.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from localmodels.core.catalog import Running
from localmodels.core.errors import Conflict, LocalModelsError, ModelNotFound, QueueFull
from localmodels.core.fleet import LOCAL, ModelRow, ServerRow
from localmodels.core.roster import Availability, Freed, Unloaded
from localmodels.dialects.told import Told
from localmodels.fleet.hosts import same_name
from localmodels.flows.connections.remotes import Remotes
from localmodels.flows.connections.server_names import text
from localmodels.flows.servers.membership import Sleep
from localmodels.flows.servers.servers import Servers
from localmodels.flows.visit import Visit

# How often a server is asked whether a model has left, and seconds between: ten in all, of which a look takes its part.
LOOKS, BETWEEN = 40, 0.25


class Engine(Protocol):
    """This program's own; see :class:`~localmodels.flows.servers.own_engine.Here`."""

    async def unload(self, model: str) -> int | None:
        """Bytes that it had on graphics cards; None where it was not in memory."""
        ...

    async def move(self, model: str, visit: Visit) -> int | None:
        """The same, and loads it anew for the processor."""
        ...


class Unloading:
    """Looks for models, and takes them out of memory.

    Args:
        servers: knows the models and asks their servers.
        remotes: connections.
        engine: our own.
        sleep: as ``asyncio.sleep``.
    """

    def __init__(self, servers: Servers, remotes: Remotes, engine: Engine, *, sleep: Sleep = asyncio.sleep) -> None:
        self._servers = servers
        self._remotes = remotes
        self._engine = engine
        self._sleep = sleep

    async def check(self, model_id: str) -> Availability:
        """Is a model there, and is it in memory? Its server is asked now, and loads nothing for it.

        Raises:
            NotFound: there is no model of this id.
        """
        row, server = self._placed(model_id)
        told, error = None, _switched_off(row, server)
        if not error:
            try:
                told = await self._servers.seen(server.id)
            except LocalModelsError as failure:
                error = failure.message
        name = same_name(row.model)
        offered = self._remotes.fleet.host(server.id)
        there = told is not None and (
            name in {same_name(model.name) for model in told.models} or bool(offered and offered.holds(name))
        )
        return Availability(
            model_id=row.id,
            model_name=row.model,
            is_available=there,
            is_loaded=None if told is None or told.running is None else _in_memory(told, row) is not None,
            server_url=server.url,
            error=error,
        )

    async def unload(self, model_id: str) -> Unloaded:
        """Takes a model out of the memory of its server, and returns when it is out.

        Raises:
            NotFound: there is no model of this id, or its server has it no more.
            Unsupported: servers of this kind cannot be told to.
            BackendError: the server does not answer.
            QueueFull: it is too busy to tell what is in its memory; nothing was done.
            Conflict: it still answers with this model; the model leaves when it has.
        """
        row, server = self._placed(model_id)
        freed = await (self._engine.unload(row.model) if server.kind == LOCAL else self._unload(row, server))
        return Unloaded("not_loaded" if freed is None else "unloaded", row.model, server.url)

    async def release(self, model_id: str, visit: Visit, *, keep_on_cpu: bool) -> Freed:
        """Takes a model off the graphics cards of its server; raises as :meth:`unload`.

        Args:
            model_id: of the model.
            visit: the request that wants it.
            keep_on_cpu: load it anew for the processor, where that is our own engine's.
        """
        row, server = self._placed(model_id)
        if server.kind == LOCAL and keep_on_cpu:
            freed = await self._engine.move(row.model, visit)
            return Freed("not_loaded", 0) if freed is None else Freed("moved", freed)
        freed = await (self._engine.unload(row.model) if server.kind == LOCAL else self._unload(row, server))
        return Freed("not_loaded", 0) if freed is None else Freed("unloaded", freed)

    def _placed(self, model_id: str) -> tuple[ModelRow, ServerRow]:
        row = self._servers.model(model_id).row
        return row, self._servers.row(row.server_id)

    async def _unload(self, row: ModelRow, server: ServerRow) -> int | None:
        host = self._remotes.fleet.host(server.id)
        remote = self._remotes.at(host) if host else None
        if remote is None:
            raise ModelNotFound(row.model)  # its server has left in this moment
        remote.far.require_unloads()
        told = await self._servers.seen(server.id)
        before = _in_memory(told, row)
        if before is None:
            return None
        await remote.unload(before.model.name)
        for _ in range(LOOKS):
            if await self._is_out(row, server):
                return before.size_vram
            await self._sleep(BETWEEN)
        words = f"{row.model} still answers on '{remote.name}'; it leaves memory when its last answer has ended"
        raise Conflict(words, param="model_id", retry_after=LOOKS * BETWEEN)

    async def _is_out(self, row: ModelRow, server: ServerRow) -> bool:
        """Does its server say so now? One that is too busy to tell has not said so yet."""
        try:
            return _in_memory(await self._servers.seen(server.id), row) is None
        except QueueFull:
            return False


def _in_memory(told: Told, row: ModelRow) -> Running | None:
    """The model in its server's memory."""
    name = same_name(row.model)
    return next(
        (one for one in told.running or () if same_name(one.model.name) == name and one.status != "stopping"), None
    )


def _switched_off(row: ModelRow, server: ServerRow) -> str:
    """Why it is not to be asked; empty where it is."""
    if not server.is_active:
        return f"{text('server off', server.name)} (is_active)"
    return "" if row.is_active else "the model is switched off (is_active)"
