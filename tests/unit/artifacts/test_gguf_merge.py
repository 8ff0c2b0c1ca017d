"""Merging: what was split and is merged again is what it was; what does not belong together is refused by name."""

from __future__ import annotations

import random
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from tests.split_gguf import split_gguf
from tools.random_model import write_random_model

from localmodels.artifacts.gguf import read_header, read_part
from localmodels.artifacts.gguf_header import Header
from localmodels.artifacts.gguf_merge import Merge, Part, in_order, merge
from localmodels.core.errors import InvalidRequest, ModelDamaged


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_model(tmp_path_factory.mktemp("whole") / "whole.gguf", type="q8_0")


def parts_of(paths: list[Path]) -> list[Part]:
    return [Part(path, read_part(path)) for path in paths]


def small_model(path: Path, **arguments: int) -> GGUFWriter:
    """A writer of something with the least that a model says of itself."""
    writer = GGUFWriter(path, "llama", **arguments)
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_head_count(1)
    return writer


def finish(writer: GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def written(merge: Merge) -> bytes:
    return b"".join(merge.pieces())


@pytest.mark.parametrize("each", [1, 3, 7, 20])
@pytest.mark.parametrize("bare_first", [False, True])
def test_what_is_split_and_merged_is_the_same_to_the_byte(
    file: Path, tmp_path: Path, each: int, bare_first: bool
) -> None:
    paths = split_gguf(file, tmp_path, each=each, bare_first=bare_first)
    random.Random(each).shuffle(paths)
    merged = merge(parts_of(paths))
    assert written(merged) == file.read_bytes()
    assert merged.size == file.stat().st_size


def test_it_does_to_the_parts_of_the_reference_library_what_that_does_without_parts(tmp_path: Path) -> None:
    def write(path: Path, **arguments: int) -> None:
        writer = small_model(path, **arguments)
        writer.add_string("general.name", "ünïcode")
        writer.add_array("tokenizer.ggml.tokens", ["a", "b", "c"])
        writer.add_uint64("general.large", 2**63)
        for number in range(7):
            writer.add_tensor(f"blk.0.t{number}.weight", np.full((3, number + 1), number, np.float16))
        finish(writer)

    write(tmp_path / "whole.gguf")
    write(tmp_path / "split.gguf", split_max_tensors=2)
    paths = sorted(tmp_path.glob("split-*.gguf"))
    assert len(paths) == 4
    assert written(merge(parts_of(paths))) == (tmp_path / "whole.gguf").read_bytes()


def test_another_alignment_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "wide.gguf"
    writer = small_model(path)
    writer.add_custom_alignment(128)
    for number in range(4):
        writer.add_tensor(f"blk.0.t{number}.weight", np.full(5, number, np.float32))
    finish(writer)
    parts = split_gguf(path, tmp_path, each=2, first_alignment=128)
    assert [read_part(one).alignment for one in parts] == [128, 32]
    assert written(merge(parts_of(parts))) == path.read_bytes()


def test_the_merged_file_is_a_sound_model_that_says_nothing_of_a_split(file: Path, tmp_path: Path) -> None:
    target = tmp_path / "merged.gguf"
    target.write_bytes(written(merge(parts_of(split_gguf(file, tmp_path, each=5)))))
    header = read_header(target)
    assert header.split is None
    assert not [key for key in header.metadata if key.startswith("split.")]
    assert len(header.tensors) == len(read_header(file).tensors)


def test_little_memory_is_enough(tmp_path: Path) -> None:
    path = tmp_path / "large.gguf"
    writer = small_model(path)
    for number in range(4):
        writer.add_tensor(f"blk.0.t{number}.weight", np.zeros(4 * 2**20, np.float32))
    finish(writer)
    parts = parts_of(split_gguf(path, tmp_path, each=1))
    tracemalloc.start()
    merged = merge(parts)
    total = sum(len(piece) for piece in merged.pieces())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == merged.size > 64 * 2**20
    assert peak < 4 * 2**20


# What does not belong together.


def part(number: object, count: object, name: str = "") -> Part:
    header = Header(
        name or f"big-{number + 1 if isinstance(number, int) else 0:05}-of-{count:05}.gguf",
        3,
        {"split.no": number, "split.count": count},  # type: ignore[dict-item]
        (),
        32,
        0,
        0,
    )
    return Part(Path("nowhere"), header)


def refusal(*parts: Part) -> str:
    with pytest.raises(InvalidRequest) as refused:
        in_order(parts)
    assert refused.value.param == "files"
    return refused.value.message


def test_missing_parts_are_named() -> None:
    assert refusal(part(0, 3), part(2, 3)).endswith("there are missing: big-00002-of-00003.gguf")
    assert refusal(part(0, 2, "upload")).endswith("missing: part 2")
    assert refusal(part(3, 65_535)).endswith(
        "big-00001-of-65535.gguf, big-00002-of-65535.gguf, big-00003-of-65535.gguf, big-00005-of-65535.gguf, "
        "big-00006-of-65535.gguf and 65529 more"
    )


def test_a_part_that_is_there_twice_is_named() -> None:
    assert refusal(part(0, 2, "a.gguf"), part(0, 2, "b.gguf")) == "b.gguf is part 1 of 2, and so is a.gguf"


def test_parts_of_different_models_are_named() -> None:
    assert "b.gguf is one of 3 parts, a.gguf one of 2" in refusal(part(0, 2, "a.gguf"), part(1, 3, "b.gguf"))


@pytest.mark.parametrize(("number", "count"), [(2, 2), (-1, 2), ("1", 2), (0, -2), (0, "3"), (None, 2)])
def test_numbers_that_make_no_sense_are_refused(number: object, count: object) -> None:
    header = Header("odd.gguf", 3, {"split.no": number, "split.count": count}, (), 32, 0, 0)  # type: ignore[dict-item]
    assert refusal(Part(Path("odd"), header)).startswith("odd.gguf: keys 'split.no' and 'split.count'")


@given(st.permutations(range(5)))
def test_any_order_is_the_right_one(order: list[int]) -> None:
    assert [one.header.split for one in in_order([part(number, 5) for number in order])] == [(n, 5) for n in range(5)]


def test_parts_of_two_models_of_one_size_are_told_apart_by_their_tensors(file: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    mine, theirs = split_gguf(file, tmp_path, each=11), split_gguf(file, tmp_path / "other", each=12)
    assert len(mine) == len(theirs) == 2
    with pytest.raises(ModelDamaged, match="should have 21 tensors, and its parts have 20"):
        merge(parts_of([mine[0], theirs[1]]))
    with pytest.raises(ModelDamaged, match="is in an earlier part too"):
        merge(parts_of([theirs[0], mine[1]]))


def test_a_part_that_becomes_shorter_is_noticed(file: Path, tmp_path: Path) -> None:
    paths = split_gguf(file, tmp_path, each=10)
    merged = merge(parts_of(paths))
    paths[1].write_bytes(paths[1].read_bytes()[:-100])
    with pytest.raises(ModelDamaged, match="became shorter"):
        written(merged)


def test_a_part_that_goes_away_is_noticed(file: Path, tmp_path: Path) -> None:
    paths = split_gguf(file, tmp_path, each=10)
    merged = merge(parts_of(paths))
    paths[1].unlink()
    with pytest.raises(ModelDamaged, match="cannot be read"):
        written(merged)


def test_a_header_that_was_renamed_is_called_so(file: Path, tmp_path: Path) -> None:
    paths = split_gguf(file, tmp_path, each=10)
    parts = [Part(path, structs.replace(read_part(path), name=f"upload-{i}")) for i, path in enumerate(paths)]
    with pytest.raises(InvalidRequest, match="upload-0"):
        in_order([parts[0], parts[0]])
