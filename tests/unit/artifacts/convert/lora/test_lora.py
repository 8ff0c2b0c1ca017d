"""Adapters of PEFT become adapters of llama.cpp or part of their base. PEFT itself is the judge in tests/fidelity."""

from __future__ import annotations

import json
import math
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from localmodels.artifacts.convert.config import Config
from localmodels.artifacts.convert.families import FAMILIES
from localmodels.artifacts.convert.folder import Folder
from localmodels.artifacts.convert.lora import (
    Merged,
    adapter_file,
    read_adapter,
    rules_of_header,
    rules_of_model,
    without_base,
)
from localmodels.artifacts.convert.lora.merge import merged, merged_embedding
from localmodels.artifacts.convert.lora.patterns import fits, matching
from localmodels.artifacts.gguf import read_header
from localmodels.artifacts.gguf_header import WEIGHT_TYPES, Header, TensorInfo
from localmodels.core.errors import ModelDamaged, Unsupported

Floats = npt.NDArray[np.float32]

WIDTH, FEED, ROWS, HEADS, KV, HEAD = 8, 12, 10, 4, 2, 2
RANK = 3
Q = "model.layers.0.self_attn.q_proj"
ATTENTION = {
    "q_proj": (HEADS * HEAD, WIDTH),
    "k_proj": (KV * HEAD, WIDTH),
    "v_proj": (KV * HEAD, WIDTH),
    "o_proj": (WIDTH, HEADS * HEAD),
}
MLP = {"gate_proj": (FEED, WIDTH), "up_proj": (FEED, WIDTH), "down_proj": (WIDTH, FEED)}
SHAPES: Mapping[str, tuple[int, ...]] = {
    "model.embed_tokens.weight": (ROWS, WIDTH),
    "model.norm.weight": (WIDTH,),
    "lm_head.weight": (ROWS, WIDTH),
    "model.layers.0.input_layernorm.weight": (WIDTH,),
    "model.layers.0.post_attention_layernorm.weight": (WIDTH,),
    **{f"model.layers.0.self_attn.{name}.weight": shape for name, shape in ATTENTION.items()},
    **{f"model.layers.0.mlp.{name}.weight": shape for name, shape in MLP.items()},
}
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "hidden_act": "silu", "hidden_size": WIDTH, "intermediate_size": FEED,
    "num_hidden_layers": 1, "num_attention_heads": HEADS, "num_key_value_heads": KV, "vocab_size": ROWS,
    "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "tie_word_embeddings": False,
}  # fmt: skip


def draw(seed: int, *shape: int) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def write_safetensors(path: Path, tensors: Mapping[str, Floats]) -> None:
    head, at = {}, 0
    for name, weights in tensors.items():
        head[name] = {"dtype": "F32", "shape": list(weights.shape), "data_offsets": [at, at + weights.nbytes]}
        at += weights.nbytes
    raw = json.dumps(head).encode()
    raw += b" " * (-len(raw) % 8)
    body = b"".join(np.ascontiguousarray(weights).tobytes() for weights in tensors.values())
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + body)


def base_folder(place: Path, *, tied: bool = False) -> Folder:
    place.mkdir(exist_ok=True)
    shapes = {name: shape for name, shape in SHAPES.items() if not (tied and name == "lm_head.weight")}
    write_safetensors(
        place / "model.safetensors", {name: draw(i, *shape) for i, (name, shape) in enumerate(shapes.items())}
    )
    (place / "config.json").write_text(json.dumps({**CONFIG, "tie_word_embeddings": tied}))
    return Folder.of(place)


def low(module: str, shape: tuple[int, int], rank: int = RANK, seed: int = 40) -> dict[str, Floats]:
    whole = f"base_model.model.{module}"
    return {
        f"{whole}.lora_A.weight": draw(seed, rank, shape[1]),
        f"{whole}.lora_B.weight": draw(seed + 1, shape[0], rank),
    }


def adapter_folder(place: Path, tensors: Mapping[str, Floats], **config: Any) -> Folder:
    place.mkdir(exist_ok=True)
    write_safetensors(place / "adapter_model.safetensors", tensors)
    said = {"peft_type": "LORA", "r": RANK, "lora_alpha": 6, "bias": "none", **config}
    (place / "adapter_config.json").write_text(json.dumps(said))
    return Folder.of(place)


def family(folder: Folder) -> Any:
    return FAMILIES["LlamaForCausalLM"](
        Config(CONFIG | {"tie_word_embeddings": not folder.tensors().get("lm_head.weight")}), folder
    )


# Patterns


@pytest.mark.parametrize(
    ("pattern", "name", "does"),
    [
        ("q_proj", Q, True),
        ("_proj", Q, False),
        ("self_attn.q_proj", Q, True),
        ("self_attn", Q, False),
        ("^model.layers.0.self_attn.q_proj", Q, True),
        ("^layers.0.self_attn.q_proj", Q, False),
        (r"model\.layers\.\d+\..*q_proj$", Q, True),
        (r"layers\.[0-9]+\.mlp\..+", "model.layers.31.mlp.up_proj", True),
        (r"layers\.[0-9]+\.mlp\..+", "model.layers.x.mlp.up_proj", False),
        (".*", "", True),
        (".+", "", False),
        ("a*b", "aaab", True),
        ("a*b", "b", True),
        ("a+b", "b", False),
    ],
)
def test_a_pattern_fits_the_name_or_its_end(pattern: str, name: str, *, does: bool) -> None:
    assert fits(pattern, name) is does


def test_the_first_pattern_that_fits_counts() -> None:
    assert matching(["k_proj", "q_proj", Q], Q) == "q_proj"
    assert matching(["k_proj"], Q) is None


@pytest.mark.parametrize("pattern", ["(a+)+$", "a|b", "a{3}", "[a-z]+", "", "x" * 300, "*", r"\w+"])
def test_a_pattern_that_says_more_is_refused(pattern: str) -> None:
    with pytest.raises(Unsupported, match="pattern"):
        fits(pattern, Q)


def test_no_pattern_takes_long() -> None:
    began = time.perf_counter()
    assert not fits(".*" * 100 + "z", "a." * 128)
    assert time.perf_counter() - began < 2


# Reading


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"peft_type": "IA3"}, "'IA3'"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"init_lora_weights": "pissa_niter_4"}, "pissa_niter_4"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
        ({"target_parameters": ["mlp.experts.gate_up_proj"]}, "target_parameters"),
        ({"layer_replication": [[0, 1]]}, "layer_replication"),
        ({"alora_invocation_tokens": [1]}, "alora_invocation_tokens"),
        ({"use_something_new": True}, "use_something_new"),
        ({"alpha_pattern": {"(a|b)": 3}}, "pattern"),
    ],
)
def test_what_is_not_converted_is_refused_by_its_field(tmp_path: Path, config: Any, words: str) -> None:
    with pytest.raises(Unsupported, match=words):
        read_adapter(adapter_folder(tmp_path, low(Q, (8, 8)), **config))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"r": 0}, r"\$\.r"),
        ({"r": "8"}, r"\$\.r"),
        ({"r": 4}, "must have the rank 4"),
        ({"rank_pattern": {"q_proj": 5}}, "must have the rank 5"),
        ({"lora_alpha": 0}, "lora_alpha"),
        ({"alpha_pattern": {"q_proj": 1e300}}, "q_proj"),
        ({"bias": "some"}, "bias"),
    ],
)
def test_what_is_not_sound_is_refused_by_its_field(tmp_path: Path, config: Any, words: str) -> None:
    with pytest.raises(ModelDamaged, match=words):
        read_adapter(adapter_folder(tmp_path, low(Q, (8, 8)), **config))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("base_model.model.model.norm.weight", "nothing in adapter_config.json"),
        (f"base_model.model.{Q}.lora_A.default.weight", "lora_A.default"),
        ("model.norm.weight", "begins otherwise"),
        ("base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta", "token_adapter"),
    ],
)
def test_a_tensor_that_nobody_knows_is_refused_by_name(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(Unsupported, match=words):
        read_adapter(adapter_folder(tmp_path, {**low(Q, (8, 8)), name: draw(1, 8)}))


def test_half_a_change_is_refused(tmp_path: Path) -> None:
    tensors = low(Q, (8, 8))
    tensors.popitem()
    with pytest.raises(ModelDamaged, match="one A and one B"):
        read_adapter(adapter_folder(tmp_path, tensors))


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({}, 2.0),
        ({"use_rslora": True}, 6 / math.sqrt(3)),
        ({"alpha_pattern": {"q_proj": 9}}, 3.0),
        ({"r": 2, "rank_pattern": {"layers.0.self_attn.q_proj": 3}}, 2.0),
    ],
)
def test_the_scale_is_the_modules_own(tmp_path: Path, config: Any, scale: float) -> None:
    (found,) = read_adapter(adapter_folder(tmp_path, low(Q, (8, 8)), **config)).lows
    assert found.scale == pytest.approx(scale, rel=1e-15)


# Merging


def test_merging_adds_the_product_and_brings_rows_to_their_length() -> None:
    base, a, b, lengths = draw(1, 6, 4), draw(2, 2, 4), draw(3, 6, 2), np.abs(draw(4, 6))
    plain = base.astype(np.float64) + 0.5 * b.astype(np.float64) @ a
    np.testing.assert_allclose(merged(base, a, b, 0.5), plain, rtol=1e-5, atol=1e-6)
    stretched = plain * (lengths / np.linalg.norm(plain, axis=1))[:, None]
    np.testing.assert_allclose(merged(base, a, b, 0.5, lengths), stretched, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(merged_embedding(base.T, a, b, 0.5), plain.T, rtol=1e-5, atol=1e-6)


def test_a_merged_folder_has_the_tensors_of_both(tmp_path: Path) -> None:
    base = base_folder(tmp_path / "base")
    head = draw(77, ROWS, WIDTH)
    tensors = {**low(Q, (8, 8)), "base_model.model.lm_head.weight": head}
    adapter = adapter_folder(tmp_path / "adapter", tensors, modules_to_save=["lm_head"])
    both = Merged(base, adapter)
    a, b = (tensors[f"base_model.model.{Q}.lora_{half}.weight"] for half in "AB")
    np.testing.assert_array_equal(both.floats("lm_head.weight"), head)
    np.testing.assert_allclose(both.tensor(f"{Q}.weight"), base.floats(f"{Q}.weight") + 2.0 * (b @ a), rtol=1e-5)
    np.testing.assert_array_equal(both.floats("model.norm.weight"), base.floats("model.norm.weight"))
    assert both.tensors().keys() == base.tensors().keys()


@pytest.mark.parametrize(
    ("tensors", "config", "words"),
    [
        (low(Q, (8, 9)), {}, "made for another model"),
        (low("model.layers.7.self_attn.q_proj", (8, 8)), {}, "none of this name"),
        ({"base_model.model.lm_head.weight": draw(1, ROWS, 3)}, {"modules_to_save": ["lm_head"]}, "another model"),
    ],
)
def test_an_adapter_of_another_model_is_refused(tmp_path: Path, tensors: Any, config: Any, words: str) -> None:
    base = base_folder(tmp_path / "base")
    with pytest.raises((ModelDamaged, Unsupported), match=words):
        Merged(base, adapter_folder(tmp_path / "adapter", tensors, **config))


def embedding() -> dict[str, Floats]:
    whole = "base_model.model.model.embed_tokens"
    return {f"{whole}.lora_embedding_A": draw(5, RANK, ROWS), f"{whole}.lora_embedding_B": draw(6, WIDTH, RANK)}


def test_embeddings_that_are_the_output_too_are_refused_either_way(tmp_path: Path) -> None:
    base = base_folder(tmp_path / "base", tied=True)
    adapter = adapter_folder(tmp_path / "adapter", embedding())
    with pytest.raises(Unsupported, match="output matrix"):
        Merged(base, adapter)
    with pytest.raises(Unsupported, match="output matrix"):
        adapter_file(read_adapter(adapter), rules_of_model(family(base)), "llama")


# The file


def computed(path: Path, header: Header, name: str, alpha: float) -> Floats:
    """What llama.cpp adds to a matrix: the alpha of the file, the rank of its halves."""
    halves = {tensor.name: tensor for tensor in header.tensors}
    a, b = (
        np.fromfile(path, np.float32, tensor.count, offset=tensor.offset).reshape(tensor.shape[::-1])
        for tensor in (halves[f"{name}.lora_a"], halves[f"{name}.lora_b"])
    )
    return np.asarray(np.float32(alpha / b.shape[1]) * (b @ a), np.float32)


@pytest.mark.parametrize(
    "config", [{}, {"use_rslora": True}, {"alpha_pattern": {"q_proj": 1}, "r": 2, "rank_pattern": {"q_proj": 3}}]
)
def test_whatever_the_scale_llama_cpp_computes_it(tmp_path: Path, config: Any) -> None:
    base, tensors = base_folder(tmp_path / "base"), low(Q, (8, 8))
    folder = adapter_folder(tmp_path / "adapter", tensors, **config)
    adapter = read_adapter(folder)
    rules = rules_of_model(family(base))
    made = adapter_file(adapter, rules, "llama")
    path = tmp_path / "adapter.gguf"
    path.write_bytes(b"".join(made.pieces(folder)))
    header = read_header(path)
    assert path.stat().st_size == made.size
    assert header.is_adapter
    a, b = (tensors[f"base_model.model.{Q}.lora_{half}.weight"] for half in "AB")
    # Rows in pairs instead of halves, head by head: 0 2 1 3 would be those of a head of 4; here they are of 2.
    order = np.concatenate([[2 * head, 2 * head + 1] for head in range(HEADS)])
    due = (adapter.lows[0].scale * (b @ a))[order]
    np.testing.assert_allclose(computed(path, header, "blk.0.attn_q.weight", 6.0), due, rtol=1e-5, atol=1e-6)


def test_a_plain_adapter_keeps_its_bits(tmp_path: Path) -> None:
    base, tensors = base_folder(tmp_path / "base"), low("model.layers.0.mlp.up_proj", MLP["up_proj"])
    folder = adapter_folder(tmp_path / "adapter", tensors)
    made = adapter_file(read_adapter(folder), rules_of_model(family(base)), "llama")
    raw = b"".join(made.pieces(folder))
    assert all(weights.tobytes() in raw for weights in tensors.values())


def test_what_must_be_merged_is_said_so(tmp_path: Path) -> None:
    whole = f"base_model.model.{Q}.lora_magnitude_vector"
    adapter = read_adapter(adapter_folder(tmp_path, {**low(Q, (8, 8)), whole: draw(3, 8)}, use_dora=True))
    assert "DoRA" in adapter.needs_merging()
    with pytest.raises(Unsupported, match=r"must be merged.*DoRA"):
        adapter_file(adapter, {}, "llama")


def test_embeddings_that_were_saved_unchanged_do_not_count(tmp_path: Path) -> None:
    base = base_folder(tmp_path / "base")
    saved = {"base_model.model.model.embed_tokens.base_layer.weight": base.floats("model.embed_tokens.weight")}
    folder = adapter_folder(tmp_path / "adapter", {**embedding(), **saved})
    adapter = read_adapter(folder)
    assert adapter.needs_merging()
    assert not without_base(adapter, folder, base).needs_merging()
    made = adapter_file(without_base(adapter, folder, base), rules_of_model(family(base)), "llama")
    assert [half.shape for half in made.halves] == [(ROWS, RANK), (WIDTH, RANK)]


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    tensors = low(Q, (8, 8))
    tensors[f"base_model.model.{Q}.lora_A.weight"][0, 0] = np.nan
    folder = adapter_folder(tmp_path / "adapter", tensors)
    made = adapter_file(read_adapter(folder), rules_of_model(family(base_folder(tmp_path / "base"))), "llama")
    with pytest.raises(ModelDamaged, match="not a number"):
        list(made.pieces(folder))


def test_a_header_gives_the_same_rules_as_the_folder(tmp_path: Path) -> None:
    model = family(base_folder(tmp_path / "base"))
    tensors = tuple(
        TensorInfo(made.name, WEIGHT_TYPES[0], made.shape[::-1], 0, 4 * made.count) for made in model.tensors
    )
    metadata = {"general.architecture": "llama", **dict(model.pairs)}
    ours, theirs = rules_of_header(Header("m", 3, metadata, tensors, 32, 0, 0)), rules_of_model(model)
    assert ours.keys() == {name for name in theirs if "norm" not in name}
    for name, rule in ours.items():
        other = theirs[name]
        assert (rule.name, rule.rows, rule.columns) == (other.name, other.rows, other.columns)
        np.testing.assert_array_equal(np.arange(rule.rows) if rule.order is None else rule.order,
                                      np.arange(rule.rows) if other.order is None else other.order)  # fmt: skip
