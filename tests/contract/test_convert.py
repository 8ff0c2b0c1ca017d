"""A folder becomes a file in a confined child that the engine loads; what must not come through does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.contract.test_quantize import LOAD_AND_ANSWER
from tests.weight_folders import llama_tensors, safetensors, write_folder

from localmodels.artifacts.convert import Converter, Job
from localmodels.artifacts.gguf import read_header
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
