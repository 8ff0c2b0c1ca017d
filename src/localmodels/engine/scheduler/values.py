"""What the scheduler is told and what it answers: frozen values, nothing else.

Times are seconds of one clock that never goes back (``time.monotonic``), handed in by the caller; memory is bytes. A
request id is never used twice while its request lives.
"""

from __future__ import annotations

from math import inf
from typing import Literal

from msgspec import Struct

from localmodels.core.errors import LocalModelsError
from localmodels.engine.scheduler.states import State

StopReason = Literal["evicted", "expired", "unloaded", "replaced", "load timeout", "memory pressure", "shutting down"]


class Limits(Struct, frozen=True):
    """What there is to share out.

    Attributes:
        memory: bytes that all runners together may take.
        max_loaded: runners alive at once, at least 1, or None for as many as fit.
        max_queue: requests that wait for one model at once; one more is refused (512 is Ollama's figure). At least 1,
            since the first request for a model waits for its load.
        max_wait: seconds; a request that would, as things go, wait longer for its place at a loaded model is refused at
            once. For ever where nobody said.
        keep_alive: seconds that an idle model stays loaded when its last request does not say (Ollama's 5 minutes).
        load_timeout: seconds after which a start counts as failed.
        start_concurrency: starts under way at once; more would only share the same disk and cores.
        patience: seconds that a model waits for room, and that a newly loaded one may keep it, before a busy runner is
            asked to finish and make way. Several times a load (1.5 s for 400 MB from the page cache), so that swapping
            costs little of the time; well below what a person waits.
    """

    memory: int
    max_loaded: int | None = None
    max_queue: int = 512
    max_wait: float = inf
    keep_alive: float = 300.0
    load_timeout: float = 300.0
    start_concurrency: int = 2
    patience: float = 10.0


class Need(Struct, frozen=True):
    """What a request asks of the runner that answers it.

    Attributes:
        memory: bytes that a runner started for this request is planned to take.
        context: tokens for one request, or None when any loaded context will do. It must be what a runner can really
            give: already cut to what the model was trained for.
        options: identity of the load options (layers on the GPU, cache format …), or None when any will do. A runner
            serves exactly the identity that it was started with.
    """

    memory: int
    context: int | None = None
    options: str | None = None


class Ticket(Struct, frozen=True):
    """A request that wants a place at a runner.

    Attributes:
        model_key: identity of the files, adapters included.
        deadline: when waiting longer than this, the request is refused.
        keep_alive: seconds to stay loaded after it; negative is for ever, None is the default.
        caller: whose it is. Callers take turns at a model, and the fullest makes way where its queue is full.
        weight: the caller's share beside others', at least 1.
    """

    request_id: str
    model_key: str
    need: Need
    deadline: float
    keep_alive: float | None = None
    caller: str = ""
    weight: int = 1


# Events: what happened.


class Submit(Struct, frozen=True):
    """A request came in. It is answered by exactly one :class:`Admit` or :class:`Refuse`, unless it is cancelled."""

    ticket: Ticket


class Cancel(Struct, frozen=True):
    """The caller of a request left, in whatever phase. Its place is free from here on; nothing is decided for it."""

    request_id: str


class Finished(Struct, frozen=True):
    """An admitted request ended, well or badly."""

    request_id: str


class RunnerReady(Struct, frozen=True):
    """A start succeeded.

    Attributes:
        parallel: requests it answers at once.
        context: tokens that each of them has.
        memory: bytes it really takes; 0 when nobody knows, and the estimate stays.
    """

    runner_id: str
    parallel: int
    context: int
    memory: int = 0


class RunnerFailed(Struct, frozen=True):
    """A start failed, or a runner died. It is gone and its memory is free; no :class:`RunnerExited` need follow.

    Its admitted requests count as finished: their streams have broken by themselves.
    """

    runner_id: str
    error: LocalModelsError


class RunnerExited(Struct, frozen=True):
    """A runner that was told to stop is gone and its memory is free."""

    runner_id: str


class Unload(Struct, frozen=True):
    """The model shall leave memory as soon as it is idle."""

    model_key: str


class LimitsChanged(Struct, frozen=True):
    """What there is to share out is another from now on; who runs and waits is judged by it anew."""

    limits: Limits


class Drain(Struct, frozen=True):
    """Shut down: what was admitted may finish, nothing else begins."""


class Tick(Struct, frozen=True):
    """Time has passed, see :meth:`Scheduler.next_wake`."""


Event = (
    Submit
    | Cancel
    | Finished
    | RunnerReady
    | RunnerFailed
    | RunnerExited
    | Unload
    | LimitsChanged
    | Drain
    | Tick
)  # fmt: skip


# Decisions: what shall happen.


class Start(Struct, frozen=True):
    """Start a runner that can answer ``ticket``; report RunnerReady or RunnerFailed."""

    runner_id: str
    model_key: str
    ticket: Ticket


class Stop(Struct, frozen=True):
    """Stop a runner that answers nobody, also one that still loads; report RunnerExited (or RunnerFailed)."""

    runner_id: str
    reason: StopReason


class Admit(Struct, frozen=True):
    """The request has a place at this runner until it is Finished or cancelled."""

    request_id: str
    runner_id: str


class Refuse(Struct, frozen=True):
    """The request ends here. Several refusals may carry the same error object: raise a new one from it."""

    request_id: str
    error: LocalModelsError


Decision = Start | Stop | Admit | Refuse


# What can be seen from outside.


class RunnerView(Struct, frozen=True):
    """One runner, for ``/api/ps``.

    Attributes:
        context: tokens of one request; 0 while it starts and nobody asked for a number.
        busy: requests it answers; ``queued`` wait for this model.
        expires_at: when it is unloaded if nobody asks (``inf`` for ever); None while it is not idle.
    """

    runner_id: str
    model_key: str
    state: State
    memory: int
    context: int
    parallel: int
    busy: int
    queued: int
    keep_alive: float
    expires_at: float | None


class Snapshot(Struct, frozen=True):
    """All of it, for ``/api/ps`` and ``/health``.

    Attributes:
        waiting: requests in the queue.
        memory: bytes that the runners take, of ``memory_limit``.
        draining: the server is shutting down.
    """

    runners: tuple[RunnerView, ...]
    waiting: int
    memory: int
    memory_limit: int
    draining: bool

    @property
    def memory_free(self) -> int:
        """Bytes that another model could take."""
        return max(0, self.memory_limit - self.memory)
