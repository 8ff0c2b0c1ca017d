"""Tensors that no quantisation touches, by llama.cpp's list: what is small, and what a model cannot bear coarsely.

The rule: `tensor_allows_quantization` of llama.cpp b11549, part for part; mixing rules are :mod:`.mixing`'s.
"""

from __future__ import annotations

from localmodels.artifacts.gguf_header import TensorInfo

# Whole names: learned positions and segments of encoders.
NAMES = frozenset({"position_embd.weight", "token_types.weight"})

# Parts of names.
PARTS = (
    "_norm.weight",
    # which expert a token goes to
    "ffn_gate_inp.weight", "ffn_gate_tid2eid.weight",
    # Gemma 3n: tiny, or not worth it
    "altup", "laurel", "per_layer_model_proj",
    # short convolutions of Mamba, Kimi and LFM2
    "ssm_conv1d", "shortconv.conv.weight",
    # MiniMax's indexer
    "indexer.k_proj.weight", "indexer.q_proj.weight",
    # RWKV's small matrices
    "time_mix_first.weight", "time_mix_w0.weight", "time_mix_w1.weight", "time_mix_w2.weight", "time_mix_v0.weight",
    "time_mix_v1.weight", "time_mix_v2.weight", "time_mix_a0.weight", "time_mix_a1.weight", "time_mix_a2.weight",
    "time_mix_g1.weight", "time_mix_g2.weight", "time_mix_decay_w1.weight", "time_mix_decay_w2.weight",
    "time_mix_lerp_fused.weight",
    # T5's relative positions
    "attn_rel_b.weight",
    # eyes and ears
    ".position_embd", "sam.pos_embd", "sam.neck.", "sam.net_", ".rel_pos", ".patch_embd", ".patch_merger",
    "a.rvq.codebook", "mm.a.code_embd",
)  # fmt: skip

PARTS_BY_ARCHITECTURE = {
    "glm5-next": (
        "hc_", "indexer.attn_q_b", "indexer.attn_k", "indexer.proj", "indexer_compressor_gate",
        "indexer_compressor_ape", "ssm_f_a.weight", "ssm_f_b.weight", "ssm_g_a.weight", "ssm_g_b.weight",
        "ssm_beta.weight", "attn_kv_a_mqa.weight", "attn_k_b.weight", "attn_v_b.weight",
    ),
}  # fmt: skip


def is_kept(tensor: TensorInfo, architecture: str) -> bool:
    """Does it stay as it is, whatever the file becomes?"""
    name = tensor.name
    return (
        len(dimensions(tensor)) < 2
        or not name.endswith("weight")
        or name in NAMES
        or any(part in name for part in (*PARTS, *PARTS_BY_ARCHITECTURE.get(architecture, ())))
    )


def dimensions(tensor: TensorInfo) -> tuple[int, ...]:
    """The shape as ggml counts it: sizes of 1 at the end are no dimensions, but there is always one."""
    shape = tensor.shape or (1,)
    while len(shape) > 1 and shape[-1] == 1:
        shape = shape[:-1]
    return shape
