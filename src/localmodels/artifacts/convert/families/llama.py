"""Llama 2, 3 and 3.x, Mistral, Mixtral, and whatever was distilled into a Llama (DeepSeek-R1): ``llama``.

llama.cpp turns neighbouring pairs of a head's numbers by an angle, transformers the two halves of a head against each
other. So the rows of queries and keys are put in another order, head by head; nothing else differs. Llama 3's stretched
frequencies become a tensor of factors.
"""

from __future__ import annotations

from localmodels.artifacts.convert.config import Config
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
from localmodels.artifacts.convert.drawing import Change, Drawing, Model
from localmodels.artifacts.convert.experts import expert_pairs, expert_tensors, read_experts
from localmodels.artifacts.convert.folder import Folder, Tensor
from localmodels.artifacts.convert.rope import read_rope

ARCHITECTURE = "llama"
# Of the frequencies, where a configuration does not say; by transformers' classes.
LLAMA_BASE, MIXTRAL_BASE = 10_000.0, 1_000_000.0
NORMS = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}


def read(config: Config, folder: Folder) -> Model:
    """A Llama, Mistral or Mixtral.

    Raises:
        ModelDamaged: something is missing or has the wrong shape.
        Unsupported: the engine computes such a model otherwise.
    """
    sizes = read_sizes(config)
    mixture = config.get("num_local_experts") is not None
    rope = read_rope(config, width=sizes.head, default=MIXTRAL_BASE if mixture else LLAMA_BASE)
    config.must(hidden_act=SILU)
    config.must(pretraining_tp=1)
    config.pass_over("attention_bias", "mlp_bias")  # biases are taken where there are any
    context, notes = within_window(config, sizes, used=True)
    experts = None
    if mixture:
        experts = read_experts(config, feed="intermediate_size", names=("w1", "w3", "w2"))

    pairs = common_pairs(ARCHITECTURE, sizes, rope)
    pairs |= {f"{ARCHITECTURE}.context_length": context, f"{ARCHITECTURE}.vocab_size": sizes.vocab}
    if experts:
        pairs |= expert_pairs(ARCHITECTURE, experts)

    drawing = Drawing(folder.tensors(), PREFIXES)
    rope_tensors(drawing, rope)
    embeddings(drawing, sizes, config, folder, tied=False)
    for layer in range(sizes.layers):
        norms(drawing, layer, sizes.width, NORMS)
        attention(drawing, layer, sizes, query=halves_to_pairs(sizes.heads), key=halves_to_pairs(sizes.kv_heads))
        if experts:
            fused = drawing.has(
                f"layers.{layer}.mlp.experts.gate_up_proj"
            )  # what transformers 5 calls a layer's experts
            source = f"layers.{layer}.{'mlp' if fused else 'block_sparse_moe'}"
            expert_tensors(drawing, layer, source, sizes.width, experts)
        else:
            feed_forward(drawing, layer, sizes)
    return finished(ARCHITECTURE, config, drawing, pairs, notes)


def halves_to_pairs(heads: int) -> Change:
    """Puts the rows of a matrix (or of a bias) of so many heads into llama.cpp's order: 0, h, 1, h + 1, … of 2 h."""

    def change(weights: Tensor) -> Tensor:
        halves = weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:])
        return halves.swapaxes(1, 2).reshape(weights.shape)

    return change
