"""From what is wanted to what a runner is told: pure functions over values.

A runner gets one :class:`RunnerConfig` on its standard input. The default runner hands it to the xllamacpp wheel, the
other turns it into ``llama-server`` flags (:func:`server_arguments`); nothing above this room knows which.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct


class Adapter(Struct, frozen=True):
    """A LoRA adapter to load beside the model; requests switch it on by its place in the list."""

    path: str
    scale: float = 1.0


class RunnerConfig(Struct, frozen=True, omit_defaults=True):
    """All that a runner needs to know, and no secret.

    Attributes:
        model: path of the GGUF file (of the first part of a split one).
        socket: path of the unix socket to listen on; the directory is ours alone (mode 0700).
        slot_dir: existing directory for saved slots, on a memory file system where there is one.
        context: tokens of one slot.
        parallel: slots, that is requests answered at once.
        batch: prompt tokens handed over at once; ``ubatch`` of them are computed in one go.
        cache_k, cache_v: number formats of the key and value cache (``f16``, ``q8_0`` …).
        threads: CPU threads; 0 lets the engine choose.
        gpu_layers: layers on the GPU; -1 is all.
        embedding: answer embeddings instead of text, pooled as ``pooling`` says (empty: as the model says, else mean).
        projector: path of the vision projector, or empty.
        template: Jinja chat template that replaces the model's own, or empty.
        cache_ram_mib: most memory for prompts kept outside the slots.
        memory_mib: most memory of its own, mapped files not counted, that it may take; 0 is without bound.
        binary: path of a ``llama-server`` program to use instead of the wheel, or empty.
    """

    model: str
    socket: str
    slot_dir: str
    context: int
    parallel: int
    batch: int = 2048
    ubatch: int = 512
    cache_k: str = "f16"
    cache_v: str = "f16"
    threads: int = 0
    gpu_layers: int = 0
    main_gpu: int = 0
    mmap: bool = True
    embedding: bool = False
    pooling: str = ""
    projector: str = ""
    adapters: tuple[Adapter, ...] = ()
    template: str = ""
    cache_ram_mib: int = 0
    memory_mib: int = 0
    binary: str = ""


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(RunnerConfig)


def write_config(config: RunnerConfig) -> bytes:
    """One line of JSON, newline included."""
    return _ENCODER.encode(config) + b"\n"


def read_config(line: bytes) -> RunnerConfig:
    """The value that :func:`write_config` wrote."""
    return _DECODER.decode(line)


def server_arguments(config: RunnerConfig) -> list[str]:
    """``llama-server`` flags that mean the same (tools/server/README.md of llama.cpp b11549)."""
    flags: list[tuple[str, str | None]] = [
        ("--model", config.model),
        ("--host", config.socket),
        ("--ctx-size", str(config.context * config.parallel)),
        ("--parallel", str(config.parallel)),
        ("--batch-size", str(config.batch)),
        ("--ubatch-size", str(config.ubatch)),
        ("--cache-type-k", config.cache_k),
        ("--cache-type-v", config.cache_v),
        ("--n-gpu-layers", str(config.gpu_layers)),
        ("--main-gpu", str(config.main_gpu)),
        ("--slot-save-path", config.slot_dir),
        ("--cache-ram", str(config.cache_ram_mib)),
        ("--no-webui", None),
        ("--no-slots", None),
        ("--jinja", None),
        ("--offline", None),
    ]
    if config.threads:
        flags.append(("--threads", str(config.threads)))
    if not config.mmap:
        flags.append(("--no-mmap", None))
    if config.embedding:
        flags += [("--embeddings", None), ("--kv-unified", None)]
    if config.pooling:
        flags.append(("--pooling", config.pooling))
    if config.projector:
        flags.append(("--mmproj", config.projector))
    if config.template:
        flags.append(("--chat-template", config.template))
    flags.extend(("--lora-scaled", f"{adapter.path}:{adapter.scale:g}") for adapter in config.adapters)
    return [word for flag, value in flags for word in ((flag,) if value is None else (flag, value))]
