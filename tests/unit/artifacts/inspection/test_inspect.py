from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.hostile_folders.bases import (
    ADAPTER,
    LAYER,
    adapter_tensors,
    write_bert,
    write_llama,
    write_pieces,
    write_sharded,
    write_xlm,
)
from tests.hostile_folders.corpus import CORPUS
from tests.hostile_folders.disguises import canary
from tests.unit.store.ollama_store import write_adapter, write_gguf, write_projector
from tests.weight_folders import bf16, drawn, llama_tensors, safetensors, write_folder

from localmodels.artifacts.convert.folder import Folder
from localmodels.artifacts.inspection.inspect import inspect
from localmodels.artifacts.inspection.job import Findings
from localmodels.core.errors import InvalidRequest, LocalModelsError, ModelDamaged, Unsupported

WEIGHTS = sum(weights.size for weights in llama_tensors().values())


def looked(place: Path) -> Findings:
    files = {path.relative_to(place).as_posix(): path for path in place.rglob("*") if path.is_file()}
    return inspect(Folder(files), files)


def write_peft(place: Path, **fields: Any) -> None:
    """The folder of an adapter."""
    place.mkdir()
    (place / "adapter_config.json").write_text(json.dumps({**ADAPTER, **fields}))
    (place / "adapter_model.safetensors").write_bytes(safetensors(adapter_tensors()))


# Models


def test_a_whole_model(tmp_path: Path) -> None:
    write_llama(tmp_path / "it")
    assert looked(tmp_path / "it") == Findings(
        "model", "LlamaForCausalLM", dtype="F32", parameters=WEIGHTS, context=512, tokenizer="bpe"
    )


@pytest.mark.parametrize(
    ("write", "tokenizer", "architecture"),
    [
        (write_bert, "wordpiece", "BertModel"),
        (write_xlm, "unigram", "XLMRobertaModel"),
        (write_pieces, "sentencepiece", "LlamaForCausalLM"),
        (write_sharded, "bpe", "LlamaForCausalLM"),
    ],
)
def test_models_of_every_tokenizer(
    tmp_path: Path, write: Callable[[Path], None], tokenizer: str, architecture: str
) -> None:
    write(tmp_path / "it")
    found = looked(tmp_path / "it")
    assert (found.kind, found.tokenizer, found.architecture, found.notes) == ("model", tokenizer, architecture, ())


def test_its_type_is_that_of_most_weights(tmp_path: Path) -> None:
    tensors = {name: bf16(weights) if weights.ndim > 1 else weights for name, weights in llama_tensors().items()}
    write_folder(tmp_path / "it", tensors=tensors)
    assert looked(tmp_path / "it").dtype == "BF16"


def test_a_model_that_sees_says_its_context_one_level_deeper(tmp_path: Path) -> None:
    write_folder(tmp_path / "it", text_config={"max_position_embeddings": 77}, max_position_embeddings=...)
    assert looked(tmp_path / "it").context == 77


def test_an_unknown_class_is_noted_and_not_refused(tmp_path: Path) -> None:
    write_folder(tmp_path / "it", architectures=["SomethingNewForCausalLM"])
    found = looked(tmp_path / "it")
    assert found.architecture == "SomethingNewForCausalLM"
    assert "'SomethingNewForCausalLM' cannot be converted; known are" in found.notes[0]


@pytest.mark.parametrize("classes", [[], [1], "Llama", None])
def test_so_is_none_at_all(tmp_path: Path, classes: object) -> None:
    write_folder(tmp_path / "it", architectures=classes)
    found = looked(tmp_path / "it")
    assert found.architecture == ""
    assert "architectures must name the model's class" in found.notes[0]


def test_a_missing_tokenizer_is_noted(tmp_path: Path) -> None:
    write_folder(tmp_path / "it")
    (tmp_path / "it" / "tokenizer.json").unlink()
    found = looked(tmp_path / "it")
    assert found.tokenizer == ""
    assert "neither tokenizer.json nor tokenizer.model" in found.notes[0]


def test_gguf_beside_safetensors_is_noted(tmp_path: Path) -> None:
    write_folder(tmp_path / "it")
    write_gguf(tmp_path / "it" / "it.gguf")
    assert looked(tmp_path / "it").notes == ("it.gguf: passed over, the safetensors are the model",)


def test_a_model_without_a_configuration_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path / "it")
    (tmp_path / "it" / "config.json").unlink()
    with pytest.raises(InvalidRequest, match=r"config\.json is missing"):
        looked(tmp_path / "it")


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    write_sharded(tmp_path / "it")
    (tmp_path / "it" / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ModelDamaged, match=r"of the 2 files .* missing: model-00002-of-00002\.safetensors"):
        looked(tmp_path / "it")


def test_a_pickle_alone_is_refused_with_what_would_be_right(tmp_path: Path) -> None:
    write_folder(tmp_path / "it")
    (tmp_path / "it" / "model.safetensors").rename(tmp_path / "it" / "pytorch_model.bin")
    with pytest.raises(Unsupported, match=r"pytorch_model\.bin: pickles run a program.*safetensors"):
        looked(tmp_path / "it")


def test_a_folder_of_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "it").mkdir()
    (tmp_path / "it" / "README.md").write_text("hello")
    with pytest.raises(Unsupported, match="no safetensors in the folder"):
        looked(tmp_path / "it")


def test_safetensors_in_folders_alone_are_no_model(tmp_path: Path) -> None:
    write_folder(tmp_path / "it" / "sub")
    with pytest.raises(Unsupported):
        looked(tmp_path / "it")


# Adapters


def test_an_adapter(tmp_path: Path) -> None:
    write_peft(tmp_path / "it")
    assert looked(tmp_path / "it") == Findings("adapter", dtype="F32", parameters=512, base="someone/tiny")


def test_an_adapter_that_must_be_merged_says_so(tmp_path: Path) -> None:
    write_peft(tmp_path / "it", use_dora=True)
    tensors = {**adapter_tensors(), f"{LAYER}.lora_magnitude_vector": drawn(64)}
    (tmp_path / "it" / "adapter_model.safetensors").write_bytes(safetensors(tensors))
    assert "can only be merged" in looked(tmp_path / "it").notes[0]


def test_an_adapter_of_another_kind_is_noted(tmp_path: Path) -> None:
    write_peft(tmp_path / "it", peft_type="IA3")
    assert "of adapters, LoRA is converted" in looked(tmp_path / "it").notes[0]


@pytest.mark.parametrize("missing", ["adapter_config.json", "adapter_model.safetensors"])
def test_half_an_adapter_is_refused(tmp_path: Path, missing: str) -> None:
    write_peft(tmp_path / "it")
    (tmp_path / "it" / missing).unlink()
    with pytest.raises(InvalidRequest, match=f"{missing} is missing"):
        looked(tmp_path / "it")


def test_an_adapter_may_have_its_bases_configuration_beside_it(tmp_path: Path) -> None:
    write_peft(tmp_path / "it")
    (tmp_path / "it" / "config.json").write_text("{}")
    assert looked(tmp_path / "it").kind == "adapter"


def test_a_model_and_an_adapter_are_refused(tmp_path: Path) -> None:
    write_peft(tmp_path / "it")
    write_folder(tmp_path / "it")
    with pytest.raises(InvalidRequest, match="upload them one by one"):
        looked(tmp_path / "it")


# GGUF


def test_a_gguf_file(tmp_path: Path) -> None:
    write_gguf(tmp_path / "it.gguf")
    found = looked(tmp_path)
    assert (found.kind, found.architecture, found.dtype, found.parameters) == ("gguf", "llama", "F32", 24)
    assert found.context == 4096


def test_one_in_parts_with_its_projector(tmp_path: Path) -> None:
    for number in range(2):
        write_gguf(tmp_path / f"it-0000{number + 1}-of-00002.gguf", split=(number, 2))
    write_projector(tmp_path / "mmproj.gguf")
    found = looked(tmp_path)
    assert (found.kind, found.parameters, found.architecture) == ("gguf", 48, "llama")
    assert found.notes == ("mmproj.gguf is the model's projector",)
    (tmp_path / "it-00002-of-00002.gguf").unlink()
    with pytest.raises(ModelDamaged, match=r"it-00002-of-00002\.gguf: this part of the model is missing"):
        looked(tmp_path)


def test_an_adapter_as_gguf_says_that_it_is_one(tmp_path: Path) -> None:
    write_adapter(tmp_path / "it.gguf")
    assert "LoRA adapter as GGUF" in looked(tmp_path).notes[0]


def test_several_models_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_gguf(tmp_path / f"{name}.gguf")
    with pytest.raises(InvalidRequest, match=r"2 GGUF files that do not belong together \(a\.gguf, b\.gguf\)"):
        looked(tmp_path)
    (tmp_path / "b.gguf").write_bytes(b"GGUF and no more")
    with pytest.raises(ModelDamaged):
        looked(tmp_path)


# Strangers


def test_whatever_somebody_sends_is_told_in_our_words(tmp_path: Path) -> None:
    told: dict[str, str] = {}
    for name in sorted(CORPUS)[::25]:  # all 3,268 take half a minute
        hostile = CORPUS[name]
        place = tmp_path / "it"
        hostile.write(place)
        try:
            told[name] = looked(place).kind
        except LocalModelsError as error:
            told[name] = type(error).__name__
        assert not canary(place).exists(), name
        shutil.rmtree(place)
    assert len(told) > 100
    assert set(told.values()) <= {"model", "adapter", "gguf", "InvalidRequest", "ModelDamaged", "Unsupported"}
