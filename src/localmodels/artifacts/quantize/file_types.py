"""What a whole file can be quantised to, by the names and numbers of llama.cpp.

A *file type* (``Q4_K_M``) is a recipe: most matrices become its ``main`` weight type (``Q4_K``), and
:mod:`.mixing` says which ones become something else. The rule: numbers and formats stand in
:mod:`localmodels.artifacts.gguf_header`; here is only which of them can be asked for.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from localmodels.artifacts.gguf_header import FILE_TYPES, WEIGHT_TYPES, WeightType
from localmodels.core.errors import InvalidRequest

NUMBERS: Mapping[str, int] = {weight_type.name: number for number, weight_type in WEIGHT_TYPES.items()}


def weight_type(name: str) -> WeightType:
    """The number format of this name, which must be one of ``WEIGHT_TYPES``."""
    return WEIGHT_TYPES[NUMBERS[name]]


def is_quantized(form: WeightType) -> bool:
    """Are its weights stored in blocks with a scale, and not one by one?"""
    return form.block > 1


class FileType(Struct, frozen=True):
    """A recipe for a file.

    Attributes:
        name: as llama.cpp calls it, ``Q4_K_M``.
        number: ``general.file_type`` in the file.
        main: weight type of most matrices.
        needs_matrix: an ordinary model needs an importance matrix for it, which cannot be given here.
    """

    name: str
    number: int
    main: str
    needs_matrix: bool = False


# llama_ftype_get_default_type in llama.cpp b11549. The order is llama-quantize's: by size, smallest first in a family.
_MAIN: Mapping[str, str] = {
    "F32": "F32",
    "F16": "F16",
    "BF16": "BF16",
    "Q8_0": "Q8_0",
    "Q6_K": "Q6_K",
    "Q5_K_M": "Q5_K",
    "Q5_K_S": "Q5_K",
    "Q5_1": "Q5_1",
    "Q5_0": "Q5_0",
    "Q4_K_M": "Q4_K",
    "Q4_K_S": "Q4_K",
    "Q4_1": "Q4_1",
    "Q4_0": "Q4_0",
    "IQ4_NL": "IQ4_NL",
    "IQ4_XS": "IQ4_XS",
    "MXFP4_MOE": "MXFP4",
    "Q3_K_L": "Q3_K",
    "Q3_K_M": "Q3_K",
    "Q3_K_S": "Q3_K",
    "IQ3_M": "IQ3_S",
    "IQ3_S": "IQ3_S",
    "IQ3_XS": "IQ3_S",
    "IQ3_XXS": "IQ3_XXS",
    "Q2_K": "Q2_K",
    "Q2_K_S": "Q2_K",
    "IQ2_M": "IQ2_S",
    "IQ2_S": "IQ2_XS",
    "IQ2_XS": "IQ2_XS",
    "IQ2_XXS": "IQ2_XXS",
    "Q2_0": "Q2_0",
    "TQ2_0": "TQ2_0",
    "TQ1_0": "TQ1_0",
    "IQ1_M": "IQ1_M",
    "IQ1_S": "IQ1_S",
    "Q1_0": "Q1_0",
}

_NEEDS_MATRIX = frozenset({"IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS", "IQ3_XS", "Q2_K_S"})
_FILE_NUMBERS: Mapping[str, int] = {name: number for number, name in FILE_TYPES.items()}

TARGETS: Mapping[str, FileType] = {
    name: FileType(name, _FILE_NUMBERS[name], main, name in _NEEDS_MATRIX) for name, main in _MAIN.items()
}
ALIASES: Mapping[str, str] = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}


def read_file_type(name: str) -> FileType:
    """The file type that a request names, in any case.

    Raises:
        InvalidRequest: there is none of this name.
    """
    wanted = name.strip().upper()
    found = TARGETS.get(ALIASES.get(wanted, wanted))
    if found is None:
        known = ", ".join(sorted(TARGETS, key=_bits, reverse=True))
        raise InvalidRequest(
            f"unsupported quantization type {name[:40]} - supported types are {known}", param="quantize"
        )
    return found


def _bits(name: str) -> float:
    main = weight_type(_MAIN[name])
    return main.size * 8 / main.block
