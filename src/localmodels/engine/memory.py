"""How a model will be run, and what memory that takes, before it is loaded. Pure: values in, values out, no error.

The estimate must not lie below the truth, or the kernel ends the runner; far above it, models are refused that would
have run. Its parts are those that llama.cpp b11549 itself reports (weights, key and value cache, compute buffer, output
buffer), plus what the process needs besides. Weights count once: a mapped file that is also repacked for the processor
(Q4_0, Q4_K …) stands in the page cache too, but that copy is given up under pressure.

Measured on random models of seven shapes (0.1 to 420 MB, contexts to 131,072 tokens, three cache types) against what
llama.cpp reports and the process takes: cache exact; compute buffer within 1 %, but 5 % above for the smallest; process
2.5 to 14 % above, and 25 MB above for the smallest. ``tests/contract/test_memory.py`` holds it to that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import log2

from msgspec import Struct, structs

from localmodels.artifacts.gguf_header import RECURRENT_ARCHITECTURES, Header
from localmodels.core.options import Options
from localmodels.engine.hardware import Hardware

DEFAULT_CONTEXT = 4096
BATCH, UBATCH = 2048, 512  # llama.cpp's own
# A text to embed must fit into one batch. A model that also talks keeps two rows of logits for each of its tokens
# (1.2 MB a token at 152,000 words), so it gets less unless num_batch asks for more; an encoder has none.
ENCODER_BATCH, EMBEDDING_BATCH = 8192, 1024
# Seconds that one batch on processors may take, and operations per second of one core (190 tokens/s of 2 × 0.49 G
# operations on two cores with AVX2, quiet).
DEPARTURE, CORE_SPEED = 0.8, 95e9
SMALLEST_BATCH = 32

# Bytes of one cached number: block sizes from ggml-common.h.
CACHE_BYTES: Mapping[str, float] = {
    "f32": 4,
    "f16": 2,
    "bf16": 2,
    "q8_0": 34 / 32,
    "q5_1": 24 / 32,
    "q5_0": 22 / 32,
    "q4_1": 20 / 32,
    "q4_0": 18 / 32,
}
_BLOCKED = ("q8_0", "q5_1", "q5_0", "q4_1", "q4_0")

# A process of the runner without a model: Python, the engine's libraries, thread stacks, HTTP.
PROCESS = 64 * 2**20
# Text, number and place in a hash table of one token and one merge; 0.35 KB measured at 152,000 of each.
TOKEN = 384
# What a GPU's own runtime takes on the card before anything is loaded.
GPU_CONTEXT = 512 * 2**20

# Every n-th layer looks at everything, the others through the window, where the file does not say
# (load_swa_pattern in src/models/*.cpp). An architecture that is not here is counted as if it had no window.
FULL_EVERY: Mapping[str, int] = {
    "cohere2": 4,
    "exaone4": 4,
    "gemma2": 2,
    "gemma3": 6,
    "gemma3n": 5,
    "gpt-oss": 2,
    "llama4": 4,
    "olmo2": 4,
}

# Nothing is kept between tokens: llama_model::create_memory.
WITHOUT_CACHE = frozenset(
    {
        "bert",
        "dream",
        "eurobert",
        "gemma-embedding",
        "gemma-embedding2",
        "jina-bert-v2",
        "jina-bert-v3",
        "llada",
        "llada-moe",
        "modern-bert",
        "neo-bert",
        "nomic-bert",
        "nomic-bert-moe",
    }
)


class Memory(Struct, frozen=True):
    """Bytes, by what they are for; ``gpu`` of the ``total`` lie on graphics cards."""

    weights: int = 0
    kv_cache: int = 0
    compute: int = 0
    overhead: int = 0
    gpu: int = 0

    @property
    def total(self) -> int:
        """Everything."""
        return self.weights + self.kv_cache + self.compute + self.overhead

    @property
    def cpu(self) -> int:
        """In the system's memory."""
        return self.total - self.gpu


class Plan(Struct, frozen=True):
    """How a model is run.

    Attributes:
        context: tokens of one request.
        parallel: requests answered at once, each with a context of its own.
        cache_k, cache_v: number formats of the key and value cache.
        threads: CPU threads.
        batch: prompt tokens handed over at once; ``ubatch`` of them are computed in one go.
        gpu_layers: layers on graphics cards, the output layer counted as one more.
        embedding: the model answers with vectors, not text.
        extra: bytes of weights besides the model's own: projector, adapters.
        notes: what was asked for and not done, in sentences.
        memory: what all this takes.
    """

    context: int
    parallel: int
    cache_k: str = "f16"
    cache_v: str = "f16"
    threads: int = 1
    batch: int = BATCH
    ubatch: int = UBATCH
    gpu_layers: int = 0
    main_gpu: int = 0
    mmap: bool = True
    embedding: bool = False
    extra: int = 0
    notes: tuple[str, ...] = ()
    memory: Memory = Memory()

    @property
    def total_context(self) -> int:
        """Tokens of all requests together."""
        return self.context * self.parallel


# Estimate


def estimate(header: Header, plan: Plan) -> Memory:
    """What the runner will take under a plan.

    Approximated from above: recurrent and hybrid models (every layer is counted as both kinds, where the file does not
    tell them apart), windows of architectures that are not in ``FULL_EVERY``, per-layer inputs.
    """
    layers = header.block_count
    cache = _cache(header, plan)
    compute = _compute(header, plan)
    on_gpu = min(plan.gpu_layers, layers + 1)
    gpu = 0
    if on_gpu:
        first = max(0, layers - on_gpu)
        gpu = _weights_from(header, first, output=on_gpu > layers) + sum(cache[first:]) + compute + GPU_CONTEXT
    overhead = PROCESS + TOKEN * header.vocab_size + (GPU_CONTEXT if on_gpu else 0)
    return Memory(header.weights_size + plan.extra, sum(cache), compute, overhead, gpu)


def _weights_from(header: Header, first: int, *, output: bool) -> int:
    """Bytes of the layers from ``first`` on, and of the output layer."""
    size = 0
    for tensor in header.tensors:
        prefix, _, rest = tensor.name.partition(".")
        if prefix == "blk":
            number = rest.partition(".")[0]
            size += tensor.size if number.isdecimal() and int(number) >= first else 0
        elif output and (prefix.startswith("output") or (prefix == "token_embd" and not _has_output(header))):
            size += tensor.size
    return size


def _has_output(header: Header) -> bool:
    return any(tensor.name == "output.weight" for tensor in header.tensors)


def _cache(header: Header, plan: Plan) -> list[int]:
    """Bytes that each layer keeps between tokens."""
    if header.architecture in WITHOUT_CACHE:
        return [0] * header.block_count
    state = _state(header) * plan.parallel
    if header.architecture in RECURRENT_ARCHITECTURES:
        return [state] * header.block_count
    full, window = _padded(plan.context), _window_cells(header, plan)
    windowed = _windowed(header)
    return [
        plan.parallel * (window if behind_window else full) * _cell(header, plan, heads, behind_window=behind_window)
        + state
        for heads, behind_window in zip(header.kv_heads, windowed, strict=True)
    ]


def _cell(header: Header, plan: Plan, heads: int, *, behind_window: bool) -> int:
    """Bytes of one token in one layer."""
    key, value = header.key_length, header.value_length
    if behind_window:
        key = header.number("attention.key_length_swa", key)
        value = header.number("attention.value_length_swa", value)
    if header.number("attention.key_length_mla"):
        value = 0  # the values are part of the keys (multi-head latent attention)
    return int(heads * (key * CACHE_BYTES[plan.cache_k] + value * CACHE_BYTES[plan.cache_v]))


def _padded(cells: int) -> int:
    return -(-cells // 256) * 256


def _window_cells(header: Header, plan: Plan) -> int:
    """Cells of a layer with a window: it and one batch, and never more than the context (llama-kv-cache-iswa.cpp)."""
    return _padded(min(plan.context, header.sliding_window + plan.ubatch))


def _windowed(header: Header) -> list[bool]:
    """For each layer: does it look through the window?"""
    count = header.block_count
    if not header.sliding_window:
        return [False] * count
    pattern = header.metadata.get(header.key("attention.sliding_window_pattern"))
    if isinstance(pattern, tuple) and len(pattern) == count:
        return [bool(item) for item in pattern]
    every = pattern if isinstance(pattern, int) else FULL_EVERY.get(header.architecture, 1)
    return [every > 0 and layer % every < every - 1 for layer in range(count)]


def _state(header: Header) -> int:
    """Bytes of one recurrent layer for one request: n_embd_r and n_embd_s in llama-hparams.cpp, in f32."""
    width = header.number("embedding_length")
    wkv = header.number("wkv.head_size")
    if wkv:
        return 4 * width * (2 + wkv)
    short = header.number("shortconv.l_cache")
    if short:
        return 4 * width * (short - 1)
    inner, state = header.number("ssm.inner_size"), header.number("ssm.state_size")
    kernel, groups = header.number("ssm.conv_kernel"), header.number("ssm.group_count")
    return 4 * (max(0, kernel - 1) * (inner + 2 * groups * state) + inner * state)


def _compute(header: Header, plan: Plan) -> int:
    """Scratch space of one pass over ``ubatch`` tokens, and the buffer of its outputs.

    Fitted to seven shapes: five hidden states, beside the largest of three things that are never there together (the
    feed-forward network's three matrices' worth, queries and attention, the logits), and an f16 attention mask. It
    holds with flash attention, which the engine switches on wherever it can.
    """
    rows = plan.ubatch
    outputs = rows if plan.embedding else min(rows, plan.parallel)
    words = 0 if header.architecture in WITHOUT_CACHE else header.vocab_size
    width = header.number("embedding_length")
    experts = header.number("expert_feed_forward_length") * header.experts[1]
    queries = max(header.heads, default=0) * header.key_length
    largest = max(
        rows * 3 * max(header.number("feed_forward_length"), experts),
        rows * 2 * queries,
        outputs * words,
    )
    results = outputs * (words + width)
    return 4 * (rows * 5 * width + largest + results) + 2 * _padded(plan.context) * rows


# Plan


def plan(
    header: Header,
    options: Options,
    hardware: Hardware,
    *,
    default_context: int = DEFAULT_CONTEXT,
    embedding: bool = False,
    extra: int = 0,
) -> Plan:
    """How to run a model on this machine. Whether it fits is for the caller to see: he may make room first.

    Args:
        header: of the model.
        options: what was asked for; what was left open is decided here.
        hardware: with those graphics cards only that the engine can use.
        default_context: tokens of a request that asks for none in particular.
        embedding: vectors are wanted of it, though it may be a model that talks.
        extra: bytes of projector and adapters.
    """
    embedding = embedding or header.is_embedding
    context, notes = _context(header, options, default_context)
    cache, more_notes = _cache_type(header, options)
    batch = _batch(header, options, hardware, context, embedding=embedding)
    draft = Plan(
        context=context,
        parallel=1,
        cache_k=cache,
        cache_v=cache,
        threads=min(options.num_thread or hardware.cores, hardware.cpus),
        batch=batch,
        ubatch=batch if embedding else min(UBATCH, batch),
        main_gpu=options.main_gpu or 0,
        mmap=options.use_mmap is not False,
        embedding=embedding,
        extra=extra,
        notes=notes + more_notes,
    )
    draft = structs.replace(draft, parallel=_parallel(header, draft, options, hardware))
    if batch < draft.parallel:  # llama.cpp asserts that a batch has room for a token of every slot
        draft = structs.replace(draft, batch=draft.parallel, ubatch=max(draft.ubatch, draft.parallel))
    draft = structs.replace(draft, gpu_layers=_gpu_layers(header, draft, options, hardware))
    return structs.replace(draft, memory=estimate(header, draft))


def _context(header: Header, options: Options, default: int) -> tuple[int, tuple[str, ...]]:
    wanted, trained = options.num_ctx or default, header.context_length
    if not trained or wanted <= trained:
        return wanted, ()
    if options.num_ctx is None:
        return trained, ()
    return trained, (f"num_ctx {wanted} is more than the {trained} tokens that {header.name} was trained for",)


def _cache_type(header: Header, options: Options) -> tuple[str, tuple[str, ...]]:
    wanted = options.kv_cache_type or "f16"
    if wanted in _BLOCKED and (header.key_length % 32 or header.value_length % 32):
        return "f16", (f"kv_cache_type {wanted} needs heads whose width is a multiple of 32; f16 is used",)
    return wanted, ()


def _batch(header: Header, options: Options, hardware: Hardware, context: int, *, embedding: bool) -> int:
    if options.num_batch:
        return options.num_batch
    if not embedding:
        return BATCH if hardware.gpus else _interruptible(header, hardware)
    return min(context, ENCODER_BATCH if header.architecture in WITHOUT_CACHE else EMBEDDING_BATCH)


def _interruptible(header: Header, hardware: Hardware) -> int:
    """Prompt tokens that processors compute in the time after which a client that left must not be served any more.

    The engine looks up between batches only. Measured on a 0.5 B model: 128 tokens at once read a prompt at 95 % of the
    speed of 512, 64 at 89 %, 32 at 80 %; below that the loss is not worth it, and a departure takes longer.
    """
    experts, used = header.experts
    active = header.parameter_count * (used / experts if experts else 1)
    tokens = DEPARTURE * hardware.cores * CORE_SPEED / max(1.0, 2 * active)
    return min(UBATCH, max(SMALLEST_BATCH, 1 << int(log2(max(1.0, tokens)))))


def _parallel(header: Header, draft: Plan, options: Options, hardware: Hardware) -> int:
    """Slots: 8 on a large machine, else 4; fewer when their cache would take more than a quarter of what is free."""
    if options.num_parallel:
        return options.num_parallel
    free = sum(gpu.memory_free for gpu in hardware.gpus) or hardware.memory_available
    large = bool(hardware.gpus) or hardware.cpus >= 16

    def affordable(count: int) -> bool:
        return sum(_cache(header, structs.replace(draft, parallel=count))) <= free // 4

    return _first(affordable, (8, 4, 2) if large else (4, 2), otherwise=1)


def _gpu_layers(header: Header, draft: Plan, options: Options, hardware: Hardware) -> int:
    """As many layers as fit on the cards, unless a number was asked for."""
    most = header.block_count + 1
    if not hardware.gpus:
        return 0
    if options.num_gpu is not None and options.num_gpu >= 0:
        return min(options.num_gpu, most)
    free = sum(gpu.memory_free for gpu in hardware.gpus)

    def fits(layers: int) -> bool:
        return estimate(header, structs.replace(draft, gpu_layers=layers)).gpu <= free

    return _first(fits, range(most, 0, -1), otherwise=0)


def _first(good: Callable[[int], bool], candidates: tuple[int, ...] | range, *, otherwise: int) -> int:
    return next((candidate for candidate in candidates if good(candidate)), otherwise)
