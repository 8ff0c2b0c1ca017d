from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader
from gguf.constants import GGMLQuantizationType
from gguf.quants import quantize
from tests.weight_folders import FEED, HEADS, WIDTH, bf16, drawn, llama_tensors, write_folder

from localmodels.artifacts.convert.families.llama import halves_to_pairs
from localmodels.artifacts.convert.folder import Folder
from localmodels.artifacts.convert.plan import Plan, plan, safe_title
from localmodels.artifacts.convert.vocab import Vocabulary
from localmodels.artifacts.convert.work import Work
from localmodels.artifacts.gguf import read_header
from localmodels.artifacts.quantize import TARGETS
from localmodels.artifacts.quantize.ggml import Ggml, find_library
from localmodels.core.errors import ModelDamaged, Unsupported

QUERY, DOWN = "model.layers.0.self_attn.q_proj.weight", "model.layers.0.mlp.down_proj.weight"


@pytest.fixture(scope="module")
def ggml() -> Ggml:
    return Ggml(find_library())


def written(folder: Folder, made: Plan, ggml: Ggml, path: Path) -> GGUFReader:
    path.write_bytes(b"".join(bytes(piece) for piece in Work(folder, made, ggml, 2).pieces()))
    assert path.stat().st_size == made.size
    return GGUFReader(path)


def data(reader: GGUFReader, name: str) -> np.ndarray:
    return next(tensor.data for tensor in reader.tensors if tensor.name == name)


def test_the_file_is_what_the_plan_says(tmp_path: Path, ggml: Ggml) -> None:
    folder = Folder.of(write_folder(tmp_path / "tiny"))
    made = plan(folder)
    assert made.target.name == "F32"
    written(folder, made, ggml, tmp_path / "m.gguf")
    header = read_header(tmp_path / "m.gguf")
    assert header.architecture == made.header.architecture == "llama"
    assert header.quantization_level == "F32"
    assert header.metadata["general.name"] == "tiny"
    assert [tensor.name for tensor in header.tensors] == [tensor.name for tensor in made.header.tensors]
    assert header.parameter_count == sum(weights.size for weights in llama_tensors().values())


def test_weights_are_moved_and_not_changed(tmp_path: Path, ggml: Ggml) -> None:
    folder = Folder.of(write_folder(tmp_path / "tiny"))
    reader = written(folder, plan(folder), ggml, tmp_path / "m.gguf")
    tensors = llama_tensors()
    assert np.array_equal(data(reader, "blk.0.ffn_down.weight"), tensors[DOWN])
    assert np.array_equal(data(reader, "blk.0.attn_q.weight"), halves_to_pairs(HEADS)(tensors[QUERY]))


@pytest.mark.parametrize("target", ["F16", "BF16", "Q8_0", "Q4_0", "Q5_0", "Q5_1"])
@pytest.mark.parametrize("stored", ["F32", "F16", "BF16"])
def test_every_type_is_made_of_every_other_as_the_reference_does(
    tmp_path: Path, ggml: Ggml, stored: str, target: str
) -> None:
    change = {"F32": lambda weights: weights, "F16": lambda weights: weights.astype("f2"), "BF16": bf16}[stored]
    tensors = {name: change(weights) for name, weights in llama_tensors().items()}
    folder = Folder.of(write_folder(tmp_path / "tiny", tensors=tensors))
    reader = written(folder, plan(folder, TARGETS[target]), ggml, tmp_path / "m.gguf")
    floats = folder.floats(DOWN)
    due = quantize(floats, GGMLQuantizationType[target])
    assert np.array_equal(data(reader, "blk.0.ffn_down.weight").view(np.uint8), due.view(np.uint8))
    assert np.array_equal(data(reader, "output_norm.weight"), folder.floats("model.norm.weight"))


def test_rows_that_do_not_fit_a_type_get_one_that_does(tmp_path: Path) -> None:
    made = plan(Folder.of(write_folder(tmp_path)), TARGETS["Q4_K_M"])
    types = {tensor.made.name: tensor.type.name for tensor in made.tensors}
    assert types["blk.0.ffn_gate.weight"] == "Q5_0"  # rows of 64 weights are no blocks of 256
    assert types["token_embd.weight"] == "Q8_0"
    assert types["blk.0.attn_norm.weight"] == "F32"
    assert made.header.quantization_level == "Q4_K_M"


def test_a_type_that_would_be_noise_is_refused(tmp_path: Path) -> None:
    tensors = llama_tensors()
    with pytest.raises(Unsupported, match="importance matrix"):
        plan(Folder.of(write_folder(tmp_path, tensors=wide(tensors), intermediate_size=256)), TARGETS["IQ2_XXS"])


def wide(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    mlp = {f"model.layers.0.mlp.{name}_proj.weight": drawn(256, WIDTH) for name in ("gate", "up")}
    return tensors | mlp | {DOWN: drawn(WIDTH, 256)}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("target", ["F32", "Q8_0"])
def test_weights_that_are_no_numbers_are_refused_by_the_tensors_name(
    tmp_path: Path, ggml: Ggml, bad: float, target: str
) -> None:
    tensors = llama_tensors()
    tensors[DOWN][3, 5] = bad
    folder = Folder.of(write_folder(tmp_path, tensors=tensors))
    with pytest.raises(ModelDamaged, match=r"'model\.layers\.0\.mlp\.down_proj\.weight' has weights that are infinite"):
        list(Work(folder, plan(folder, TARGETS[target]), ggml, 2).pieces())


def test_weights_too_large_for_their_type_are_refused(tmp_path: Path, ggml: Ggml) -> None:
    tensors = llama_tensors()
    tensors[DOWN][3, 5] = 1e6
    folder = Folder.of(write_folder(tmp_path, tensors=tensors))
    with pytest.raises(ModelDamaged, match="too large for F16"):
        list(Work(folder, plan(folder, TARGETS["F16"]), ggml, 2).pieces())


def test_a_folder_without_configuration_is_refused(tmp_path: Path) -> None:
    (write_folder(tmp_path) / "config.json").unlink()
    with pytest.raises(ModelDamaged, match=r"config\.json is missing"):
        plan(Folder.of(tmp_path))


def vocabulary(model: str, *tokens: str) -> Vocabulary:
    return Vocabulary(model, "default", tokens, np.ones(len(tokens), np.int32))


def test_a_model_is_taken_for_a_phi_3_only_if_it_is_one() -> None:
    phi3 = vocabulary("llama", "</s>", "<unk>", "<s>", "<|endoftext|>", "<|assistant|>")
    other = vocabulary("gpt2", "</s>")
    assert safe_title("my Phi-3 tune", phi3) == "my Phi-3 tune"
    assert safe_title("support", phi3) == "support (Phi-3)"
    assert safe_title("support", other) == "support"
    assert "phi3" not in safe_title("phi3-like", other)
    assert "Phi-3" not in safe_title("Phi-3-like", other)


def test_sizes_are_those_of_the_configuration(tmp_path: Path) -> None:
    made = plan(Folder.of(write_folder(tmp_path)))
    assert made.header.number("feed_forward_length") == FEED
    assert made.header.embedding_length == WIDTH
