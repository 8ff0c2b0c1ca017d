from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.weight_folders import (
    FEED,
    HEAD,
    KV_HEADS,
    LLAMA,
    ROWS,
    WIDTH,
    Weights,
    drawn,
    llama_tensors,
    write_folder,
)

from localmodels.artifacts.convert.drawing import Made, Model
from localmodels.artifacts.convert.families import gpt_oss
from localmodels.artifacts.convert.families.llama import halves_to_pairs
from localmodels.artifacts.convert.folder import Folder
from localmodels.artifacts.convert.plan import read_model
from localmodels.core.errors import ModelDamaged, Unsupported

GEMMA3: Mapping[str, Any] = {
    **LLAMA, "architectures": ["Gemma3ForCausalLM"], "hidden_act": ..., "hidden_activation": "gelu_pytorch_tanh",
    "rope_theta": ..., "head_dim": HEAD, "query_pre_attn_scalar": HEAD, "sliding_window": 64,
}  # fmt: skip
MOE: Mapping[str, Any] = {
    **LLAMA, "architectures": ["Qwen3MoeForCausalLM"], "head_dim": HEAD, "num_experts": 2, "num_experts_per_tok": 1,
    "moe_intermediate_size": 32, "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": [],
}  # fmt: skip


def read(
    place: Path, config: Mapping[str, Any] = LLAMA, tensors: Mapping[str, Weights] | None = None, **fields: Any
) -> Model:
    return read_model(Folder.of(write_folder(place, config, tensors, **fields)))


def made(model: Model, name: str) -> Made:
    return next(one for one in model.tensors if one.name == name)


def without_feed_forward() -> dict[str, Weights]:
    return {name: weights for name, weights in llama_tensors().items() if ".mlp." not in name}


def head_norms() -> dict[str, Weights]:
    return {f"model.layers.0.self_attn.{name}_norm.weight": drawn(HEAD) for name in "qk"}


def test_halves_of_a_head_become_pairs() -> None:
    assert halves_to_pairs(1)(np.arange(6)).tolist() == [0, 3, 1, 4, 2, 5]
    assert halves_to_pairs(2)(np.arange(8)).tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    rows = np.arange(8)[:, None] * [1, 10]
    assert halves_to_pairs(2)(rows)[:, 1].tolist() == [0, 20, 10, 30, 40, 60, 50, 70]


def test_a_llama_has_its_rows_moved_and_nothing_else(tmp_path: Path) -> None:
    model = read(tmp_path)
    assert model.architecture == "llama"
    moved = {one.name for one in model.tensors if any(part.change for part in one.parts)}
    assert moved == {"blk.0.attn_q.weight", "blk.0.attn_k.weight"}
    assert made(model, "blk.0.ffn_down.weight").shape == (WIDTH, FEED)
    assert {one.name for one in model.tensors} >= {"token_embd.weight", "output_norm.weight"}
    assert "output.weight" not in {one.name for one in model.tensors}  # tied
    pairs = dict(model.pairs)
    assert pairs["llama.attention.head_count_kv"] == KV_HEADS
    assert pairs["llama.rope.dimension_count"] == HEAD
    assert pairs["llama.context_length"] == 512


def test_a_window_bounds_the_context_where_the_engine_has_none(tmp_path: Path) -> None:
    model = read(tmp_path, architectures=["MistralForCausalLM"], sliding_window=128)
    assert dict(model.pairs)["llama.context_length"] == 128
    assert "128 tokens instead of 512" in model.notes[0]
    wide = read(tmp_path, architectures=["MistralForCausalLM"], sliding_window=4096)
    assert dict(wide.pairs)["llama.context_length"] == 512
    assert wide.notes == ()


def test_an_output_matrix_of_its_own_is_kept(tmp_path: Path) -> None:
    tensors = llama_tensors() | {"lm_head.weight": drawn(ROWS, WIDTH, seed=9)}
    assert made(read(tmp_path, tensors=tensors, tie_word_embeddings=False), "output.weight").shape == (ROWS, WIDTH)
    with pytest.raises(ModelDamaged, match=r"lm_head\.weight.* is another"):
        read(tmp_path, tensors=tensors)


def test_a_copy_of_the_embeddings_is_left_out(tmp_path: Path) -> None:
    tensors = llama_tensors()
    model = read(tmp_path, tensors=tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"]})
    assert "output.weight" not in {one.name for one in model.tensors}


@pytest.mark.parametrize(
    ("change", "error", "reason"),
    [
        ({"model.norm.weight": None}, ModelDamaged, "'norm.weight' is missing"),
        ({"model.norm.weight": drawn(WIDTH + 1)}, ModelDamaged, r"has the shape \[65\].*must be \[64\]"),
        ({"model.norm.weight": np.zeros(WIDTH, np.int64)}, Unsupported, "is of type I64"),
        ({"model.layers.1.mlp.up_proj.weight": drawn(2)}, Unsupported, "1 tensors of the folder have no place"),
        ({"language_model.model.norm.weight": drawn(WIDTH)}, ModelDamaged, "are the same one"),
    ],
)
def test_tensors_that_do_not_fit_are_named(
    tmp_path: Path, change: dict[str, Weights | None], error: type[Exception], reason: str
) -> None:
    tensors = {name: weights for name, weights in (llama_tensors() | change).items() if weights is not None}
    with pytest.raises(error, match=reason):
        read(tmp_path, tensors=tensors)


def test_frequencies_of_old_checkpoints_are_passed_over(tmp_path: Path) -> None:
    tensors = llama_tensors() | {"model.layers.0.self_attn.rotary_emb.inv_freq": drawn(HEAD // 2)}
    assert len(read(tmp_path, tensors=tensors).tensors) == len(llama_tensors())


@pytest.mark.parametrize(
    ("fields", "error", "reason"),
    [
        ({"architectures": ["OtherForCausalLM"]}, Unsupported, "'OtherForCausalLM' cannot be converted; known are"),
        ({"architectures": []}, ModelDamaged, "architectures must name"),
        ({"hidden_act": "relu"}, Unsupported, "hidden_act is 'relu'"),
        ({"num_key_value_heads": 3}, ModelDamaged, "4 query heads cannot share 3"),
        ({"num_hidden_layers": ...}, ModelDamaged, "num_hidden_layers is missing"),
        ({"residual_multiplier": 0.5}, Unsupported, "residual_multiplier = 0.5"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, Unsupported, "rope type 'dynamic'"),
        ({"text_config": 3}, ModelDamaged, "text_config"),
    ],
)
def test_configurations_that_would_compute_otherwise_are_refused(
    tmp_path: Path, fields: dict[str, Any], error: type[Exception], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        read(tmp_path, **fields)


@pytest.mark.parametrize("method", ["gptq", "awq", "bitsandbytes", "fp8"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_folder_that_is_quantized_already_is_refused_by_how(tmp_path: Path, method: str, *, packed: bool) -> None:
    tensors = llama_tensors()
    if packed:
        tensors["model.layers.0.mlp.up_proj.weight"] = np.zeros((FEED, WIDTH // 2), np.uint8)
    with pytest.raises(Unsupported, match=f"quantized by {method} already; give the model it was made of$") as refused:
        read(tmp_path, tensors=tensors, quantization_config={"quant_method": method, "bits": 4})
    assert refused.value.param is None


@pytest.mark.parametrize("fused", [False, True])
def test_experts_are_stacked_in_either_form(tmp_path: Path, *, fused: bool) -> None:
    separate = {
        f"model.layers.0.mlp.experts.{number}.{name}_proj.weight": drawn(*shape, seed=number)
        for number in range(2)
        for name, shape in {"gate": (32, WIDTH), "up": (32, WIDTH), "down": (WIDTH, 32)}.items()
    }
    together = {
        "model.layers.0.mlp.experts.gate_up_proj": drawn(2, 64, WIDTH),
        "model.layers.0.mlp.experts.down_proj": drawn(2, WIDTH, 32),
    }
    router = {"model.layers.0.mlp.gate.weight": drawn(2, WIDTH)}
    tensors = without_feed_forward() | head_norms() | router | (together if fused else separate)
    model = read(tmp_path, MOE, tensors)
    up = made(model, "blk.0.ffn_up_exps.weight")
    assert up.shape == (2, 32, WIDTH)
    assert len(up.parts) == 2
    if fused:
        change = up.parts[1].change
        assert change is not None
        both = together["model.layers.0.mlp.experts.gate_up_proj"]
        assert np.array_equal(change(both), both[1, 32:])


def test_experts_whose_weights_are_not_normalised_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="norm_topk_prob is not true"):
        read(tmp_path, MOE, norm_topk_prob=False)


def gemma3_tensors() -> dict[str, Weights]:
    more = {f"model.layers.0.{name}_feedforward_layernorm.weight": drawn(WIDTH) for name in ("pre", "post")}
    return llama_tensors() | head_norms() | more


def test_gemma_has_one_added_to_its_norms_alone(tmp_path: Path) -> None:
    model = read(tmp_path, GEMMA3, gemma3_tensors())
    assert {one.name for one in model.tensors if one.shift == 1.0} == {
        "output_norm.weight",
        *(
            f"blk.0.{name}.weight"
            for name in (
                "attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm", "attn_q_norm", "attn_k_norm",
            )
        ),
    }  # fmt: skip
    pairs = dict(model.pairs)
    assert pairs["gemma3.rope.freq_base"] == 1_000_000.0
    assert pairs["gemma3.rope.freq_base_swa"] == 10_000.0
    assert pairs["gemma3.attention.sliding_window"] == 64


def test_eyes_are_left_out_and_said_so(tmp_path: Path) -> None:
    inner = {name: value for name, value in GEMMA3.items() if value is not ... and name != "architectures"}
    tensors = {
        name.replace("model.", "language_model.model.", 1): weights for name, weights in gemma3_tensors().items()
    }
    tensors |= {"vision_tower.vision_model.head.weight": drawn(2), "multi_modal_projector.weight": drawn(2)}
    outer = {"architectures": ["Gemma3ForConditionalGeneration"], "text_config": inner, "vision_config": {"a": 1}}
    model = read(tmp_path, outer, tensors)
    assert model.architecture == "gemma3"
    assert "left out" in model.notes[0]


def test_gemma_with_other_logits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="query_pre_attn_scalar is 224"):
        read(tmp_path, GEMMA3, gemma3_tensors(), query_pre_attn_scalar=224)


def test_blocks_of_mxfp4_are_put_into_the_engines_order() -> None:
    # One block of one row: number i is i modulo 16, so in the folder byte j holds 2 j and 2 j + 1.
    numbers = np.arange(32, dtype=np.uint8) % 16
    blocks = (numbers[0::2] | numbers[1::2] << 4).reshape(1, 1, 1, 16)
    scales = np.full((1, 1, 1), 127, np.uint8)
    packed = gpt_oss._packed(0, 0, 1)(blocks, scales)
    assert packed.tolist() == [[127, *(number | number << 4 for number in range(16))]]


def test_gate_and_up_lie_in_alternate_rows() -> None:
    weights = drawn(2, 6, 8)  # experts, columns, rows
    assert np.array_equal(gpt_oss._turned(1, 1, 2)(weights), weights[1, :, 1::2].T)
    assert np.array_equal(gpt_oss._alternate(0)(drawn(2, 8)), drawn(2, 8)[:, ::2])
