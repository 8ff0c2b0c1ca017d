"""The composition of this machine's models: where they lie, what runs them, and what they may take."""

from __future__ import annotations

import logging
import sys
from math import inf

from msgspec import Struct
from msgspec.structs import replace

from localmodels.config import Config
from localmodels.core.errors import LocalModelsError
from localmodels.core.options import Options
from localmodels.engine.hardware import Hardware
from localmodels.engine.housing import Housing
from localmodels.engine.loadable import Loader
from localmodels.engine.memory import DEFAULT_CONTEXT
from localmodels.engine.pool import Build, Pool
from localmodels.engine.scheduler import Limits, Scheduler
from localmodels.flows.answering.loaded_files import StoredFiles
from localmodels.flows.answering.local_models import Local
from localmodels.store.headers import Headers
from localmodels.store.library import Library
from localmodels.store.model_store import STORE, ModelStore
from localmodels.store.ollama import OllamaShelf
from localmodels.store.shelves import BuiltinShelf, FileShelf, ModelFiles

log = logging.getLogger(__name__)

# What the rest of the machine may need while models run: 5 % of its memory, at least half a GiB.
RESERVE_SHARE, RESERVE_LEAST = 20, 2**29
# Prompts kept outside the slots: a tenth of what models may take, at most llama.cpp's own 8 GiB.
PROMPTS_SHARE, PROMPTS_MOST = 10, 8 * 2**30


class Housed(Struct, frozen=True):
    """The parts.

    Attributes:
        hardware: what the engine can use of the machine.
        limit: bytes that all models together may take.
    """

    hardware: Hardware
    limit: int
    library: Library
    store: ModelStore
    housing: Housing
    files: StoredFiles
    pool: Pool
    local: Local

    def adopt(self, new: Config) -> None:
        """Goes by this configuration from now on, as far as a running server can."""
        self.library.adopt(default=new.default_model or None, aliases=aliases(new))
        self.local.adopt(patience=new.queue_timeout, request_templates=new.request_templates)
        self.pool.adopt(limits_of(new, self.limit))

    def look_around(self) -> None:
        """Clears away what was left half done and what no model needs; tells which models cannot be used."""
        try:
            for path in self.store.recover():
                log.info("the model store: removed %s, which was left half done", path)
            collected = self.store.collect()
        except LocalModelsError as error:
            log.warning("the model store: %s", error)
        else:
            if collected.doomed:
                count, size = len(collected.doomed), collected.freed / 1e6
                log.info("the model store: removed %d blobs (%.1f MB) that no model needs", count, size)
            for path in collected.holding:
                log.warning("the model store: %s is damaged; blobs that it may need are kept", path)
        for damaged in self.library.damaged():
            log.warning("model '%s' cannot be used: %s", damaged.name, damaged.why)


def housed(config: Config, machine: Hardware) -> Housed:
    """The parts, over this machine."""
    hardware = engine_hardware(machine, config)
    limit = config.memory_limit or memory_for_models(hardware)
    library = Library(shelves(config), default=config.default_model or None, aliases=aliases(config))
    store = ModelStore(config.home / STORE)
    housing = Housing()
    files = StoredFiles(store, config.verify)
    program, cache = str(config.llama_server or ""), min(limit // PROMPTS_SHARE, PROMPTS_MOST)
    pool = Pool(
        Scheduler(limits_of(config, limit)), housing, Build(binary=program, cache_ram=cache, spin=config.spin), files
    )
    loader = Loader(hardware, load_defaults(config), config.context_length or DEFAULT_CONTEXT)
    local = Local(library, pool, loader, patience=config.queue_timeout, request_templates=config.request_templates)
    return Housed(hardware, limit, library, store, housing, files, pool, local)


def limits_of(config: Config, memory: int) -> Limits:
    """What the scheduler has to share out; ``memory`` in bytes."""
    return Limits(
        memory=memory,
        max_loaded=config.max_loaded_models or None,
        max_queue=config.max_queue,
        max_wait=config.max_wait or inf,
        keep_alive=config.keep_alive,
        load_timeout=config.load_timeout,
    )


def aliases(config: Config) -> dict[str, str]:
    """Other names for models."""
    return {str(alias.name): str(alias.model) for alias in config.alias}


def shelves(config: Config) -> list[FileShelf | OllamaShelf | BuiltinShelf]:
    """Where models are looked for, first come first served."""
    headers = Headers()
    files = {one.name: ModelFiles(one.file, one.projector) for one in config.model}
    return [
        FileShelf(files, headers=headers),
        OllamaShelf(config.home / STORE, source="home", headers=headers),
        *(OllamaShelf(root, headers=headers) for root in config.models),
        BuiltinShelf(headers=headers),
    ]


def engine_hardware(machine: Hardware, config: Config) -> Hardware:
    """The machine without graphics cards that the engine cannot use: the wheel from PyPI computes on the processor.

    On macOS that wheel has Metal; a ``llama-server`` of the user's own was built for what he has.
    """
    if config.gpu_layers == 0 or (sys.platform != "darwin" and not config.llama_server):
        return replace(machine, gpus=())
    return machine


def memory_for_models(machine: Hardware) -> int:
    """Bytes that all models together may take."""
    free = machine.memory_available + sum(gpu.memory_free for gpu in machine.gpus if gpu.backend != "metal")
    return max(0, free - max(RESERVE_LEAST, machine.memory_total // RESERVE_SHARE))


def load_defaults(config: Config) -> Options:
    """Load options for requests that do not say otherwise."""
    return Options(
        num_parallel=config.num_parallel or None,
        kv_cache_type=config.kv_cache_type,
        num_gpu=config.gpu_layers,
    )
