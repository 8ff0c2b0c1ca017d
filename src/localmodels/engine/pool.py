"""The runners that live now: the one loop with effects around the scheduler's pure decisions.

The pool owns every runner. Whatever happens (a request comes or leaves, a child is ready or dies, time passes) becomes
an event for the scheduler; what the scheduler decides is done here. All of it runs on one event loop and no step awaits
between an event and its decisions, so there is nothing to lock.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from math import isinf
from time import monotonic
from typing import Literal, Protocol

from msgspec import Struct

from localmodels.core.catalog import Running
from localmodels.core.errors import LocalModelsError
from localmodels.engine.confine import Layer
from localmodels.engine.housing import Housing
from localmodels.engine.live import LiveRunner, probe_layers
from localmodels.engine.llama import LlamaBackend
from localmodels.engine.loadable import Load, Loadable
from localmodels.engine.scheduler import (
    Admit,
    Cancel,
    Decision,
    Drain,
    Event,
    Finished,
    Limits,
    LimitsChanged,
    Refuse,
    RunnerExited,
    RunnerFailed,
    RunnerReady,
    RunnerView,
    Scheduler,
    Snapshot,
    Start,
    State,
    Stop,
    Submit,
    Tick,
    Ticket,
    Unload,
)

log = logging.getLogger(__name__)

# Events by which what is in memory becomes another; with the decisions to start and to stop a runner, they are all.
_TURNS = (RunnerReady, RunnerFailed, RunnerExited)


class Build(Struct, frozen=True):
    """How every runner is built.

    Attributes:
        binary: path of a ``llama-server`` to use instead of the wheel, or empty.
        cache_ram: bytes of prompts that a runner may keep outside its slots.
        spin: may waiting threads spin?
        pulse: seconds between two looks at whether a runner still answers; ``silence`` of them end it.
    """

    binary: str = ""
    cache_ram: int = 0
    spin: bool = False
    pulse: float = 20.0
    silence: float = 60.0


class Files(Protocol):
    """Cares for the files of models that are in memory."""

    def held(self, loadable: Loadable) -> AbstractAsyncContextManager[None]:
        """Nobody removes them meanwhile."""
        ...

    async def whole(self, loadable: Loadable) -> None:
        """Returns when they are known to be whole.

        Raises:
            LocalModelsError: they are not, or it cannot be known.
        """
        ...


def _unnoticed() -> None:
    """Nobody wants to know."""


class Uncared:
    """Files that are somebody else's care."""

    @asynccontextmanager
    async def held(self, loadable: Loadable) -> AsyncIterator[None]:
        yield

    async def whole(self, loadable: Loadable) -> None: ...


class Pool:
    """Runs models on demand.

    Args:
        scheduler: makes every decision.
        housing: where runners live.
        build: how they are built.
        files: cares for what they are loaded from.

    Attributes:
        changed: is called whenever a model begins to come into memory, is there, begins to leave, or is gone; must
            neither wait nor raise.
    """

    def __init__(self, scheduler: Scheduler, housing: Housing, build: Build, files: Files | None = None) -> None:
        self._scheduler = scheduler
        self._housing = housing
        self._build = build
        self._files = files or Uncared()
        self.changed: Callable[[], object] = _unnoticed
        self._numbers = count(1)
        self._asked: dict[str, tuple[Load, asyncio.Future[LiveRunner]]] = {}
        self._runners: dict[str, LiveRunner] = {}
        self._lives: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._failures: dict[str, str] = {}
        self._probe: asyncio.Task[tuple[Layer, ...]] | None = None

    @asynccontextmanager
    async def lease(
        self, load: Load, *, keep_alive: float | None, patience: float, caller: str = "", weight: int = 1
    ) -> AsyncIterator[LlamaBackend]:
        """A place at a runner of this model, for one request; loads it if need be.

        Args:
            load: the model, and how to load it.
            keep_alive: seconds that the model stays after it; None is the default.
            patience: most seconds to wait for the place.
            caller: whose request it is; callers take turns.
            weight: his share beside others'.

        Raises:
            Unavailable: there will be no place in time, or never enough memory.
            LoadFailed: the model could not be loaded.
        """
        request_id = str(next(self._numbers))
        future: asyncio.Future[LiveRunner] = asyncio.get_running_loop().create_future()
        self._asked[request_id] = (load, future)
        try:
            now = monotonic()
            self._tell(Submit(load.ticket(request_id, keep_alive, now + patience, caller, weight)), now)
            runner = await future
        except BaseException:  # also when the caller leaves: whatever phase he was in, his place is free now
            self._tell(Cancel(request_id))
            raise
        finally:
            del self._asked[request_id]
        try:
            yield LlamaBackend(runner, request_id)
        finally:
            self._tell(Finished(request_id))

    def unload(self, model_key: str) -> None:
        """Ends the model's runner as soon as it is idle."""
        self._tell(Unload(model_key))

    def snapshot(self) -> Snapshot:
        """How the scheduler sees things."""
        return self._scheduler.snapshot()

    def runners(self) -> list[LiveRunner]:
        """Those that live, also the ones that still load."""
        return list(self._runners.values())

    def last_failure(self, model_key: str) -> str:
        """Why the model's last load failed; empty when it did not."""
        return self._failures.get(model_key, "")

    async def layers(self) -> tuple[Layer, ...]:
        """What confines runners on this machine; asks a runner without a model where none has told yet."""
        if told := next((runner.layers for runner in self._runners.values() if runner.layers), ()):
            return told
        if self._probe is None:
            self._probe = asyncio.create_task(probe_layers(self._housing))
        return await asyncio.shield(self._probe)

    def running(self) -> tuple[Running, ...]:
        """The models in memory, as ``/api/ps`` shows them."""
        now = monotonic()
        views = self._scheduler.snapshot().runners
        return tuple(shown(self._runners[view.runner_id], view, now) for view in views)

    def adopt(self, limits: Limits) -> None:
        """Shares out by these from now on."""
        self._tell(LimitsChanged(limits))

    def drain(self) -> None:
        """Admits nothing any more; what is admitted goes on."""
        self._tell(Drain())

    async def close(self) -> None:
        """Ends every runner, busy or not, and waits for their end."""
        self.drain()
        for runner in self._runners.values():
            runner.leave()
        if self._lives:
            await asyncio.wait(self._lives)
        if self._timer is not None:
            self._timer.cancel()

    def _tell(self, event: Event, now: float | None = None) -> None:
        """The heart: one event in, all its decisions done, the alarm set for the next."""
        now = monotonic() if now is None else now
        decisions = self._scheduler.handle(event, now)
        for decision in decisions:
            self._do(decision)
        self._set_alarm(now)
        if isinstance(event, _TURNS) or any(isinstance(decision, (Start, Stop)) for decision in decisions):
            self.changed()

    def _do(self, decision: Decision) -> None:
        match decision:
            case Admit(request_id, runner_id):
                self._settle(request_id, self._runners[runner_id])
            case Refuse(request_id, error):
                self._settle(request_id, error)
            case Start(runner_id=runner_id, ticket=ticket):
                self._start(runner_id, ticket)
            case Stop(runner_id, reason):
                runner = self._runners[runner_id]
                log.info("runner %s of %s shall end: %s", runner_id, runner.name, reason)
                if reason == "load timeout":
                    self._failures[runner.key] = "it was not loaded in time"
                runner.leave()

    def _settle(self, request_id: str, outcome: LiveRunner | LocalModelsError) -> None:
        _, future = self._asked[request_id]
        if future.done():  # the caller was cancelled in this very turn of the loop; its Cancel follows
            return
        if isinstance(outcome, LocalModelsError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    def _start(self, runner_id: str, ticket: Ticket) -> None:
        load, _ = self._asked[ticket.request_id]
        room = self._housing.place(runner_id)
        config = load.config(room, binary=self._build.binary, cache_ram=self._build.cache_ram)
        runner = LiveRunner(runner_id, load, config, room, spin=self._build.spin)
        self._runners[runner_id] = runner
        life = asyncio.create_task(self._housed(runner), name=f"runner {runner_id}")
        self._lives.add(life)
        life.add_done_callback(self._lives.discard)

    async def _housed(self, runner: LiveRunner) -> None:
        """One runner, and its files kept for as long."""
        async with self._files.held(runner.loadable):
            await self._live(runner)

    async def _live(self, runner: LiveRunner) -> None:
        """One runner from its start to its end; the only place that learns of either."""
        outcome: Event = RunnerExited(runner.id)
        try:
            if await runner.load(self._files.whole(runner.loadable)):
                log.info("%s is loaded (runner %s, pid %d)", runner.name, runner.id, runner.pid)
                self._failures.pop(runner.key, None)
                self._tell(RunnerReady(runner.id, runner.config.parallel, runner.config.context))
                await runner.served(self._build.pulse, self._build.silence)
            log.info("%s is unloaded (runner %s)", runner.name, runner.id)
        except LocalModelsError as error:
            log.warning("runner %s of %s failed: %s", runner.id, runner.name, error)
            self._failures[runner.key] = error.message
            outcome = RunnerFailed(runner.id, error)
        finally:  # whatever went wrong, nobody may wait for ever for a runner that is not there
            del self._runners[runner.id]
            self._tell(outcome)
            runner.gone.set()

    def _set_alarm(self, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        wake = self._scheduler.next_wake(now)
        if wake is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(0.0, wake - now), self._tell, Tick())


def shown(runner: LiveRunner, view: RunnerView, now: float) -> Running:
    """A runner as ``/api/ps`` shows it."""
    memory = runner.load_plan.memory
    return Running(
        model=runner.model,
        status=STATUS[view.state],
        pid=runner.pid,
        size=memory.total,
        size_vram=memory.gpu,
        expires_at=moment(view, now),
        context_length=runner.config.context,
        parallel=runner.config.parallel,
        busy=view.busy,
        queued=view.queued,
    )


def moment(view: RunnerView, now: float) -> str:
    """When it leaves memory if nobody asks, RFC 3339; a year that nobody lives to see for "never" (as Ollama's)."""
    left = view.keep_alive if view.expires_at is None else view.expires_at - now
    if left < 0 or isinf(left):
        return NEVER
    return (datetime.now(UTC) + timedelta(seconds=left)).isoformat()


NEVER = "2318-01-01T00:00:00+00:00"
STATUS: Mapping[State, Literal["loading", "running", "stopping"]] = {
    State.STARTING: "loading",
    State.READY: "running",
    State.DRAINING: "running",
    State.STOPPING: "stopping",
}
