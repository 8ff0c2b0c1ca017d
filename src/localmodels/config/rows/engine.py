"""How models are loaded, and how much of the machine they may take."""

from __future__ import annotations

from typing import get_args

from localmodels.config.setting import DAY, Setting
from localmodels.config.values import Policy
from localmodels.core.options import OPTIONS

ROWS: tuple[Setting, ...] = (
    Setting(
        "llama_server",
        "path",
        "",
        "A llama-server program to run models with; empty: the engine that came along.",
        "--llama-server",
        "PATH",
    ),
    Setting(
        "keep_alive",
        "duration",
        "5m",
        "How long a model stays loaded after its last request; -1 is for ever, 0 not at all.",
        "--keep-alive",
        "DURATION",
        environ=("OLLAMA_KEEP_ALIVE",),
        low=-1,
        high=3650 * DAY,
        hot=True,
    ),
    Setting(
        "num_parallel",
        "number",
        "0",
        "Requests that one model answers at once; 0 chooses by memory and cores.",
        "--num-parallel",
        "N",
        environ=("OLLAMA_NUM_PARALLEL",),
        high=OPTIONS["num_parallel"].high,
    ),
    Setting(
        "max_loaded_models",
        "number",
        "0",
        "Models in memory at once; 0: as many as fit.",
        "--max-loaded-models",
        "N",
        environ=("OLLAMA_MAX_LOADED_MODELS",),
        high=1024,
        hot=True,
    ),
    Setting(
        "max_queue",
        "number",
        "512",
        "Requests that may wait for one model; the next is answered 503.",
        "--max-queue",
        "N",
        environ=("OLLAMA_MAX_QUEUE",),
        low=1,
        high=100_000,
        hot=True,
    ),
    Setting(
        "context_length",
        "number",
        "0",
        "Context of one request, in tokens; 0 is 4096, or the model's own where that is less.",
        "--context-length",
        "N",
        environ=("OLLAMA_CONTEXT_LENGTH",),
        high=OPTIONS["num_ctx"].high,
    ),
    Setting(
        "kv_cache_type",
        "choice",
        "f16",
        OPTIONS["kv_cache_type"].doc,
        "--kv-cache-type",
        "TYPE",
        environ=("OLLAMA_KV_CACHE_TYPE",),
        choices=OPTIONS["kv_cache_type"].choices,
    ),
    Setting(
        "memory_limit",
        "size",
        "0",
        "Memory that all models together may take; 0: what the machine has.",
        "--memory-limit",
        "SIZE",
        high=2**60,
    ),
    Setting(
        "gpu_layers",
        "number",
        "-1",
        "Layers on the GPU; -1 is as many as fit.",
        "--gpu-layers",
        "N",
        low=-1,
        high=OPTIONS["num_gpu"].high,
    ),
    Setting(
        "spin",
        "switch",
        "false",
        "Let engine threads spin while they wait: faster alone, slower in company.",
        "--spin",
    ),
    Setting(
        "verify",
        "choice",
        "first",
        "When files with a digest are read to the end before they are loaded: the first time, if they changed and "
        "every 30 days; always; never.",
        "--verify",
        "WHEN",
        choices=get_args(Policy),
    ),
)
