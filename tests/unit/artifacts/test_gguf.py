"""The reader against sound files, cut files, named hostile kinds and random mutants."""

import os
import tracemalloc
from pathlib import Path

import pytest
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter
from numpy import float32, zeros
from tests.hostile_gguf import (
    BOOL,
    HOSTILE,
    PASSES,
    STRING,
    U16,
    U32,
    draft,
    mutants,
    scalar,
    string,
    strings,
    tokens_of,
    u32,
)
from tools.random_model import SMALLEST_VOCAB, TINY, Shape, write_random_model

from localmodels.artifacts.gguf import parts, read_array, read_header
from localmodels.artifacts.gguf_header import WEIGHT_TYPES, Array
from localmodels.core.errors import ModelDamaged

MUTANTS = 5000
SMALL = Shape(
    width=32, layers=2, heads=2, kv_heads=1, head_width=32, feed_forward=32, context=4096, vocab=SMALLEST_VOCAB + 8
)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_random_model(tmp_path_factory.mktemp("sound") / "sound.gguf", shape=SMALL).read_bytes()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "model.gguf"


def test_it_reads_what_was_written(file: Path) -> None:
    header = read_header(write_random_model(file, shape=TINY, type="q8_0"))
    assert (header.name, header.version, header.architecture) == ("model.gguf", 3, "llama")
    assert (header.block_count, header.context_length, header.embedding_length) == (2, 4096, 64)
    assert (header.heads, header.kv_heads) == ((2, 2), (1, 1))
    assert (header.key_length, header.value_length, header.vocab_size) == (32, 32, TINY.vocab)
    assert header.quantization_level == "Q8_0"
    assert header.file_size == file.stat().st_size
    assert header.capabilities() == ("completion", "tools")
    assert "<|im_start|>" in header.chat_template


def test_it_agrees_with_the_reader_of_the_reference_library(file: Path) -> None:
    theirs = GGUFReader(write_random_model(file, shape=TINY, type="q4_0"))
    ours = read_header(file)
    assert [(t.name, t.shape, t.type.name, t.offset, t.size) for t in ours.tensors] == [
        (t.name, tuple(map(int, t.shape)), t.tensor_type.name, t.data_offset, t.n_bytes) for t in theirs.tensors
    ]
    assert ours.parameter_count == sum(int(t.n_elements) for t in theirs.tensors)
    assert set(ours.metadata) == {key for key in theirs.fields if not key.startswith("GGUF.")}


def test_every_weight_type_of_the_reference_library_is_known() -> None:
    theirs = {int(kind): kind.name for kind in GGMLQuantizationType}
    assert theirs.items() <= {number: kind.name for number, kind in WEIGHT_TYPES.items()}.items()


def test_version_2_is_read(file: Path, sound: bytes) -> None:
    file.write_bytes(sound[:4] + u32(2) + sound[8:])
    assert read_header(file).version == 2


def test_a_wider_alignment_is_kept(file: Path) -> None:
    writer = GGUFWriter(file, "clip")
    writer.add_custom_alignment(256)
    writer.add_bool("clip.has_vision_encoder", val=False)
    writer.add_tensor("a", zeros(3, float32))
    writer.add_tensor("b", zeros(3, float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    header = read_header(file)
    assert header.alignment == 256
    assert [tensor.offset - header.data_offset for tensor in header.tensors] == [0, 256]
    assert header.is_projector
    assert not header.has_vision


def test_an_array_is_read_when_asked_for(file: Path, sound: bytes) -> None:
    file.write_bytes(sound)
    tokens = read_header(file).metadata["tokenizer.ggml.tokens"]
    assert isinstance(tokens, Array)
    assert list(read_array(file, tokens)) == tokens_of(draft(sound))
    types = read_header(file).metadata["tokenizer.ggml.token_type"]
    assert isinstance(types, Array)
    assert set(read_array(file, types)) == {1, 3}


def test_strings_longer_than_the_window_are_stepped_over(file: Path, sound: bytes) -> None:
    long = ["x" * 3_000_000, *tokens_of(draft(sound))[1:]]
    file.write_bytes(draft(sound).put("tokenizer.ggml.tokens", 9, strings(long)).bytes())
    header = read_header(file)
    assert header.vocab_size == len(long)
    tokens = header.metadata["tokenizer.ggml.tokens"]
    assert isinstance(tokens, Array)
    assert list(read_array(file, tokens)) == long


def test_the_message_names_the_file_and_not_its_directory(file: Path, sound: bytes) -> None:
    file.write_bytes(HOSTILE["layers 0"](sound))
    with pytest.raises(ModelDamaged, match=r"model.gguf: key 'llama.block_count' must be from 1 to 512") as error:
        read_header(file)
    assert str(file.parent) not in str(error.value)


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_is_refused_by_name_or_known_to_pass(kind: str, file: Path, sound: bytes) -> None:
    file.write_bytes(HOSTILE[kind](sound))
    if kind in PASSES:
        read_header(file)
    else:
        with pytest.raises(ModelDamaged, match=r"^model\.gguf: "):
            read_header(file)


def test_hostile_files_take_little_memory(file: Path, sound: bytes) -> None:
    tracemalloc.start()
    try:
        for change in HOSTILE.values():
            file.write_bytes(change(sound))
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            _refused(file)
            assert tracemalloc.get_traced_memory()[1] - before < 64 * 2**20
    finally:
        tracemalloc.stop()


def test_at_every_byte_of_the_beginning_a_cut_is_refused(file: Path, sound: bytes) -> None:
    file.write_bytes(sound)
    for size in range(4096, -1, -1):
        os.truncate(file, size)
        assert _refused(file), f"cut to {size} bytes"


def test_random_mutants_are_read_or_refused(file: Path, sound: bytes) -> None:
    refused = 0
    for mutant in mutants(sound, MUTANTS, seed=20_261_121):
        file.write_bytes(mutant)
        refused += _refused(file)
    assert MUTANTS // 3 < refused < MUTANTS  # neither everything nor nothing is hostile


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(ModelDamaged, match=r"pipe.gguf: not a file"):
        read_header(tmp_path / "pipe.gguf")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelDamaged, match=r"nobody.gguf: cannot be read"):
        read_header(tmp_path / "nobody.gguf")


# Split models


def _split(directory: Path, sound: bytes, *, number: int = 1) -> Path:
    """The sound model in two files: all but the last tensor, and that one; ``number`` is what the second says it is."""
    whole = draft(sound)
    last = whole.tensors[-1]
    first = whole.put("split.count", U16, scalar(U16, 2)).put("split.no", U16, scalar(U16, 0))
    first.tensors.pop()
    second = draft(sound)
    second.pairs.clear()
    second.pairs.extend(first.pairs[-2:])
    second = second.put("split.no", U16, scalar(U16, number))
    second.tensors[:] = [last]
    names = directory / "m-00001-of-00002.gguf", directory / "m-00002-of-00002.gguf"
    names[0].write_bytes(first.bytes())
    names[1].write_bytes(second.tensor(0, offset=0).bytes())
    return names[0]


def test_a_split_model_is_read_as_one(tmp_path: Path, sound: bytes, file: Path) -> None:
    first = _split(tmp_path, sound)
    file.write_bytes(sound)
    split, whole = read_header(first), read_header(file)
    assert split.parts == 2
    assert split.parameter_count == whole.parameter_count
    assert [tensor.part for tensor in split.tensors] == [0] * (len(split.tensors) - 1) + [1]
    assert split.file_size == sum(part.stat().st_size for part in parts(first))


def test_a_missing_part_is_named(tmp_path: Path, sound: bytes) -> None:
    first = _split(tmp_path, sound)
    (tmp_path / "m-00002-of-00002.gguf").unlink()
    with pytest.raises(ModelDamaged, match=r"m-00002-of-00002.gguf: this part of the model is missing"):
        read_header(first)


def test_a_later_part_points_to_the_first(tmp_path: Path, sound: bytes) -> None:
    _split(tmp_path, sound)
    with pytest.raises(ModelDamaged, match=r"by its first part, m-00001-of-00002.gguf"):
        read_header(tmp_path / "m-00002-of-00002.gguf")


def test_a_part_that_is_another_is_refused(tmp_path: Path, sound: bytes) -> None:
    with pytest.raises(ModelDamaged, match=r"m-00002-of-00002.gguf: key 'split.no' must be 1, not 7"):
        read_header(_split(tmp_path, sound, number=7))


# What it can do


def _with(sound: bytes, file: Path, template: str) -> Path:
    file.write_bytes(draft(sound).put("tokenizer.chat_template", STRING, string(template)).bytes())
    return file


def test_thinking_is_seen_in_the_template(sound: bytes, file: Path) -> None:
    header = read_header(_with(sound, file, "{% if x %}<think>{{ y }}</think>{% endif %}"))
    assert header.capabilities() == ("completion", "thinking")


def test_a_model_with_a_pooling_type_embeds_and_does_not_talk(file: Path) -> None:
    assert read_header(write_random_model(file, shape=SMALL, embedding=True)).capabilities() == ("embedding",)


def test_tokens_for_the_middle_make_it_insert(sound: bytes, file: Path) -> None:
    tokens = ["<|fim_prefix|>", *tokens_of(draft(sound))[1:]]
    file.write_bytes(draft(sound).put("tokenizer.ggml.tokens", 9, strings(tokens)).bytes())
    assert read_header(file).capabilities() == ("completion", "tools", "insert")


def test_a_projector_gives_it_eyes(sound: bytes, file: Path, tmp_path: Path) -> None:
    file.write_bytes(sound)
    eyes = draft(sound).put("general.architecture", STRING, string("clip"))
    for key, value in (("patch_size", 14), ("image_size", 224), ("embedding_length", 64)):
        eyes = eyes.put(f"clip.vision.{key}", U32, u32(value))
    (tmp_path / "eyes.gguf").write_bytes(eyes.put("clip.has_vision_encoder", BOOL, b"\1").bytes())
    projector = read_header(tmp_path / "eyes.gguf")
    assert projector.capabilities() == ()
    assert "vision" in read_header(file).capabilities(projector=projector)


def _refused(file: Path) -> bool:
    try:
        read_header(file)
    except ModelDamaged:
        return True
    return False
