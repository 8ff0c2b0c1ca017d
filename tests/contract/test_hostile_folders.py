"""Hostile folders of models: a refusal that names what is wrong, or a file that our reader and the engine take.

Most go through :mod:`tests.hostile_folders.batch`, each in a fork of one process; some through the real confined child,
which must say the same. ``python -m tests.hostile_folders`` tries all of them, and loads every file that comes out.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

import msgspec
import pytest
from tests.contract.test_hostile_gguf import LOAD_AND_ANSWER
from tests.hostile_folders.bases import write_llama
from tests.hostile_folders.batch import ENDS_THE_ENGINE, MEMORY, Told
from tests.hostile_folders.corpus import CORPUS, CUT
from tests.hostile_folders.disguises import canary
from tests.hostile_folders.heads import FILE
from tests.hostile_folders.kinds import files_of

from localmodels.artifacts.convert import Converter, Job
from localmodels.artifacts.convert.safetensors import read_safetensors
from localmodels.artifacts.gguf import read_header
from localmodels.core.errors import ModelDamaged, Unsupported

EACH = 20  # of the kinds that are every field with every value, one in so many; the others all
CONFINED = 60
LOADED = 6
SECONDS = 2.0

NAMES = tuple(name for number, name in enumerate(CORPUS) if "#" not in name or not number % EACH)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the files are that were made."""
    return tmp_path_factory.mktemp("made")


@pytest.fixture(scope="module")
def told(kept: Path) -> Mapping[str, Told]:
    """What became of each, by name."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.hostile_folders.batch", str(kept)],
        input="".join(f"{name}\n" for name in NAMES).encode(),
        capture_output=True,
        check=False,
        timeout=600,
    )
    found = (msgspec.json.decode(line, type=Told) for line in done.stdout.splitlines())
    return {one.name: one for one in found}


def test_there_are_five_hundred_of_them() -> None:
    assert len(NAMES) >= 500
    assert len(CORPUS) >= 3000


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_folder_is_refused_by_name_or_becomes_a_sound_file(name: str, told: Mapping[str, Told]) -> None:
    hostile, one = CORPUS[name], told[name]
    assert one.fate in {"refused", "made"}, one
    assert hostile.fate in {"either", one.fate}, one
    assert hostile.is_named(one.message), one
    assert one.fate == "made" or one.kind in {"ModelDamaged", "Unsupported", "InvalidRequest"}, one
    assert not one.fired
    assert one.seconds <= SECONDS, one
    assert one.peak <= MEMORY, one


def test_a_file_cut_after_each_of_its_first_bytes_is_damaged(tmp_path: Path) -> None:
    write_llama(tmp_path / "model")
    path = tmp_path / "model" / FILE
    raw = path.read_bytes()
    for length in range(len(CUT)):
        path.write_bytes(raw[:length])
        with pytest.raises(ModelDamaged, match="ends inside its head"):
            read_safetensors(path, FILE)


@pytest.mark.parametrize("length", [640, 896, 1152, 1408])
def test_a_head_whose_length_begins_as_a_pickle_does_is_none(tmp_path: Path, length: int) -> None:
    path = tmp_path / FILE
    head = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    path.write_bytes(length.to_bytes(8, "little") + head.ljust(length) + bytes(4))
    assert [tensor.name for tensor in read_safetensors(path, FILE)] == ["a"]


def _confined(place: Path, target: str = "") -> str:
    """What the real child says of a folder; empty if it makes a file, which our reader takes."""
    model, adapter = files_of(place)
    job = Job(model, target, "tiny", threads=2, adapter=adapter, memory=MEMORY)
    path = place.parent / "made.gguf"
    try:
        with Converter(job, module="localmodels.engine.converter") as converter:
            outline = converter.outline(patience=20.0)
            path.write_bytes(b"".join(converter.pieces()))
    except (ModelDamaged, Unsupported) as error:
        return error.message
    assert path.stat().st_size == outline.size
    read_header(path)
    return ""


PROGRAMS = tuple(name for name in NAMES if name.startswith(("program", "pickle: weights", "no file")))
CHOSEN = tuple(
    islice((name for name in NAMES[:: len(NAMES) // CONFINED] if name not in PROGRAMS), CONFINED - len(PROGRAMS))
)


@pytest.mark.parametrize("name", [*PROGRAMS, *CHOSEN])
def test_the_confined_child_says_the_same(name: str, told: Mapping[str, Told], tmp_path: Path) -> None:
    place = tmp_path / "model"
    CORPUS[name].write(place)
    said = _confined(place, CORPUS[name].target)
    assert not canary(place).exists()
    assert str(tmp_path) not in said
    assert "Traceback" not in said
    assert said.isprintable()
    assert bool(said) is (told[name].fate == "refused")
    assert said[:50] == "".join(c if c.isprintable() else repr(c)[1:-1] for c in told[name].message)[:50]


def test_what_comes_out_does_not_end_the_engine(told: Mapping[str, Told], kept: Path) -> None:
    files = sorted({one.file for one in told.values() if one.fate == "made" and one.name not in ENDS_THE_ENGINE})
    assert len(files) > LOADED
    for name in files[:: len(files) // LOADED]:
        done = subprocess.run(
            [sys.executable, "-c", LOAD_AND_ANSWER, str(kept / name)], capture_output=True, timeout=60, check=False
        )
        by_whom = [one.name for one in told.values() if one.file == name]
        assert done.returncode in {0, 3}, (by_whom[:3], done.stderr[-500:])
