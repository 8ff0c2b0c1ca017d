"""Mixtures against what llama.cpp b11549 is known to make. Its own record of twelve real models (tests/snapshots in its
source) was compared tensor by tensor when this was written: ``python -m tools.llama_quantize --snapshots``.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.quantize_models import header, tensor

from localmodels.artifacts.gguf_header import Header
from localmodels.artifacts.quantize.file_types import TARGETS, is_quantized, weight_type
from localmodels.artifacts.quantize.mixing import facts, kind_of, mixed
from localmodels.artifacts.quantize.untouched import is_kept
from localmodels.core.errors import Unsupported


def types(model: Header, target: str) -> dict[str, str]:
    return {tensor.name: name for tensor, name in mixed(model, TARGETS[target])}


def layers_with(model: Header, target: str, part: str, wanted: str) -> list[int]:
    """The layers in which this part of the model is of this type."""
    made = types(model, target)
    return [layer for layer in range(1000) if made.get(f"blk.{layer}.{part}.weight") == wanted]


def kinds_in(model: Header, target: str, part: str) -> set[str]:
    return {name for tensor, name in types(model, target).items() if f".{part}." in tensor}


# The first and last eighth of 32, and every third between.
MORE_BITS_OF_32 = [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]
FIRST_EIGHTH = [0, 1, 2, 3]
GROUPED = header(kv_heads=8)


@pytest.mark.parametrize("part", ["attn_v", "ffn_down"])
@pytest.mark.parametrize(("target", "main"), [("Q4_K_M", "Q4_K"), ("Q5_K_M", "Q5_K")])
def test_the_m_mixtures_give_more_bits_to_half_of_the_layers(target: str, main: str, part: str) -> None:
    assert layers_with(header(), target, part, "Q6_K") == MORE_BITS_OF_32
    assert kinds_in(header(), target, part) == {"Q6_K", main}
    assert kinds_in(header(), target, "attn_q") == kinds_in(header(), target, "attn_output") == {main}


@pytest.mark.parametrize(
    ("model", "target", "part", "wanted", "layers"),
    [
        (header(), "Q4_K_S", "attn_v", "Q5_K", [0, 1, 2, 3]),
        (header(layers=80, kv_heads=8), "Q4_K_S", "ffn_down", "Q5_K", list(range(10))),
        (header(), "Q3_K_M", "attn_v", "Q5_K", [0, 1]),
        (header(), "Q3_K_M", "ffn_down", "Q5_K", [0, 1]),
        (header(architecture="falcon"), "Q3_K_M", "ffn_down", "Q4_K", MORE_BITS_OF_32[2:]),
        (header(architecture="falcon"), "Q4_K_M", "ffn_down", "Q6_K", [0, 1]),
        (header(architecture="falcon"), "Q4_K_M", "ffn_down", "Q5_K", MORE_BITS_OF_32[2:]),
        (header(architecture="falcon"), "Q4_K_S", "ffn_down", "Q5_K", []),
        (header(), "Q2_K_S", "ffn_down", "Q4_K", FIRST_EIGHTH),
        (header(), "IQ4_XS", "ffn_down", "Q5_K", FIRST_EIGHTH),
        (header(), "IQ4_NL", "ffn_down", "Q5_K", FIRST_EIGHTH),
        (header(), "IQ3_M", "ffn_down", "Q4_K", FIRST_EIGHTH),
        (header(), "IQ3_XXS", "ffn_down", "Q4_K", FIRST_EIGHTH),
        (header(), "IQ3_XS", "ffn_up", "IQ3_XXS", list(range(4, 28))),
        (header(), "IQ3_XS", "ffn_gate", "IQ3_XXS", list(range(4, 28))),
        (header(), "IQ2_M", "ffn_down", "IQ3_S", FIRST_EIGHTH),
        (header(), "IQ1_S", "ffn_down", "Q2_K", FIRST_EIGHTH),
        # The 70 B of Llama: what would be 3 or 4 bits is 5, as its values are small.
        (header(layers=80, kv_heads=8), "Q4_K_M", "attn_v", "Q4_K", []),
        (header(layers=80), "Q5_K_M", "attn_v", "Q6_K", [*range(10), *range(12, 70, 3), *range(70, 80)]),
    ],
)
def test_which_layers_get_more(model: Header, target: str, part: str, wanted: str, layers: list[int]) -> None:
    assert layers_with(model, target, part, wanted) == layers


@pytest.mark.parametrize(
    ("model", "target", "part", "wanted"),
    [
        (header(), "Q2_K", "attn_v", {"Q3_K"}),
        (GROUPED, "Q2_K", "attn_v", {"Q4_K"}),
        (header(), "Q2_K", "attn_output", {"Q3_K"}),
        (header(), "Q2_K", "ffn_down", {"Q3_K"}),
        (header(architecture="falcon"), "Q2_K", "attn_output", {"Q2_K"}),
        (GROUPED, "Q2_K_S", "attn_v", {"Q4_K"}),
        (header(), "Q2_K_S", "attn_v", {"Q2_K"}),
        (header(), "Q3_K_S", "attn_v", {"Q3_K"}),
        (header(), "Q3_K_M", "attn_v", {"Q4_K", "Q5_K"}),
        (header(), "Q3_K_M", "attn_output", {"Q4_K"}),
        (header(), "Q3_K_L", "attn_v", {"Q5_K"}),
        (header(), "Q3_K_L", "ffn_down", {"Q5_K"}),
        (header(), "Q3_K_L", "attn_output", {"Q5_K"}),
        (header(architecture="falcon"), "Q3_K_L", "ffn_down", {"Q4_K"}),
        (header(architecture="falcon"), "Q3_K_L", "attn_output", {"Q4_K"}),
        (GROUPED, "IQ4_XS", "attn_v", {"Q5_K"}),
        (header(), "IQ4_XS", "attn_v", {"IQ4_XS"}),
        (header(), "IQ3_M", "attn_v", {"Q4_K"}),
        (header(), "IQ3_M", "attn_output", {"Q4_K"}),
        (GROUPED, "IQ3_S", "attn_v", {"Q4_K"}),
        (header(), "IQ3_XS", "attn_k", {"IQ3_XXS"}),
        (header(), "IQ3_XXS", "attn_q", {"IQ2_S"}),
        (header(), "IQ3_XXS", "attn_output", {"IQ3_S"}),
        (header(), "IQ3_XXS", "attn_v", {"IQ3_S"}),
        (header(), "IQ2_XXS", "attn_v", {"Q2_K"}),
        (GROUPED, "IQ2_XXS", "attn_v", {"Q4_K"}),
        (header(), "IQ2_S", "attn_v", {"IQ3_S"}),
        (header(), "IQ2_S", "attn_q", {"IQ2_XS"}),
        (header(), "IQ1_M", "attn_output", {"IQ2_XXS"}),
        (header(layers=80, kv_heads=8), "Q4_K_M", "attn_v", {"Q5_K", "Q6_K"}),
        (header(layers=80, kv_heads=8), "Q3_K_S", "attn_v", {"Q5_K"}),
        (header(layers=80), "Q3_K_S", "attn_v", {"Q3_K"}),  # 65B: every head has its own values
        (header(layers=80, architecture="qwen2"), "Q3_K_S", "attn_v", {"Q5_K"}),
        (header(layers=80, architecture="qwen3"), "Q3_K_S", "attn_v", {"Q3_K"}),
        (header(experts=8, layers=8), "Q4_K_M", "attn_v", {"Q8_0"}),
        (header(experts=8, layers=8), "Q4_K_M", "attn_k", {"Q8_0"}),
        (header(experts=8, layers=8), "Q4_K_M", "attn_output", {"Q5_K"}),
        (header(experts=8, layers=8), "Q5_K_M", "attn_output", {"Q5_K"}),
        (header(experts=8, layers=8), "Q3_K_L", "attn_output", {"Q3_K"}),
        (header(experts=16, layers=8), "Q3_K_L", "attn_output", {"Q5_K"}),
        (header(experts=8, layers=8), "IQ2_XS", "attn_k", {"Q4_K"}),
        (header(experts=8, layers=8), "IQ2_XS", "attn_output", {"Q5_K"}),
        (header(experts=4, layers=8), "IQ2_XS", "attn_v", {"Q4_K"}),
        (header(fused=True), "Q4_K_M", "attn_qkv", {"Q4_K", "Q6_K"}),
        (header(fused=True), "Q3_K_L", "attn_qkv", {"Q5_K"}),
        (header(experts=4, layers=4), "MXFP4_MOE", "ffn_up_exps", {"MXFP4"}),
        (header(experts=4, layers=4), "MXFP4_MOE", "attn_q", {"Q8_0"}),
        (header(experts=4, layers=4), "Q4_0", "ffn_gate_inp", {"F16"}),
    ],
)
def test_what_parts_become(model: Header, target: str, part: str, wanted: set[str]) -> None:
    assert kinds_in(model, target, part) == wanted


@pytest.mark.parametrize(
    ("target", "output", "embedding", "tied"),
    [
        ("Q4_0", "Q6_K", "Q4_0", "Q6_K"),
        ("Q8_0", "Q8_0", "Q8_0", "Q8_0"),
        ("Q5_K_S", "Q6_K", "Q5_K", "Q6_K"),
        ("IQ2_XS", "Q5_K", "Q2_K", "Q5_K"),
        ("IQ2_M", "Q5_K", "IQ3_S", "Q5_K"),
        ("IQ3_XXS", "Q5_K", "IQ3_S", "Q5_K"),
        ("IQ3_S", "Q6_K", "IQ3_S", "Q6_K"),
        ("TQ1_0", "Q6_K", "Q4_K", "Q6_K"),
        ("Q2_0", "Q6_K", "Q4_K", "Q6_K"),
        ("Q1_0", "Q6_K", "Q1_0", "Q6_K"),
        ("MXFP4_MOE", "Q8_0", "Q8_0", "Q8_0"),
        ("F32", "F32", "F32", "F32"),
    ],
)
def test_the_output_and_the_embeddings(target: str, output: str, embedding: str, tied: str) -> None:
    apart = types(header(), target)
    assert (apart["output.weight"], apart["token_embd.weight"]) == (output, embedding)
    assert types(header(tied=True), target)["token_embd.weight"] == tied
    assert types(header(architecture="falcon"), target)["output.weight"] == ("F32" if target == "F32" else "Q8_0")


@pytest.mark.parametrize(
    ("target", "at_896", "output"),
    [
        ("Q4_K_S", {"Q5_0", "Q5_1"}, "Q8_0"),
        ("Q5_K_S", {"Q5_1"}, "Q8_0"),
        ("Q6_K", {"Q8_0"}, "Q8_0"),
        ("Q3_K_S", {"Q4_0"}, "Q8_0"),
        ("IQ4_XS", {"IQ4_NL", "Q5_1"}, "Q8_0"),
        ("TQ2_0", {"Q4_0"}, "Q8_0"),
        ("Q4_0", {"Q4_0"}, "Q8_0"),
        ("Q1_0", {"Q1_0"}, "Q8_0"),
        ("Q2_0", {"Q2_0"}, "Q8_0"),
    ],
)
def test_rows_that_do_not_fit_get_smaller_blocks(target: str, at_896: set[str], output: str) -> None:
    """As in Qwen2-0.5B. The output would be Q6_K with 256 columns, and Q8_0 stands in for that."""
    model = header(width=896, ff=896, kv_heads=8 if target == "IQ4_XS" else 32)
    made = types(model, target)
    assert {name for part in ("attn_v", "attn_q", "ffn_up") for name in kinds_in(model, target, part)} == at_896
    assert made["output.weight"] == output


def test_rows_that_fit_no_block_stay_at_16_bits() -> None:
    assert kinds_in(header(width=40, ff=72), "Q4_K_M", "attn_q") == {"F16"}
    assert kinds_in(header(width=40, ff=72), "Q8_0", "ffn_down") == {"F16"}


def test_what_has_no_smaller_block_is_refused() -> None:
    with pytest.raises(Unsupported, match=r"rows of 96 weights, which Q1_0 cannot hold: it takes 128"):
        types(header(width=96), "Q1_0")


def test_the_order_is_by_layer_and_name() -> None:
    names = [tensor.name for tensor, _ in mixed(header(layers=11), TARGETS["Q4_0"])]
    assert names[:3] == ["output.weight", "output_norm.weight", "token_embd.weight"]
    assert names[3:6] == ["blk.0.attn_k.weight", "blk.0.attn_norm.weight", "blk.0.attn_output.weight"]
    assert [name.split(".")[1] for name in names[3::8]] == [str(layer) for layer in range(11)]


def test_in_a_mixture_of_experts_the_layer_is_in_the_name() -> None:
    """Each layer has two tensors of this kind here, which would be counted as two layers."""
    shared = tuple(tensor(f"blk.{layer}.ffn_down_shexp.weight", 512, 256) for layer in range(32))
    model = header(experts=16, more=shared)
    for part in ("ffn_down_exps", "ffn_down_shexp"):
        assert layers_with(model, "Q4_K_M", part, "Q6_K") == MORE_BITS_OF_32


@pytest.mark.parametrize("name", ["v.blk.0.ffn_down.weight", "blk.32.ffn_up.weight", "ffn_gate.weight"])
def test_experts_outside_of_all_layers_are_refused_as_by_llama_cpp(name: str) -> None:
    model = header(experts=4, more=(tensor(name, 256, 256),))
    with pytest.raises(Unsupported, match="is in none of the model's 32 layers"):
        types(model, "Q4_K_M")
    assert types(model, "F16")[name] == "F16"


@pytest.mark.parametrize(
    ("name", "shape", "kept"),
    [
        ("blk.0.attn_norm.weight", (256,), True),
        ("blk.0.attn_q_norm.weight", (128, 8), True),
        ("blk.0.attn_q.bias", (256, 2), True),
        ("blk.0.attn_sinks.weight", (64,), True),
        ("blk.0.attn_q.weight", (256, 1), True),  # one row is a vector to ggml
        ("blk.0.attn_q.weight", (256, 2), False),
        ("blk.0.ffn_gate_inp.weight", (256, 8), True),
        ("blk.0.ffn_gate_exps.weight", (256, 8, 8), False),
        ("position_embd.weight", (256, 512), True),
        ("token_types.weight", (256, 2), True),
        ("token_embd.weight", (256, 2), False),
        ("blk.0.ssm_conv1d.weight", (4, 256), True),
        ("blk.0.time_mix_w1.weight", (256, 64), True),
        ("v.patch_embd.weight", (16, 16, 3, 256), True),
        ("blk.0.altup_router.weight", (256, 4), True),
        ("enc.blk.0.attn_rel_b.weight", (64, 32), True),
        ("rope_freqs.weight", (64,), True),
    ],
)
def test_what_is_never_touched(name: str, shape: tuple[int, ...], *, kept: bool) -> None:
    assert is_kept(tensor(name, *shape), "llama") is kept


def test_an_architecture_may_keep_more() -> None:
    small = tensor("blk.0.attn_k_b.weight", 256, 256)
    assert is_kept(small, "glm5-next")
    assert not is_kept(small, "deepseek2")
    wide = tensor("blk.0.attn_q_a.weight", 256, 256)
    model = header(architecture="glm5-next", more=(wide,))
    assert (types(model, "Q2_K")[wide.name], types(model, "F16")[wide.name]) == ("Q8_0", "F16")


@pytest.mark.parametrize(
    ("model", "layers"),
    [
        (header(layers=4), 4),
        (header(layers=4, architecture="nanbeige", num_loops=3), 12),
        (header(layers=4, architecture="graniteswitch"), 5),
    ],
)
def test_layers_are_counted_as_llama_cpp_does(model: Header, layers: int) -> None:
    assert facts(model).layers == layers


def test_a_model_without_attention_has_no_groups() -> None:
    assert facts(header(architecture="mamba", heads=0, kv_heads=0)).group == 0


@given(
    layers=st.integers(1, 96),
    target=st.sampled_from(sorted(set(TARGETS) - {"Q1_0"})),
    width=st.sampled_from([40, 64, 96, 256, 896, 1024]),
    kv_heads=st.sampled_from([1, 4, 8, 32]),
    experts=st.sampled_from([0, 4, 8, 60]),
    architecture=st.sampled_from(["llama", "qwen2", "falcon", "gemma3", "glm5-next"]),
    tied=st.booleans(),
    fused=st.booleans(),
)
def test_every_tensor_has_one_type_that_its_rows_fit(
    layers: int, target: str, width: int, kv_heads: int, experts: int, architecture: str, tied: bool, fused: bool
) -> None:
    model = header(
        layers=layers, width=width, ff=2 * width, kv_heads=kv_heads, experts=experts, architecture=architecture,
        tied=tied, fused=fused,
    )  # fmt: skip
    made = mixed(model, TARGETS[target])
    assert sorted(one.name for one, _ in made) == sorted(one.name for one in model.tensors)
    for one, name in made:
        assert one.shape[0] % weight_type(name).block == 0
        if is_kept(one, architecture):
            assert name == one.type.name
        elif not is_quantized(weight_type(TARGETS[target].main)):
            assert name == target
    assert made == mixed(model, TARGETS[target])


@given(layers=st.integers(1, 96), kv_heads=st.sampled_from([1, 8, 32]), experts=st.sampled_from([0, 8, 16]))
def test_a_larger_mixture_is_larger(layers: int, kv_heads: int, experts: int) -> None:
    model = header(layers=layers, kv_heads=kv_heads, experts=experts)

    def bits(target: str) -> int:
        made = mixed(model, TARGETS[target])
        return sum(one.count * weight_type(name).size * 8 // weight_type(name).block for one, name in made)

    for family in (["Q3_K_S", "Q3_K_M", "Q3_K_L"], ["Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K", "Q8_0", "F16"]):
        sizes = [bits(target) for target in family]
        assert sizes == sorted(sizes)


def test_kinds_are_told_by_names() -> None:
    assert [kind_of(f"blk.3.{part}.weight") for part in ("attn_qkv", "attn_kv_b", "attn_v", "attn_v_b")] == [
        "values", "values", "values", "other",
    ]  # fmt: skip
    assert kind_of("blk.3.ffn_gate_up_exps.weight") == "gate"
    assert kind_of("v.output.weight") == "other"
