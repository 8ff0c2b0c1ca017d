"""Gemma 2 and 3, their text models: ``gemma2`` and ``gemma3``.

Their normalisations multiply by 1 + w, llama.cpp's by w; so 1 is added. Layers with a window alternate with layers
without one. The size of attention's logits follows from the number of layers in llama.cpp, from a field in
transformers; where the two are not the same, the model is refused.
"""

from __future__ import annotations

from typing import Any

from localmodels.artifacts.convert.config import FILE, Config
from localmodels.artifacts.convert.decoder import (
    GELU_TANH,
    PREFIXES,
    Sizes,
    attention,
    common_pairs,
    embeddings,
    feed_forward,
    finished,
    norms,
    read_sizes,
    window_pairs,
    windowed_layers,
)
from localmodels.artifacts.convert.drawing import Drawing, Model
from localmodels.artifacts.convert.folder import Folder
from localmodels.artifacts.convert.rope import read_rope
from localmodels.artifacts.gguf_write import Plain
from localmodels.core.errors import Unsupported

SHIFT = 1.0
NORMS = {
    "attn_norm": "input_layernorm",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
HEAD_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}

# The defaults of transformers' classes: the first Gemma 3 were published with half of their fields left out.
GEMMA2 = {"head_dim": 256, "query_pre_attn_scalar": 256, "sliding_window": 4096}
GEMMA3 = {
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "query_pre_attn_scalar": 256,
    "max_position_embeddings": 131_072,
    "sliding_window": 4096,
    "vocab_size": 262_208,
}
GLOBAL_BASE, LOCAL_BASE = 1_000_000.0, 10_000.0

# Layers of the largest of each, whose logits llama.cpp scales by the width of the model over the number of heads.
LAYERS_OF_27B = {"gemma2": 46, "gemma3": 62}
PATTERN = {"gemma2": 2, "gemma3": 6}

# What sees, in the models that do.
VISION = r"(vision_tower|multi_modal_projector|vision_model)\..*"


def read_gemma2(config: Config, folder: Folder) -> Model:
    """A Gemma 2.

    Raises:
        ModelDamaged: something is missing or has the wrong shape.
        Unsupported: the engine computes such a model otherwise.
    """
    sizes = _sizes("gemma2", config, GEMMA2)
    rope = read_rope(config, width=sizes.head)
    pairs = common_pairs("gemma2", sizes, rope)
    for name, key in (("attn_logit_softcapping",) * 2, ("final_logit_softcapping",) * 2):
        cap = config.number(name, 0.0)
        if not cap:
            raise Unsupported(f"{FILE}: {name} is null; the engine computes a Gemma 2 only with a number")
        pairs[f"gemma2.{key}"] = cap
    pairs |= _windows("gemma2", config, sizes, every=PATTERN["gemma2"])
    return _drawn("gemma2", config, folder, sizes, pairs)


def read_gemma3(config: Config, folder: Folder) -> Model:
    """The text model of a Gemma 3; what sees is left out.

    Raises:
        ModelDamaged: as :func:`read_gemma2`.
        Unsupported: as :func:`read_gemma2`.
    """
    sizes = _sizes("gemma3", config, GEMMA3)
    rope = read_rope(config, width=sizes.head, default=GLOBAL_BASE)
    pairs = common_pairs("gemma3", sizes, rope)
    config.must(attn_logit_softcapping=())
    cap = config.number("final_logit_softcapping", 0.0)
    if cap:
        pairs["gemma3.final_logit_softcapping"] = cap
    every = config.count("sliding_window_pattern", config.count("_sliding_window_pattern", PATTERN["gemma3"]))
    pairs |= _windows("gemma3", config, sizes, every=every)
    pairs["gemma3.rope.freq_base_swa"] = _local_base(config, sizes)
    return _drawn("gemma3", config, folder, sizes, pairs, norms_of_heads=True)


def _sizes(architecture: str, config: Config, defaults: dict[str, Any]) -> Sizes:
    config.assume(defaults)
    sizes = read_sizes(config)
    config.must(hidden_activation=GELU_TANH, use_bidirectional_attention=False, attention_bias=False)
    config.must(hidden_act=("gelu", *GELU_TANH))  # the other field is taken; see transformers' Gemma2Config
    due = sizes.width // sizes.heads if sizes.layers == LAYERS_OF_27B[architecture] else sizes.head
    if config.number("query_pre_attn_scalar") != due:
        raise Unsupported(
            f"{FILE}: query_pre_attn_scalar is {config.get('query_pre_attn_scalar')!r:.40}; the engine computes a "
            f"{architecture} of {sizes.layers} layers only with {due}"
        )
    return sizes


def _windows(architecture: str, config: Config, sizes: Sizes, *, every: int) -> dict[str, Plain]:
    windowed = windowed_layers(config, sizes.layers, every=every)
    window = config.count("sliding_window", high=2**31 - 1)
    return window_pairs(architecture, window, windowed, every=PATTERN[architecture])


def _local_base(config: Config, sizes: Sizes) -> float:
    """Of the frequencies in layers with a window, which must not be stretched."""
    old = config.number("rope_local_base_freq", LOCAL_BASE)
    if "sliding_attention" not in config.table("rope_parameters"):
        return old
    rope = read_rope(config, width=sizes.head, default=old, layers="sliding_attention")
    if rope.pairs or rope.factors:
        raise Unsupported(f"{FILE}: rope_parameters stretch the layers with a window, which the engine does not")
    return rope.base


def _drawn(
    architecture: str,
    config: Config,
    folder: Folder,
    sizes: Sizes,
    pairs: dict[str, Plain],
    *,
    norms_of_heads: bool = False,
) -> Model:
    drawing = Drawing(folder.tensors(), PREFIXES)
    notes = ("what sees is left out: the model reads text alone",) if drawing.drop(VISION) else ()
    embeddings(drawing, sizes, config, folder, tied=True, shift=SHIFT)
    for layer in range(sizes.layers):
        norms(drawing, layer, sizes.width, NORMS, shift=SHIFT)
        attention(drawing, layer, sizes)
        if norms_of_heads:
            norms(drawing, layer, sizes.head, HEAD_NORMS, shift=SHIFT)
        feed_forward(drawing, layer, sizes)
    return finished(architecture, config, drawing, pairs, notes)
