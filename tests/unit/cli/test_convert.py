"""``convert``: a folder becomes a file by a real child; the file has its name when it is whole, and not before."""

from __future__ import annotations

import errno
import json
import re
from pathlib import Path

import pytest
from tests.hostile_folders.bases import ADAPTER, adapter_tensors, write_adapted
from tests.unit.cli.conftest import Shell
from tests.weight_folders import drawn, safetensors, write_folder

from localmodels.artifacts.gguf import read_header
from localmodels.cli.convert import replaced, require_room
from localmodels.core.errors import DiskFull, InvalidRequest


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command is given: a folder ``tuned`` with an adapter in it, and another place to write to."""
    monkeypatch.chdir(tmp_path)
    write_adapted(tmp_path / "tuned")
    (tmp_path / "out").mkdir()
    (tmp_path / "tuned.ZIP").touch()
    return tmp_path


def files(place: Path) -> set[str]:
    return {path.relative_to(place).as_posix() for path in place.rglob("*.gguf*")}


def test_a_folder_becomes_a_file_and_says_so(shell: Shell, place: Path) -> None:
    done = shell("convert", "tuned", "-q", "f16")
    assert (done.code, files(place)) == (0, {"tuned-F16.gguf"})
    assert re.fullmatch(r"tuned-F16\.gguf  F16  \d+ KB\n", done.out)
    assert re.search(r"^converting to F16 100% of \d+ KB$", done.err, re.MULTILINE)
    header = read_header(place / "tuned-F16.gguf")
    assert (header.architecture, header.metadata["general.name"]) == ("llama", "tuned")
    assert shell.server.asked == []


def test_a_program_gets_the_steps_and_the_file(shell: Shell, place: Path) -> None:
    done = shell("convert", "tuned", "-o", "out", "--name", "Mine", "--json")
    *steps, last = [json.loads(line) for line in done.out.splitlines()]
    assert (done.code, done.err, last["file"]) == (0, "", "out/tuned-F32.gguf")
    assert (last["type"], last["architecture"], last["size"]) == (
        "F32", "llama", (place / "out" / "tuned-F32.gguf").stat().st_size,
    )  # fmt: skip
    assert {step["status"] for step in steps} >= {"converting to F32"}
    assert read_header(place / "out" / "tuned-F32.gguf").metadata["general.name"] == "Mine"


def test_an_adapter_becomes_a_file_for_its_base_and_can_be_merged(shell: Shell, place: Path) -> None:
    assert shell("convert", "tuned", "-o", "base.gguf").code == 0
    assert shell("convert", "tuned/adapter", "--base", "base.gguf", "-o", "onto.gguf").code == 0
    assert shell("convert", "tuned/adapter", "--base", "tuned", "-o", "same.gguf").code == 0
    assert shell("convert", "tuned", "--adapter", "tuned/adapter", "-o", "merged.gguf").code == 0
    assert read_header(place / "onto.gguf").is_adapter
    assert (place / "onto.gguf").read_bytes() == (place / "same.gguf").read_bytes()
    assert (place / "merged.gguf").stat().st_size == (place / "base.gguf").stat().st_size
    assert (place / "merged.gguf").read_bytes() != (place / "base.gguf").read_bytes()


def test_what_was_there_stays_until_the_new_one_is_whole(shell: Shell, place: Path) -> None:
    (place / "m.gguf").write_text("the old one")
    (place / "tuned" / "config.json").write_text("{}")
    done = shell("convert", "tuned", "-o", "m.gguf")
    assert (done.code, files(place), (place / "m.gguf").read_text()) == (1, {"m.gguf"}, "the old one")
    assert done.err.startswith("Error: tuned: config.json")
    write_folder(place / "tuned")
    assert shell("convert", "tuned", "-o", "m.gguf").code == 0
    assert (place / "m.gguf").read_bytes()[:4] == b"GGUF"
    assert (place / "m.gguf").stat().st_mode & 0o777 == 0o666 & ~umask()


def umask() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("Umask"))
    return int(line.split()[1], 8)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("x")])
def test_a_file_that_is_not_finished_is_not_there(place: Path, error: BaseException) -> None:
    def write() -> None:
        with replaced(place / "m.gguf") as file:
            file.write(b"half")
            assert len(files(place)) == 1
            raise error

    with pytest.raises(type(error)):
        write()
    assert files(place) == set()


def test_two_that_write_the_same_file_do_not_disturb_each_other(place: Path) -> None:
    with replaced(place / "m.gguf") as first:
        with replaced(place / "m.gguf") as second:
            first.write(b"one, ")
            second.write(b"the other")
        first.write(b"whole")
    assert (place / "m.gguf").read_bytes() == b"one, whole"
    assert files(place) == {"m.gguf"}


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.ENOSPC, DiskFull), (errno.EDQUOT, DiskFull), (errno.EIO, InvalidRequest)]
)
def test_a_disk_that_takes_no_more_is_named(place: Path, number: int, kind: type[Exception]) -> None:
    def write() -> None:
        with replaced(place / "m.gguf"):
            raise OSError(number, "so it is")

    with pytest.raises(kind, match=r"m\.gguf cannot be written: so it is"):
        write()
    assert files(place) == set()


def test_too_little_room_is_told_before_it_begins(place: Path) -> None:
    require_room(place / "m.gguf", 1)
    with pytest.raises(DiskFull, match=r"m\.gguf will have 1152922 TB, and '.*' has room for"):
        require_room(place / "m.gguf", 2**60)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("gone",), "/gone'"),
        (("tuned/model.safetensors",), "tuned/model.safetensors are weights alone; give their folder, '/"),
        (("tuned.ZIP",), "tuned.ZIP is an archive; unpack it, or give it to `localmodels deploy`"),
        (("tuned/config.json",), "config.json is not a folder; what is GGUF already, `localmodels create` quantizes"),
        (("out",), "there are no safetensors or GGUF files in"),
        (("tuned", "-o", "gone/m.gguf"), "there is no folder 'gone' for m.gguf"),
        (("tuned", "-q", "Q4_K_X"), "unsupported quantization type Q4_K_X"),
        (("tuned", "--base", "x.gguf"), "--base is for adapters, and tuned is a whole model"),
        (("tuned", "--adapter", "out"), "there are no safetensors or GGUF files in"),
        (
            ("tuned", "--pre-tokenizer", "mine"),
            "tuned: llama.cpp knows no pre-tokenizer 'mine'; name one that does the same with",
        ),
        (("tuned/adapter",), "tuned/adapter is an adapter; name the model that it is for with --base"),
        (("tuned/adapter", "--base", "tuned", "-q", "F16"), "--quantize is for whole models, and tuned/adapter is an"),
        (("tuned/adapter", "--base", "tuned", "--adapter", "tuned/adapter"), "--adapter is for whole models"),
        (("tuned/adapter", "--base", "gone.gguf"), "gone.gguf"),
    ],
)
def test_what_is_wrong_is_one_line_and_leaves_nothing(
    shell: Shell, place: Path, words: tuple[str, ...], said: str
) -> None:
    done = shell("convert", *words)
    assert (done.code, done.out, done.err.count("\n"), files(place)) == (1, "", 1, set())
    assert said in done.err


def test_a_text_that_is_cut_in_an_unknown_way_can_be_named(shell: Shell, place: Path) -> None:
    file = place / "tuned" / "tokenizer.json"
    document = json.loads(file.read_text())
    split = {"type": "Split", "pattern": {"Regex": "[a-z]{2}"}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
    document["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, level]}
    file.write_text(json.dumps(document))
    done = shell("convert", "tuned")
    assert done.code == 1
    assert "[a-z]{2}" in done.err
    assert done.err.endswith("; name one that does the same with --pre-tokenizer NAME\n")
    assert shell("convert", "tuned", "--pre-tokenizer", "gpt-2", "-o", "m.gguf").code == 0
    assert read_header(place / "m.gguf").architecture == "llama"


def test_what_must_be_merged_is_told_with_how(shell: Shell, place: Path) -> None:
    config = place / "tuned" / "adapter" / "adapter_config.json"
    weights = adapter_tensors() | {"base_model.model.model.norm.weight": drawn(64, seed=7)}
    (config.parent / "adapter_model.safetensors").write_bytes(safetensors(weights))
    config.write_text(json.dumps({**ADAPTER, "modules_to_save": ["norm"]}))
    assert shell("convert", "tuned", "-o", "base.gguf").code == 0
    for base in ("tuned", "base.gguf"):
        done = shell("convert", "tuned/adapter", "--base", base, "-o", "onto.gguf")
        assert (done.code, files(place)) == (1, {"base.gguf"})
        assert "must be merged into its base" in done.err
        assert done.err.endswith("; convert the base's folder of safetensors with --adapter tuned/adapter instead\n")
    assert shell("convert", "tuned", "--adapter", "tuned/adapter", "-o", "merged.gguf").code == 0


def test_an_adapter_may_have_its_bases_configuration_beside_it(shell: Shell, place: Path) -> None:
    (place / "tuned" / "adapter" / "config.json").write_bytes((place / "tuned" / "config.json").read_bytes())
    assert shell("convert", "tuned/adapter", "--base", "tuned", "-o", "style.gguf").code == 0
    assert read_header(place / "style.gguf").is_adapter


def test_links_are_followed_in_hugging_faces_cache_and_not_out_of_a_folder(shell: Shell, place: Path) -> None:
    cached, blobs = place / "models--x" / "snapshots" / "1234", place / "models--x" / "blobs"
    cached.mkdir(parents=True)
    (place / "linked").mkdir()
    (place / "tuned").rename(blobs)
    for path in blobs.glob("*.*"):
        (cached / path.name).symlink_to(f"../../blobs/{path.name}")
        (place / "linked" / path.name).symlink_to(path)
    assert shell("convert", str(cached), "-o", "m.gguf").code == 0
    assert read_header(place / "m.gguf").architecture == "llama"
    done = shell("convert", "linked", "-o", "n.gguf")
    assert (done.code, files(place)) == (1, {"m.gguf"})
    assert "is a link that leads out of the folder" in done.err


def test_a_field_that_nobody_knows_can_be_ignored(shell: Shell, place: Path) -> None:
    write_folder(place / "tuned", softcap_of_ours=30.0)
    done = shell("convert", "tuned")
    assert (done.code, files(place)) == (1, set())
    assert "softcap_of_ours" in done.err
    assert "name it with --ignore" in done.err
    assert shell("convert", "tuned", "--ignore", "softcap_of_ours", "-o", "m.gguf").code == 0
