from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.hostile_gguf import U32, Draft, Tensor, draft, scalar
from tests.quantize_models import header, tensor
from tools.random_model import write_random_model

from localmodels.artifacts.gguf import read_header, read_spans
from localmodels.artifacts.gguf_header import Header
from localmodels.artifacts.quantize.file_types import TARGETS, weight_type
from localmodels.artifacts.quantize.plan import Plan, plan, planned
from localmodels.artifacts.quantize.work import STRETCH, stretches
from localmodels.core.errors import InvalidRequest, ModelDamaged, Unsupported


def planned_for(model: Header, target: str, *, requantize: bool = False) -> Plan:
    return planned(model, {}, TARGETS[target], requantize=requantize)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_model(tmp_path_factory.mktemp("models") / "tiny.gguf")


def with_empty_weights(source: Path, made: Plan, target: Path) -> Path:
    """The new file as far as its plan says it."""
    old = source.read_bytes()
    head = b"".join(part if isinstance(part, bytes) else old[part[0] : part[1]] for part in made.head)
    target.write_bytes(head + bytes(made.size - len(head)))
    return target


@pytest.mark.parametrize("target", ["Q4_0", "Q8_0", "F32", "Q4_K_M"])
def test_the_new_head_is_the_old_one_but_for_what_changed(file: Path, tmp_path: Path, target: str) -> None:
    made = plan(file, TARGETS[target])
    old, new = read_header(file), read_header(with_empty_weights(file, made, tmp_path / "new.gguf"))
    assert new.file_size == made.size
    assert list(new.metadata)[-2:] == ["general.quantization_version", "general.file_type"]
    assert new.metadata["general.file_type"] == TARGETS[target].number
    assert new.quantization_level == target
    changed = {"general.file_type", "general.quantization_version"}
    spans = [(key, value) for key, value in old.metadata.items() if key not in changed]
    assert [key for key, _ in spans] == list(new.metadata)[:-2]
    assert [new.metadata[key] for key, value in spans if not hasattr(value, "offset")] == [
        value for _, value in spans if not hasattr(value, "offset")
    ]
    assert {one.name: one.type for one in new.tensors} == {one.source.name: one.type for one in made.tensors}
    assert {one.name: one.shape for one in new.tensors} == {one.name: one.shape for one in old.tensors}


def test_pairs_are_copied_byte_for_byte(file: Path, tmp_path: Path) -> None:
    new = with_empty_weights(file, plan(file, TARGETS["Q4_0"]), tmp_path / "new.gguf")
    before, after = read_spans(file), read_spans(new)
    for key in after.keys() - {"general.file_type", "general.quantization_version"}:
        assert file.read_bytes()[slice(*before[key])] == new.read_bytes()[slice(*after[key])]


def test_the_alignment_of_the_old_file_is_kept(file: Path, tmp_path: Path) -> None:
    """llama-quantize keeps the key and pads to 32 all the same, which nobody can read."""
    wide = tmp_path / "wide.gguf"
    wide.write_bytes(aligned(file, 128))
    new = read_header(with_empty_weights(wide, plan(wide, TARGETS["Q4_0"]), tmp_path / "new.gguf"))
    assert new.alignment == 128
    assert all(one.offset % 128 == 0 for one in new.tensors)


def aligned(file: Path, alignment: int) -> bytes:
    """The file with another alignment, and zeros for weights."""
    old = draft(file.read_bytes()).put("general.alignment", U32, scalar(U32, alignment))
    tensors, weights = [], b""
    for one, info in zip(old.tensors, read_header(file).tensors, strict=True):
        tensors.append(Tensor(one.name, one.shape, one.kind, len(weights)))
        weights += bytes(-(-info.size // alignment) * alignment)
    head = Draft(old.pairs, tensors, b"").bytes()
    return head + bytes(-len(head) % alignment) + weights


def test_what_is_of_its_type_already_is_copied(file: Path) -> None:
    assert not plan(file, TARGETS["F16"]).changes
    assert plan(file, TARGETS["BF16"]).changes
    assert all(one.is_copied for one in plan(file, TARGETS["Q8_0"]).tensors if one.source.name.endswith("_norm.weight"))


@pytest.mark.parametrize("target", sorted(name for name, one in TARGETS.items() if one.needs_matrix))
def test_what_needs_an_importance_matrix_is_refused(target: str) -> None:
    with pytest.raises(Unsupported, match=f"{target} needs an importance matrix: it would make 'blk.0") as refused:
        planned_for(header(), target)
    assert refused.value.param == "quantize"


@pytest.mark.parametrize("target", sorted(name for name, one in TARGETS.items() if not one.needs_matrix))
def test_everything_else_can_be_made_of_an_ordinary_model(target: str) -> None:
    made = planned_for(header(), target)
    assert made.size == sum(one.size + one.padding for one in made.tensors) + sum(map(len, made.head))


def test_the_embeddings_and_the_output_need_no_matrix() -> None:
    """Rows of 64 are IQ4_NL instead, so only these two could be of a type that needs one, and they never are."""
    assert planned_for(header(width=64, ff=64), "IQ2_XXS").changes


def test_what_is_quantized_already_is_refused_unless_asked_for() -> None:
    eight = tensor("blk.0.extra.weight", 256, 256, type="Q8_0")
    model = header(more=(eight,))
    with pytest.raises(Unsupported, match=r"only supported for F16, BF16.*extra\.weight' is Q8_0 already"):
        planned_for(model, "Q4_0")
    assert next(one for one in planned_for(model, "Q8_0").tensors if one.source == eight).is_copied
    assert planned_for(model, "Q4_0", requantize=True).changes


@pytest.mark.parametrize("kind", ["I32", "F64", "Q8_K"])
def test_what_are_no_weights_cannot_be_computed_with(kind: str) -> None:
    model = header(more=(tensor("blk.0.extra.weight", 256, 2, type=kind),))
    with pytest.raises(Unsupported, match=f"is of type {kind}, not of weights"):
        planned_for(model, "Q4_0", requantize=True)


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (replace(header(), parts=2), "has to be merged first"),
        (replace(header(), tensors=(tensor("a_norm.weight", 64),)), "no weights in it that could be quantized"),
        (replace(header(), metadata={"general.type": "adapter"}), "only models are quantized, and this is an adapter"),
        (replace(header(), metadata={"general.architecture": "clip"}), "and this is a projector"),
    ],
)
def test_what_is_no_model_in_one_file_is_refused(model: Header, why: str) -> None:
    with pytest.raises(Unsupported, match=why):
        planned_for(model, "Q4_0")


def test_a_file_that_is_none_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 1, 1))
    with pytest.raises(ModelDamaged, match=r"x\.gguf"):
        plan(tmp_path / "x.gguf", TARGETS["Q4_0"])


def test_every_refusal_is_the_callers() -> None:
    assert issubclass(Unsupported, InvalidRequest)


@given(target=st.sampled_from(["Q4_K_M", "Q8_0", "F16", "TQ1_0"]), layers=st.integers(1, 8), tied=st.booleans())
def test_the_stretches_are_all_weights_once_and_in_blocks(target: str, layers: int, tied: bool) -> None:
    model = header(layers=layers, tied=tied, more=(tensor("blk.0.wide.weight", 2**15, 97),))
    made = planned_for(model, target)
    reached: dict[str, int] = {}
    for stretch in stretches(made):
        source = stretch.tensor.source
        assert stretch.start == reached.get(source.name, 0)
        assert 0 < stretch.count <= STRETCH
        assert stretch.count % stretch.tensor.type.block == stretch.count % source.type.block == 0
        reached[source.name] = stretch.start + stretch.count
    assert reached == {one.source.name: one.source.count for one in made.tensors}
    assert list(reached) == [one.source.name for one in made.tensors]


def test_stretches_are_cut_where_every_block_ends() -> None:
    assert all(STRETCH % weight_type(target.main).block == 0 for target in TARGETS.values())
