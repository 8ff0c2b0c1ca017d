"""Qwen 2 and 2.5 (and what was distilled into them), Qwen 3, and Qwen 3's mixture of experts.

They turn halves of a head as transformers does, so nothing is moved.
"""

from __future__ import annotations

from localmodels.artifacts.convert.config import FILE, Config
from localmodels.artifacts.convert.decoder import (
    PREFIXES,
    SILU,
    attention,
    common_pairs,
    embeddings,
    feed_forward,
    finished,
    norms,
    read_sizes,
    rope_tensors,
    within_window,
)
from localmodels.artifacts.convert.drawing import Drawing, Model
from localmodels.artifacts.convert.experts import Experts, expert_pairs, expert_tensors, read_experts
from localmodels.artifacts.convert.folder import Folder
from localmodels.artifacts.convert.rope import read_rope
from localmodels.core.errors import Unsupported

NORMS = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
HEAD_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}


def read_qwen2(config: Config, folder: Folder) -> Model:
    """A Qwen 2 or 2.5.

    Raises:
        ModelDamaged: something is missing or has the wrong shape.
        Unsupported: the engine computes such a model otherwise.
    """
    return _read("qwen2", config, folder)


def read_qwen3(config: Config, folder: Folder) -> Model:
    """A dense Qwen 3.

    Raises:
        ModelDamaged: as :func:`read_qwen2`.
        Unsupported: as :func:`read_qwen2`.
    """
    return _read("qwen3", config, folder, head=128, norms_of_heads=True)


def read_qwen3_moe(config: Config, folder: Folder) -> Model:
    """A Qwen 3 whose every layer is a mixture of experts.

    Raises:
        ModelDamaged: as :func:`read_qwen2`.
        Unsupported: as :func:`read_qwen2`; for one, where the weights of the chosen experts do not add up to 1.
    """
    if not config.flag("norm_topk_prob", default=False):
        raise Unsupported(
            f"{FILE}: norm_topk_prob is not true; the engine always makes the weights of the chosen experts add up to 1"
        )
    config.must(decoder_sparse_step=1, mlp_only_layers=[])  # the engine knows no layers without experts here
    names = ("gate_proj", "up_proj", "down_proj")
    experts = read_experts(config, feed="moe_intermediate_size", names=names)
    return _read("qwen3moe", config, folder, norms_of_heads=True, experts=experts)


def _read(
    architecture: str,
    config: Config,
    folder: Folder,
    *,
    head: int = 0,
    norms_of_heads: bool = False,
    experts: Experts | None = None,
) -> Model:
    sizes = read_sizes(config, head=head)
    rope = read_rope(config, width=sizes.head)
    config.must(hidden_act=SILU)
    config.pass_over("attention_bias", "max_window_layers")  # biases are taken where there are any
    windowed = "sliding_attention" in (config.texts("layer_types") or ())
    context, notes = within_window(config, sizes, used=windowed or config.flag("use_sliding_window", default=False))

    pairs = common_pairs(architecture, sizes, rope) | {f"{architecture}.context_length": context}
    if experts:
        pairs |= expert_pairs(architecture, experts)
        pairs[f"{architecture}.expert_feed_forward_length"] = experts.feed

    drawing = Drawing(folder.tensors(), PREFIXES)
    rope_tensors(drawing, rope)
    embeddings(drawing, sizes, config, folder, tied=False)
    for layer in range(sizes.layers):
        norms(drawing, layer, sizes.width, NORMS)
        attention(drawing, layer, sizes)
        if norms_of_heads:
            norms(drawing, layer, sizes.head, HEAD_NORMS)
        if experts:
            expert_tensors(drawing, layer, f"layers.{layer}.mlp", sizes.width, experts)
        else:
            feed_forward(drawing, layer, sizes)
    return finished(architecture, config, drawing, pairs, notes)
