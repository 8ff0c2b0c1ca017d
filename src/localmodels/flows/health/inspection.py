"""How the system is, derived from the parts that do the work: the library, the pool and the machine, not a constant."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, Literal

import msgspec
from msgspec import Struct

from localmodels.core.catalog import Model
from localmodels.engine.hardware import Hardware
from localmodels.engine.pool import Pool
from localmodels.flows.answering.local_models import loadable
from localmodels.flows.connections.remotes import Remotes, Server
from localmodels.flows.health import unavailable_models
from localmodels.flows.health.fleet_metrics import readings
from localmodels.flows.metric import Reading
from localmodels.store.entries import Entry, to_model
from localmodels.store.library import Library, Survey


class Condition(Struct, frozen=True):
    """How the system is.

    Attributes:
        status: ``degraded`` when it answers but something is missing, ``unhealthy`` when it would not answer.
        model_ready: would a request for the default model be taken up?
        notes: why the status is not ``healthy``, for people.
        details: for ``?verbose=1``: engine, memory, queue, the runners and the layers that confine them.
    """

    status: Literal["healthy", "degraded", "unhealthy"]
    model_ready: bool
    default_model: str
    models: tuple[Model, ...]
    notes: tuple[str, ...] = ()
    details: dict[str, Any] = {}


_MEMORY = "Memory of all models together, and what they may take."
_RUNNERS = "Runners of a model, by the state they are in."
_PLACES = "Requests that a model can answer at once."
_BUSY = "Requests that a model answers."
_TAKEN = "Memory that a model takes."


class Inspector:
    """Derives the state from the parts that do the work."""

    def __init__(self, library: Library, pool: Pool, hardware: Hardware, remotes: Remotes | None = None) -> None:
        self._library = library
        self._pool = pool
        self._hardware = hardware
        self._remotes = remotes or Remotes()

    async def default_name(self) -> str:
        """The name of the model that answers where none is named."""
        return await asyncio.to_thread(self._library.default_name)

    async def __call__(self, *, verbose: bool) -> Condition:
        """The state now."""
        survey, default, name = await asyncio.to_thread(self._look)
        notes = [f"model '{damaged.name}' cannot be used: {damaged.why}" for damaged in survey.damaged]
        failure = self._pool.last_failure(loadable(default).key("generate")) if default else ""
        elsewhere = default is None and self._remotes.has(name)
        if not default and not elsewhere:
            notes.append(f"the default model '{name}' is not here" if name else "there is no model")
        if failure:
            notes.append(f"the default model did not load: {failure}")
        fleet = self._remotes.fleet
        notes += unavailable_models.notes(fleet)
        draining = self._pool.snapshot().draining
        if draining:
            notes.append("the server is shutting down")
        return Condition(
            status=verdict(
                draining=draining,
                usable=bool(survey.entries) or elsewhere or unavailable_models.offers(fleet),
                notes=notes,
            ),
            model_ready=(default is not None or elsewhere) and not failure and not draining,
            default_model=to_model(default).name if default else name,
            models=tuple(map(to_model, survey.entries)),
            notes=tuple(notes),
            details=await self._details() if verbose else {},
        )

    def readings(self) -> list[Reading]:
        """Queue, memory and runners, as the scheduler sees them now."""
        snapshot = self._pool.snapshot()
        read = [
            Reading("localmodels_queue_waiting", "Requests that wait for a place.", snapshot.waiting),
            Reading("localmodels_memory_bytes", _MEMORY, snapshot.memory, (("what", "models"),)),
            Reading("localmodels_memory_bytes", _MEMORY, snapshot.memory_limit, (("what", "limit"),)),
        ]
        names = {runner.id: runner.name for runner in self._pool.runners()}
        sums: Counter[tuple[str, str, tuple[tuple[str, str], ...]]] = Counter()
        for runner in snapshot.runners:
            # By model and not by runner: runners come and go, and each would be a series for ever.
            one = (("model", names.get(runner.runner_id, "")),)
            sums["localmodels_runners", _RUNNERS, (*one, ("state", runner.state.value))] += 1
            sums["localmodels_places", _PLACES, one] += runner.parallel
            sums["localmodels_places_busy", _BUSY, one] += runner.busy
            sums["localmodels_model_memory_bytes", _TAKEN, one] += runner.memory
        fleet = readings(self._remotes.fleet, self._remotes.traffic.tally)
        return [*read, *fleet] + [Reading(name, doc, value, labels) for (name, doc, labels), value in sums.items()]

    def _servers(self) -> tuple[Server, ...]:
        return self._remotes.servers()

    def _look(self) -> tuple[Survey, Entry | None, str]:
        return self._library.survey(), self._library.default(), self._library.default_name()

    async def _details(self) -> dict[str, Any]:
        snapshot = self._pool.snapshot()
        return {
            "queue": {"waiting": snapshot.waiting},
            "memory": {"models": snapshot.memory, "limit": snapshot.memory_limit},
            "hardware": msgspec.to_builtins(self._hardware),
            "confinement": [msgspec.to_builtins(layer) for layer in await self._pool.layers()],
            "runners": [
                {"id": runner.id, "model": runner.name, "pid": runner.pid, "context": runner.config.context}
                for runner in self._pool.runners()
            ],
            "servers": [
                {**server.state(), "missing": unavailable_models.missing(self._remotes.fleet, server.host)}
                for server in self._servers()
            ],
        }


def verdict(*, draining: bool, usable: bool, notes: list[str]) -> Literal["healthy", "degraded", "unhealthy"]:
    """One word for all of it: would a request be answered?"""
    if draining or not usable:
        return "unhealthy"
    return "degraded" if notes else "healthy"
