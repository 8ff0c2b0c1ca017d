"""gpt-oss: ``gpt-oss``, whose experts are four-bit floats (MXFP4) already and stay so, bit for bit.

transformers keeps gate and up in alternate rows (in columns, where they are 16 bits wide), llama.cpp apart. A block of
MXFP4 is one exponent and 32 numbers of four bits; transformers puts neighbours into one byte, llama.cpp the first half
of a block into the low bits and the second into the high ones.
"""

from __future__ import annotations

import numpy as np

from localmodels.artifacts.convert.config import FILE, Config
from localmodels.artifacts.convert.decoder import (
    PREFIXES,
    SILU,
    Sizes,
    attention,
    common_pairs,
    embeddings,
    finished,
    norms,
    read_sizes,
    window_pairs,
    windowed_layers,
)
from localmodels.artifacts.convert.drawing import FLOATS, Change, Drawing, Made, Model, Part
from localmodels.artifacts.convert.experts import Experts, expert_pairs, read_experts
from localmodels.artifacts.convert.folder import Folder, Tensor
from localmodels.artifacts.convert.rope import read_rope, rope_values
from localmodels.core.errors import Unsupported

ARCHITECTURE = "gpt-oss"
BASE = 150_000.0
NORMS = {"attn_norm": "input_layernorm", "post_attention_norm": "post_attention_layernorm"}
EVERY = 2

BLOCK = 32  # weights in a block of MXFP4, of which each byte holds two
BYTES = frozenset({"U8"})

NOT_ROUNDED = (
    "its YaRN does not round where frequencies begin and cease to be stretched, the engine does: log-probabilities may "
    "differ by some hundredths over hundreds of tokens"
)


def read(config: Config, folder: Folder) -> Model:
    """A gpt-oss, with its experts in MXFP4 or in 16 bits.

    Raises:
        ModelDamaged: something is missing or has the wrong shape.
        Unsupported: the engine computes such a model otherwise.
    """
    config.assume({"head_dim": 64, "sliding_window": 128})
    sizes = read_sizes(config, epsilon=1e-5)
    rope = read_rope(config, width=sizes.head, default=BASE)
    config.must(hidden_act=SILU, swiglu_alpha=1.702, swiglu_limit=7.0, attention_bias=True)
    config.must(experts_per_token=config.get("num_experts_per_tok"))
    config.pass_over("initial_context_length", "quantization_config")
    if config.flag("tie_word_embeddings", default=False):
        raise Unsupported(f"{FILE}: tie_word_embeddings is true; the engine wants an output matrix in a gpt-oss")
    experts = read_experts(config, feed="intermediate_size", names=("gate", "up", "down"))
    window = config.count("sliding_window", high=2**31 - 1)

    pairs = {**common_pairs(ARCHITECTURE, sizes, rope), **expert_pairs(ARCHITECTURE, experts)}
    pairs |= window_pairs(ARCHITECTURE, window, windowed_layers(config, sizes.layers, every=EVERY), every=EVERY)
    pairs[f"{ARCHITECTURE}.expert_feed_forward_length"] = experts.feed

    drawing = Drawing(folder.tensors(), PREFIXES)
    embeddings(drawing, sizes, config, folder, tied=False)
    for layer in range(sizes.layers):
        norms(drawing, layer, sizes.width, NORMS)
        attention(drawing, layer, sizes)
        drawing.add(f"blk.{layer}.attn_sinks.weight", f"layers.{layer}.self_attn.sinks", sizes.heads)
        _experts(drawing, layer, sizes, experts)
    notes = (NOT_ROUNDED,) if rope_values(config).get("truncate") is False else ()
    return finished(ARCHITECTURE, config, drawing, pairs, notes)


def _experts(drawing: Drawing, layer: int, sizes: Sizes, experts: Experts) -> None:
    block, source = f"blk.{layer}", f"layers.{layer}.mlp"
    count, feed = experts.count, experts.feed
    drawing.add(f"{block}.ffn_gate_inp.weight", f"{source}.router.weight", count, sizes.width)
    drawing.add(f"{block}.ffn_gate_inp.bias", f"{source}.router.bias", count)
    source = f"{source}.experts"
    both = drawing.take(f"{source}.gate_up_proj_bias", count, 2 * feed)
    for name, first in (("ffn_gate_exps", 0), ("ffn_up_exps", 1)):
        drawing.put(Made(f"{block}.{name}.bias", (count, feed), (Part((both,), _alternate(first)),)))
    drawing.add(f"{block}.ffn_down_exps.bias", f"{source}.down_proj_bias", count, sizes.width)
    _matrices(drawing, f"{source}.gate_up_proj", {f"{block}.ffn_gate_exps.weight": 0, f"{block}.ffn_up_exps.weight": 1},
              count, 2 * feed, sizes.width, step=2)  # fmt: skip
    _matrices(drawing, f"{source}.down_proj", {f"{block}.ffn_down_exps.weight": 0}, count, sizes.width, feed, step=1)


def _matrices(
    drawing: Drawing, source: str, names: dict[str, int], count: int, rows: int, columns: int, *, step: int
) -> None:
    """Tensors made of each ``step``-th row of a matrix an expert, by name and first row."""
    packed = drawing.has(f"{source}_blocks")
    if packed:
        blocks = drawing.take(f"{source}_blocks", count, rows, columns // BLOCK, BLOCK // 2, dtypes=BYTES)
        scales = drawing.take(f"{source}_scales", count, rows, columns // BLOCK, dtypes=BYTES)
        sources: tuple[str, ...] = (blocks, scales)
    else:
        sources = (drawing.take(source, count, columns, rows, dtypes=FLOATS),)
    change = _packed if packed else _turned
    for name, first in names.items():
        parts = tuple(Part(sources, change(expert, first, step)) for expert in range(count))
        drawing.put(Made(name, (count, rows // step, columns), parts, packed="MXFP4" if packed else ""))


def _alternate(first: int) -> Change:
    """Each second column."""

    def change(weights: Tensor) -> Tensor:
        columns: Tensor = weights[:, first::2]
        return columns

    return change


def _turned(expert: int, first: int, step: int) -> Change:
    """Each ``step``-th column of an expert's matrix, as rows."""

    def change(weights: Tensor) -> Tensor:
        rows: Tensor = weights[expert].T[first::step]
        return rows

    return change


def _packed(expert: int, first: int, step: int) -> Change:
    """Each ``step``-th row of an expert's matrix, in llama.cpp's blocks: (rows, blocks × 17 bytes)."""

    def change(blocks: Tensor, scales: Tensor) -> Tensor:
        numbers, exponents = blocks[expert, first::step], scales[expert, first::step]
        apart = np.stack((numbers & 15, numbers >> 4), -1).reshape(*numbers.shape[:-1], BLOCK)
        halves = apart[..., : BLOCK // 2] | apart[..., BLOCK // 2 :] << 4
        return np.concatenate((exponents[..., None], halves), -1).reshape(len(numbers), -1)

    return change
