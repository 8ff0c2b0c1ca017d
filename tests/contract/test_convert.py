"""A folder becomes a file in a confined child that the engine loads; what must not come through does not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.contract.test_quantize import LOAD_AND_ANSWER
from tests.hostile_folders.bases import ADAPTER, adapter_tensors, write_adapted
from tests.hostile_folders.kinds import files_of
from tests.weight_folders import drawn, llama_tensors, safetensors, write_folder

from localmodels.artifacts.convert import Converter, Job
from localmodels.artifacts.convert.words import LONGEST_LICENSE
from localmodels.artifacts.gguf import read_header
from localmodels.artifacts.lora import misfit
from localmodels.core.errors import EngineError, InvalidRequest, ModelDamaged, Unsupported

MODULES = ("localmodels.artifacts.convert", "localmodels.engine.converter")


def job(place: Path, target: str = "", **fields: object) -> Job:
    files = {path.relative_to(place).as_posix(): str(path) for path in place.rglob("*") if path.is_file()}
    return Job(files, target, "tiny", threads=2, **fields)  # type: ignore[arg-type]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "model")


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("target", ["", "BF16", "Q8_0", "Q4_K_M"])
def test_what_comes_out_is_a_model_that_answers(tmp_path: Path, place: Path, module: str, target: str) -> None:
    path = tmp_path / "m.gguf"
    with Converter(job(place, target), module=module) as converter:
        outline = converter.outline()
        path.write_bytes(b"".join(converter.pieces()))
    assert path.stat().st_size == outline.size
    assert read_header(path).quantization_level == outline.target == (target or "F32")
    done = subprocess.run(
        [sys.executable, "-c", LOAD_AND_ANSWER, str(path)], capture_output=True, check=False, timeout=120
    )
    assert done.stdout.splitlines()[-1:] == [b"all"], done.stderr[-1000:]


@pytest.mark.parametrize("module", MODULES)
def test_refusals_come_through_with_their_class(place: Path, module: str) -> None:
    (place / "model.safetensors").write_bytes(safetensors(llama_tensors())[:-1])
    with Converter(job(place), module=module) as converter, pytest.raises(ModelDamaged, match="outside of the file"):
        converter.outline()
    write_folder(place, hidden_act="relu")
    with Converter(job(place), module=module) as converter, pytest.raises(Unsupported, match="hidden_act"):
        converter.outline()
    with Converter(job(place, "Q7_X"), module=module) as converter, pytest.raises(InvalidRequest, match="Q7_X"):
        converter.outline()


def test_broken_weights_end_the_file_with_an_error(place: Path) -> None:
    tensors = llama_tensors()
    tensors["model.norm.weight"][1] = float("nan")
    write_folder(place, tensors=tensors)
    with Converter(job(place)) as converter:
        assert converter.outline().size
        with pytest.raises(ModelDamaged, match=r"model\.norm\.weight"):
            list(converter.pieces())


def test_memory_is_bounded(place: Path) -> None:
    with Converter(job(place, memory=2**20)) as converter, pytest.raises((Unsupported, EngineError)):
        converter.outline()


def test_patience_ends(place: Path) -> None:
    with Converter(job(place)) as converter, pytest.raises(Unsupported, match="not understood within"):
        converter.outline(patience=0.0)


def test_silence_ends_the_child(place: Path) -> None:
    with Converter(job(place), silence=0.0) as converter:
        os.kill(converter.pid, signal.SIGSTOP)
        with pytest.raises(EngineError, match="gave nothing for 0 s, and was ended"):
            list(converter.pieces())
        assert converter._child.wait() == -signal.SIGKILL


@pytest.fixture
def adapted(tmp_path: Path) -> Path:
    write_adapted(tmp_path / "adapted")
    return tmp_path / "adapted"


def apart(place: Path, **fields: object) -> Job:
    """The adapter of a folder, for that folder or another base."""
    model, adapter = files_of(place)
    return Job({} if "base" in fields else model, "", "style", threads=2, adapter=adapter, apart=True, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("module", MODULES)
def test_an_adapter_is_the_same_for_a_folder_and_for_what_became_of_it(
    tmp_path: Path, adapted: Path, module: str
) -> None:
    base, quantized = tmp_path / "base.gguf", tmp_path / "quantized.gguf"
    model, _ = files_of(adapted)
    for path, target in ((base, ""), (quantized, "Q8_0")):
        with Converter(Job(model, target, "base", threads=2), module=module) as converter:
            assert converter.outline().source == "F32"
            path.write_bytes(b"".join(converter.pieces()))
    made = []
    for fields in ({}, {"base": (str(base),)}, {"base": (str(quantized),)}):
        with Converter(apart(adapted, **fields), module=module) as converter:
            outline = converter.outline()
            made.append(b"".join(converter.pieces()))
            assert (outline.size, outline.architecture, outline.tensors) == (len(made[-1]), "llama", 2)
    assert len(set(made)) == 1
    (tmp_path / "style.gguf").write_bytes(made[0])
    head = read_header(tmp_path / "style.gguf")
    assert (head.is_adapter, head.text("general.name")) == (True, "style")
    assert not misfit(head, "llama", read_header(quantized).tensors)


@pytest.mark.parametrize("module", MODULES)
def test_what_must_be_merged_is_said_to_whoever_has_the_folder(tmp_path: Path, adapted: Path, module: str) -> None:
    weights = adapter_tensors() | {"base_model.model.model.norm.weight": drawn(64, seed=7)}
    (adapted / "adapter" / "adapter_model.safetensors").write_bytes(safetensors(weights))
    (adapted / "adapter" / "adapter_config.json").write_text(json.dumps({**ADAPTER, "modules_to_save": ["norm"]}))
    with Converter(apart(adapted), module=module) as converter:
        outline = converter.outline()
        assert (outline.size, list(converter.pieces())) == (0, [])
        assert "must be merged into its base" in outline.merge
    model, adapter = files_of(adapted)
    with Converter(Job(model, "", "m", threads=2, adapter=adapter), module=module) as converter:
        assert converter.outline().size == sum(map(len, converter.pieces()))
    (tmp_path / "base.gguf").write_bytes(b"".join(pieces(Job(model, "", "m", threads=2))))
    with Converter(apart(adapted, base=(str(tmp_path / "base.gguf"),)), module=module) as converter:
        outline = converter.outline()
        assert (outline.size, outline.architecture, list(converter.pieces())) == (0, "llama", [])
        assert "must be merged into its base" in outline.merge


def test_a_refusal_names_the_field_of_the_job_that_may_help(adapted: Path) -> None:
    job = Job(files_of(adapted)[0], "", "m", threads=1, pre_tokenizer="mine")
    with Converter(job) as converter, pytest.raises(Unsupported, match="'mine'") as refused:
        converter.outline()
    assert refused.value.param == "pre_tokenizer"


def pieces(job: Job) -> list[bytes]:
    with Converter(job) as converter:
        converter.outline()
        return list(converter.pieces())


def test_what_is_said_besides_weights_is_told_and_no_reason_to_refuse(place: Path) -> None:
    said = {"do_sample": True, "temperature": 0.6, "top_k": -1, "top_p": "high", "repetition_penalty": 1.05}
    (place / "generation_config.json").write_text(json.dumps(said))
    (place / "LICENSE").write_bytes(b"Tu was du willst: f\xfcr immer")
    with Converter(job(place)) as converter:
        outline = converter.outline()
    assert outline.sampling == {"temperature": 0.6, "repeat_penalty": 1.05}
    assert outline.licenses == ("Tu was du willst: f\ufffdr immer",)
    (place / "generation_config.json").write_text(json.dumps({**said, "do_sample": False}))
    (place / "LICENSE").write_text("x" * (LONGEST_LICENSE + 1))
    with Converter(job(place)) as converter:
        outline = converter.outline()
    assert (outline.sampling, outline.licenses) == ({}, ())


def test_closing_ends_the_child(place: Path) -> None:
    with Converter(job(place)) as converter:
        converter.outline()
        pid = converter.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


CANARY = """
import pathlib
pathlib.Path({place!r}).write_text("fired")
"""


def test_code_in_the_folder_never_runs(tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fired = tmp_path / "fired"
    for name in (
        "modeling_x.py",
        "sitecustomize.py",
        "usercustomize.py",
        "numpy.py",
        "__init__.py",
        "json.py",
        "setup.py",
    ):
        (place / name).write_text(CANARY.format(place=str(fired)))
    (place / "evil.pth").write_text(f"import os; open({str(fired)!r}, 'w').close()")
    write_folder(place, auto_map={"AutoModel": "modeling_x.Model"})
    monkeypatch.chdir(place)
    for module in MODULES:
        with Converter(job(place), module=module) as converter:
            converter.outline()
            list(converter.pieces())
    assert not fired.exists()
