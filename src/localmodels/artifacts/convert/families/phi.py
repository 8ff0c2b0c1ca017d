"""Phi 3, 3.5 and 4, and Phi-4-mini: ``phi3``.

Queries, keys and values lie in one matrix, gate and up in another, and both stay so. The versions with a long context
have two lists of factors for the frequencies: for texts within the context that the model was first trained with, and
for longer ones.
"""

from __future__ import annotations

from localmodels.artifacts.convert.config import FILE, Config, is_number
from localmodels.artifacts.convert.decoder import (
    PREFIXES,
    SILU,
    Sizes,
    common_pairs,
    embeddings,
    finished,
    norms,
    read_sizes,
    rope_tensors,
    within_window,
)
from localmodels.artifacts.convert.drawing import Drawing, Model
from localmodels.artifacts.convert.folder import Folder
from localmodels.artifacts.convert.rope import read_rope, rope_values
from localmodels.core.errors import ModelDamaged, Unsupported

ARCHITECTURE = "phi3"
NORMS = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}


def read(config: Config, folder: Folder) -> Model:
    """A Phi 3, 3.5 or 4.

    Raises:
        ModelDamaged: something is missing or has the wrong shape.
        Unsupported: the engine computes such a model otherwise.
    """
    sizes = read_sizes(config, epsilon=1e-5)
    config.must(hidden_act=SILU, attention_bias=False, mlp_bias=False, head_dim=sizes.width // sizes.heads)
    turned = _turned(config, sizes)
    rope = read_rope(config, width=turned)
    context, notes = within_window(config, sizes, used=True)
    config.pass_over("original_max_position_embeddings")

    pairs = common_pairs(ARCHITECTURE, sizes, rope)
    pairs |= {f"{ARCHITECTURE}.context_length": context, f"{ARCHITECTURE}.rope.dimension_count": turned}
    pairs.setdefault(f"{ARCHITECTURE}.rope.scaling.original_context_length", sizes.context)

    drawing = Drawing(folder.tensors(), PREFIXES)
    rope_tensors(drawing, rope)
    embeddings(drawing, sizes, config, folder, tied=False)
    for layer in range(sizes.layers):
        norms(drawing, layer, sizes.width, NORMS)
        _layer(drawing, layer, sizes)
    return finished(ARCHITECTURE, config, drawing, pairs, notes)


def _turned(config: Config, sizes: Sizes) -> int:
    """How much of a head is turned by its position."""
    share = config.get("partial_rotary_factor")
    share = rope_values(config).get("partial_rotary_factor", 1.0) if share is None else share
    if not is_number(share) or not 0 < share <= 1:
        raise ModelDamaged(f"{FILE}: partial_rotary_factor must be a number above 0 and up to 1, not {share!r:.40}")
    turned = int(sizes.head * share)
    if turned % 2:
        raise Unsupported(f"{FILE}: partial_rotary_factor makes {turned} numbers of a head turn, which must be even")
    return turned


def _layer(drawing: Drawing, layer: int, sizes: Sizes) -> None:
    source, block = f"layers.{layer}", f"blk.{layer}"
    rows = (sizes.heads + 2 * sizes.kv_heads) * sizes.head
    drawing.add(f"{block}.attn_qkv.weight", f"{source}.self_attn.qkv_proj.weight", rows, sizes.width)
    drawing.add(
        f"{block}.attn_output.weight", f"{source}.self_attn.o_proj.weight", sizes.width, sizes.heads * sizes.head
    )
    drawing.add(f"{block}.ffn_up.weight", f"{source}.mlp.gate_up_proj.weight", 2 * sizes.feed, sizes.width)
    drawing.add(f"{block}.ffn_down.weight", f"{source}.mlp.down_proj.weight", sizes.width, sizes.feed)
