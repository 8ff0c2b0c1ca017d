"""From a model and what a request asks of it to a plan, a ticket for the scheduler and a configuration: pure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from msgspec import Struct

from localmodels.artifacts.gguf import Header
from localmodels.core.catalog import Digest, Model
from localmodels.core.options import NO_OPTIONS, OPTIONS, Options
from localmodels.engine.command import Adapter, RunnerConfig
from localmodels.engine.hardware import Hardware
from localmodels.engine.memory import DEFAULT_CONTEXT, Plan, plan
from localmodels.engine.scheduler import Need, Ticket

Purpose = Literal["generate", "embed", "rank"]
# How a runner makes one thing of a text's tokens, where the file does not say.
_POOLINGS: Mapping[Purpose, str] = {"generate": "", "embed": "mean", "rank": "rank"}

# Options that shape the runner. The context is not among them: a larger one serves whoever asks for less.
LOADING = tuple(name for name, option in OPTIONS.items() if option.load)
SHAPING = tuple(name for name in LOADING if name != "num_ctx")
# What a runner may take is bounded far above what it should: by the plan, times so much, and so many bytes besides. It
# is there for what no plan foresees, a hostile Jinja template above all, which the engine renders without any bound.
MARGIN, ASIDE = 2, 2 * 2**30
MOST_KNOWN = 256  # plans that are kept; a caller could ask with ever other options


class Loadable(Struct, frozen=True):
    """A model as the engine sees it.

    Attributes:
        identity: the same for the same files, adapters included.
        model: as lists show it.
        path: of the GGUF file (of the first part of a split one).
        extra: bytes of projector and adapters.
        store: the directory of the store that its files lie in; empty where they have no digests.
        blobs: what is to be whole before it is loaded, and to stay until it is unloaded.
        template: Jinja template, or the name of one, in place of the file's own; empty to leave it.
    """

    identity: str
    model: Model
    path: str
    header: Header
    projector: str = ""
    adapters: tuple[str, ...] = ()
    extra: int = 0
    store: str = ""
    blobs: tuple[Digest, ...] = ()
    template: str = ""

    def key(self, purpose: Purpose) -> str:
        """By which the scheduler knows it. llama.cpp gives texts, vectors or scores, one of them from one context."""
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

    def ticket(
        self, request_id: str, keep_alive: float | None, deadline: float, caller: str = "", weight: int = 1
    ) -> Ticket:
        """What the scheduler must know of it."""
        need = Need(self.plan.memory.total, self.plan.context if self.exact_context else None, self.shape)
        return Ticket(request_id, self.loadable.key(self.purpose), need, deadline, keep_alive, caller, weight)

    def config(self, room: Path, *, binary: str, cache_ram: int) -> RunnerConfig:
        """What the runner is told. ``room`` is its own directory; ``cache_ram`` bytes of prompts are kept besides."""
        loadable, chosen = self.loadable, self.plan
        # A model made for text does not say; the mean is what others take. One made for vectors does.
        pooling = "" if loadable.header.is_embedding else _POOLINGS[self.purpose]
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
            embedding=self.purpose != "generate",
            pooling=pooling,
            projector=loadable.projector,
            adapters=tuple(map(Adapter, loadable.adapters)),
            template=loadable.template,
            # Prompts are kept there without a word about the adapters that they were computed with.
            cache_ram_mib=0 if loadable.adapters else cache_ram >> 20,
            memory_mib=0 if binary or chosen.gpu_layers else (chosen.memory.cpu * MARGIN + cache_ram + ASIDE) >> 20,
            binary=binary,
        )


class Loader:
    """Plans loads on this machine. A plan depends on nothing that changes, so it is made once for each way of asking.

    Args:
        hardware: with those graphics cards only that the engine can use.
        defaults: load options for requests that do not say otherwise.
        default_context: tokens of a request that asks for none in particular.
    """

    def __init__(
        self, hardware: Hardware, defaults: Options = NO_OPTIONS, default_context: int = DEFAULT_CONTEXT
    ) -> None:
        self._hardware = hardware
        self._defaults = defaults
        self._default_context = default_context
        self._known: dict[tuple[object, ...], Plan] = {}

    def load(self, loadable: Loadable, purpose: Purpose, options: Options) -> Load:
        """The way to load it for a request with these options."""
        asked = tuple((name, value) for name in LOADING if (value := getattr(options, name)) is not None)
        # The plan alone is kept: the same model may stand elsewhere, or under another name, the next time.
        key = (loadable.identity, loadable.extra, purpose, asked)
        if (chosen := self._known.get(key)) is None:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            chosen = self._known[key] = self._plan(loadable, purpose, options)
        shape = ",".join(f"{name}={value}" for name, value in sorted(asked) if name in SHAPING) or None
        return Load(loadable, purpose, chosen, shape, exact_context=options.num_ctx is not None)

    def _plan(self, loadable: Loadable, purpose: Purpose, options: Options) -> Plan:
        return plan(
            loadable.header,
            options.over(self._defaults),
            self._hardware,
            default_context=self._default_context,
            embedding=purpose != "generate",
            extra=loadable.extra,
        )
