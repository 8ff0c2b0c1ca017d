"""A model in a child process, on the xllamacpp wheel: ``python -I -m localmodels.engine.runner``.

llama.cpp's own HTTP server answers on a unix socket; this file only fills in its parameters. It is never imported by
the server: loading holds the GIL for its whole length, and some files abort the process.
"""

from __future__ import annotations

import sys

import xllamacpp

from localmodels.engine.child import live
from localmodels.engine.command import RunnerConfig

_TYPES = {
    "f32": xllamacpp.ggml_type.GGML_TYPE_F32,
    "f16": xllamacpp.ggml_type.GGML_TYPE_F16,
    "bf16": xllamacpp.ggml_type.GGML_TYPE_BF16,
    "q8_0": xllamacpp.ggml_type.GGML_TYPE_Q8_0,
    "q5_1": xllamacpp.ggml_type.GGML_TYPE_Q5_1,
    "q5_0": xllamacpp.ggml_type.GGML_TYPE_Q5_0,
    "q4_1": xllamacpp.ggml_type.GGML_TYPE_Q4_1,
    "q4_0": xllamacpp.ggml_type.GGML_TYPE_Q4_0,
}
_POOLINGS = {
    "none": xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_NONE,
    "mean": xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN,
    "cls": xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_CLS,
    "last": xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_LAST,
    "rank": xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_RANK,
}


def start(config: RunnerConfig) -> object:
    """Loads the model in this process and begins to listen.

    Raises:
        RuntimeError: llama.cpp could not load it; its reason is on standard error.
    """
    return xllamacpp.Server(parameters(config))


def parameters(config: RunnerConfig) -> xllamacpp.CommonParams:
    """The configuration in the wheel's own terms; whatever is not set here keeps llama.cpp's default."""
    p = xllamacpp.CommonParams()
    p.model.path = config.model
    p.hostnames = [config.socket]
    p.n_ctx = config.context * config.parallel
    p.n_parallel = config.parallel
    p.n_batch = config.batch
    p.n_ubatch = config.ubatch
    p.cache_type_k = _TYPES[config.cache_k]
    p.cache_type_v = _TYPES[config.cache_v]
    p.n_gpu_layers = config.gpu_layers
    p.main_gpu = config.main_gpu
    p.slot_save_path = config.slot_dir.rstrip("/") + "/"
    p.cache_ram_mib = config.cache_ram_mib
    p.fit_params = False  # the plan is ours; llama.cpp would change it behind our back
    p.endpoint_slots = False
    p.ui = False
    p.cors_origins = ""
    p.offline = True
    p.warmup = False
    p.verbosity = 1
    if config.threads:
        p.cpuparams.n_threads = config.threads
        p.cpuparams_batch.n_threads = config.threads
    if not config.mmap:
        p.load_mode = xllamacpp.llama_load_mode.LLAMA_LOAD_MODE_NONE
    if config.embedding:
        p.embedding = True
        # Otherwise llama.cpp cuts batches of unlike lengths into pieces, and the mean is that of the last piece.
        p.kv_unified = True
    if config.pooling:
        p.pooling_type = _POOLINGS[config.pooling]
    if config.projector:
        p.mmproj.path = config.projector
    if config.template:
        p.chat_template = config.template
    p.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(a.path, a.scale) for a in config.adapters]
    return p


if __name__ == "__main__":
    sys.exit(live(start))
