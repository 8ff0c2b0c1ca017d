"""How the system is, derived from the parts that do the work: the library, the pool and the machine, not a constant."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import msgspec
from msgspec import Struct

from localmodels.core.catalog import Model
from localmodels.engine.hardware import Hardware
from localmodels.engine.pool import Pool
from localmodels.flows.local import loadable
from localmodels.store.entries import Entry, to_model
from localmodels.store.library import Library, Survey


class State(Struct, frozen=True):
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


class Inspector:
    """Derives the state from the parts that do the work."""

    def __init__(self, library: Library, pool: Pool, hardware: Hardware) -> None:
        self._library = library
        self._pool = pool
        self._hardware = hardware

    async def default_name(self) -> str:
        """The name of the model that answers where none is named."""
        return await asyncio.to_thread(self._library.default_name)

    async def __call__(self, *, verbose: bool) -> State:
        """The state now."""
        survey, default, name = await asyncio.to_thread(self._look)
        notes = [f"model '{damaged.name}' cannot be used: {damaged.why}" for damaged in survey.damaged]
        failure = self._pool.last_failure(loadable(default).key("generate")) if default else ""
        if not default:
            notes.append(f"the default model '{name}' is not here" if name else "there is no model")
        if failure:
            notes.append(f"the default model did not load: {failure}")
        draining = self._pool.snapshot().draining
        if draining:
            notes.append("the server is shutting down")
        return State(
            status=verdict(draining=draining, usable=bool(survey.entries), notes=notes),
            model_ready=default is not None and not failure and not draining,
            default_model=to_model(default).name if default else name,
            models=tuple(map(to_model, survey.entries)),
            notes=tuple(notes),
            details=await self._details() if verbose else {},
        )

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
        }


def verdict(*, draining: bool, usable: bool, notes: list[str]) -> Literal["healthy", "degraded", "unhealthy"]:
    """One word for all of it: would a request be answered?"""
    if draining or not usable:
        return "unhealthy"
    return "degraded" if notes else "healthy"
