"""What quantising a file comes to, before anything is computed: each tensor's new type and place, and the size.

The rule: whatever can be refused is refused here, so that the work itself fails only where weights are broken. Both
sides make the same plan of the same file: the parent to know the size, the child to do it.

The new file has the old one's metadata, byte for byte and in order, but for ``general.file_type`` and
``general.quantization_version``, which end it, and the marks of a split. Its tensors are in llama.cpp's order, padded
to the old file's alignment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from localmodels.artifacts.gguf import read_header, read_spans
from localmodels.artifacts.gguf_header import Header, TensorInfo, WeightType
from localmodels.artifacts.gguf_write import SPLIT_KEYS, beginning, number_pair, tensor_info
from localmodels.artifacts.quantize.file_types import FileType, is_quantized, weight_type
from localmodels.artifacts.quantize.mixing import mixed
from localmodels.artifacts.quantize.untouched import dimensions, is_kept
from localmodels.core.errors import Unsupported
from localmodels.core.spans import Span, merged

QUANTIZATION_VERSION = 2  # GGML_QNT_VERSION: of the layout of blocks
REPLACED = ("general.file_type", "general.quantization_version")

# Below these a matrix that was quantised without an importance matrix is noise (llama.cpp refuses, too).
NEED_A_MATRIX = frozenset({"IQ3_XXS", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ1_M", "IQ1_S"})
SPARED = frozenset({"token_embd.weight", "per_layer_token_embd.weight", "output.weight"})
READABLE = frozenset({"F32", "F16", "BF16"})


class Placed(Struct, frozen=True):
    """A tensor of the new file.

    Attributes:
        source: as it is in the old file.
        type: what it becomes.
        offset: of its first byte, from the start of the weights.
        size: bytes, and ``padding`` zeros after them.
    """

    source: TensorInfo
    type: WeightType
    offset: int
    size: int
    padding: int

    @property
    def is_copied(self) -> bool:
        """It is of this type already."""
        return self.source.type == self.type


class Plan(Struct, frozen=True):
    """A file to be made of another.

    Attributes:
        head: everything before the weights: bytes, and spans of the old file that are kept.
        tensors: in the order of the new file.
        size: bytes of the new file.
    """

    target: FileType
    head: tuple[bytes | Span, ...]
    tensors: tuple[Placed, ...]
    size: int

    @property
    def changes(self) -> bool:
        """Is there anything to compute?"""
        return any(not tensor.is_copied for tensor in self.tensors)


def plan(path: Path | str, target: FileType, *, requantize: bool = False) -> Plan:
    """The plan for one GGUF file.

    Args:
        path: of a model in one piece.
        target: what it is to become.
        requantize: weights that are quantised already may be quantised again, which costs quality twice.

    Raises:
        ModelDamaged: the file cannot be read, or is not a sound GGUF file.
        Unsupported: it cannot become this; says why, and what can be done instead.
    """
    header = read_header(path)
    return planned(header, read_spans(path), target, requantize=requantize)


def planned(header: Header, pairs: Mapping[str, Span], target: FileType, *, requantize: bool = False) -> Plan:
    """The plan for a file with this header, whose metadata pairs stand at these places. Pure.

    Raises:
        Unsupported: as :func:`plan`.
    """
    _expect_model(header)
    tensors = []
    due = 0
    for source, name in mixed(header, target):
        form = weight_type(name)
        size = source.count // form.block * form.size
        tensors.append(Placed(source, form, due, size, -size % header.alignment))
        due += size + tensors[-1].padding
    for tensor in tensors:
        _check(tensor, header.architecture, target, requantize=requantize)
    head = _head(pairs, tensors, target)
    before = sum(len(part) if isinstance(part, bytes) else part[1] - part[0] for part in head)
    fill = -before % header.alignment
    return Plan(
        target=target,
        head=(*head, bytes(fill)),
        tensors=tuple(tensors),
        size=before + fill + due,
    )


# What is refused


def _expect_model(header: Header) -> None:
    kind = "an adapter" if header.is_adapter else "a projector" if header.is_projector else ""
    if kind:
        raise Unsupported(f"{header.name}: only models are quantized, and this is {kind}", param="quantize")
    if header.parts > 1:
        raise Unsupported(f"{header.name}: a model in several files has to be merged first", param="quantize")
    if all(is_kept(tensor, header.architecture) for tensor in header.tensors):
        raise Unsupported(f"{header.name}: there are no weights in it that could be quantized", param="quantize")


def _check(tensor: Placed, architecture: str, target: FileType, *, requantize: bool) -> None:
    source = tensor.source
    if not is_kept(source, architecture):
        expect_no_matrix(source.name, tensor.type, target)
    if tensor.is_copied or source.type.name in READABLE:
        return
    if not is_quantized(source.type) or not source.type.runs:
        raise Unsupported(f"tensor {source.name!r} is of type {source.type.name}, not of weights", param="quantize")
    if not requantize:
        raise Unsupported(
            f"quantization is only supported for F16, BF16 and F32 models: tensor {source.name!r} is "
            f"{source.type.name} already, and cannot become {tensor.type.name}; take the model that it was made of",
            param="quantize",
        )


def expect_no_matrix(name: str, form: WeightType, target: FileType) -> None:
    """Checks that a tensor of this name can become of this type without an importance matrix.

    Raises:
        Unsupported: it would be noise.
    """
    needs = form.name in NEED_A_MATRIX or (target.name == "Q2_K_S" and form.name == "Q2_K")
    if needs and name not in SPARED:
        raise Unsupported(
            f"{target.name} needs an importance matrix: it would make {name!r} {form.name}, which is noise without "
            "one; IQ3_M, Q2_K and whatever is larger do without",
            param="quantize",
        )


# The head


def _head(pairs: Mapping[str, Span], tensors: Sequence[Placed], target: FileType) -> list[bytes | Span]:
    kept = [span for key, span in pairs.items() if key not in REPLACED and key not in SPLIT_KEYS]
    infos = (tensor_info(one.source.name, dimensions(one.source), one.type, one.offset) for one in tensors)
    version = number_pair("general.quantization_version", QUANTIZATION_VERSION)
    number = number_pair("general.file_type", target.number)
    counts = beginning(len(tensors), len(kept) + len(REPLACED))
    return [counts, *merged(kept), version + number + b"".join(infos)]
