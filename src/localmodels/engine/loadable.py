"""From a model and what a request asks of it to a plan, a ticket for the scheduler and a configuration: pure."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from msgspec import Struct

from localmodels.artifacts.gguf import Header
from localmodels.core.catalog import Model
from localmodels.core.options import OPTIONS, Options
from localmodels.engine.command import Adapter, RunnerConfig
from localmodels.engine.hardware import Hardware
from localmodels.engine.memory import DEFAULT_CONTEXT, Plan, plan
from localmodels.engine.scheduler import Need, Ticket

Purpose = Literal["generate", "embed"]

# Options that shape the runner. The context is not among them: a larger one serves whoever asks for less.
SHAPING = tuple(name for name, option in OPTIONS.items() if option.load and name != "num_ctx")


class Loadable(Struct, frozen=True):
    """A model as the engine sees it.

    Attributes:
        identity: the same for the same files, adapters included.
        model: as lists show it.
        path: of the GGUF file (of the first part of a split one).
        extra: bytes of projector and adapters.
    """

    identity: str
    model: Model
    path: str
    header: Header
    projector: str = ""
    adapters: tuple[str, ...] = ()
    extra: int = 0

    def key(self, purpose: Purpose) -> str:
        """By which the scheduler knows it. llama.cpp gives texts or vectors, not both from one context."""
        return f"{self.identity}/{purpose}"


class Load(Struct, frozen=True):
    """A way to load a model that suits one request.

    Attributes:
        shape: identity of the load options that were asked for; None when any will do.
        exact_context: did the request ask for a context of its own?
    """

    loadable: Loadable
    purpose: Purpose
    plan: Plan
    shape: str | None = None
    exact_context: bool = False

    def ticket(self, request_id: str, keep_alive: float | None, deadline: float) -> Ticket:
        """What the scheduler must know of it."""
        need = Need(self.plan.memory.total, self.plan.context if self.exact_context else None, self.shape)
        return Ticket(request_id, self.loadable.key(self.purpose), need, deadline, keep_alive)

    def config(self, room: Path, *, binary: str, cache_ram: int) -> RunnerConfig:
        """What the runner is told. ``room`` is its own directory; ``cache_ram`` bytes of prompts are kept besides."""
        loadable, chosen = self.loadable, self.plan
        pooled = self.purpose == "embed" and not loadable.header.is_embedding
        return RunnerConfig(
            model=loadable.path,
            socket=str(room / "runner.sock"),
            slot_dir=str(room),
            context=chosen.context,
            parallel=chosen.parallel,
            batch=chosen.batch,
            ubatch=chosen.ubatch,
            cache_k=chosen.cache_k,
            cache_v=chosen.cache_v,
            threads=chosen.threads,
            gpu_layers=chosen.gpu_layers,
            main_gpu=chosen.main_gpu,
            mmap=chosen.mmap,
            embedding=self.purpose == "embed",
            pooling="mean" if pooled else "",  # a model made for text does not say; the mean is what others take
            projector=loadable.projector,
            adapters=tuple(map(Adapter, loadable.adapters)),
            cache_ram_mib=cache_ram >> 20,
            binary=binary,
        )


class Loader(Struct, frozen=True):
    """Plans loads on this machine.

    Attributes:
        hardware: with those graphics cards only that the engine can use.
        defaults: load options for requests that do not say otherwise.
        default_context: tokens of a request that asks for none in particular.
    """

    hardware: Hardware
    defaults: Options = Options()
    default_context: int = DEFAULT_CONTEXT

    def load(self, loadable: Loadable, purpose: Purpose, options: Options) -> Load:
        """The way to load it for a request with these options."""
        asked = {name: getattr(options, name) for name in SHAPING if getattr(options, name) is not None}
        chosen = plan(
            loadable.header,
            options.over(self.defaults),
            self.hardware,
            default_context=self.default_context,
            embedding=purpose == "embed",
            extra=loadable.extra,
        )
        shape = ",".join(f"{name}={value}" for name, value in sorted(asked.items())) or None
        return Load(loadable, purpose, chosen, shape, exact_context=options.num_ctx is not None)
