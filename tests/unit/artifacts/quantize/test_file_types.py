from __future__ import annotations

import pytest

from localmodels.artifacts.gguf_header import FILE_TYPES
from localmodels.artifacts.quantize.file_types import NUMBERS, TARGETS, is_quantized, read_file_type, weight_type
from localmodels.core.errors import InvalidRequest


@pytest.mark.parametrize(
    ("asked", "name", "number", "main"),
    [
        ("Q4_K_M", "Q4_K_M", 15, "Q4_K"),
        ("q4_k_m", "Q4_K_M", 15, "Q4_K"),
        ("Q4_K", "Q4_K_M", 15, "Q4_K"),
        ("q3_K", "Q3_K_M", 12, "Q3_K"),
        (" Q5_K ", "Q5_K_M", 17, "Q5_K"),
        ("q8_0", "Q8_0", 7, "Q8_0"),
        ("f32", "F32", 0, "F32"),
        ("bf16", "BF16", 32, "BF16"),
        ("IQ2_S", "IQ2_S", 28, "IQ2_XS"),
        ("IQ3_M", "IQ3_M", 27, "IQ3_S"),
        ("mxfp4_moe", "MXFP4_MOE", 38, "MXFP4"),
        ("Q2_0", "Q2_0", 41, "Q2_0"),
    ],
)
def test_names_are_llama_cpps_in_any_case(asked: str, name: str, number: int, main: str) -> None:
    found = read_file_type(asked)
    assert (found.name, found.number, found.main) == (name, number, main)


@pytest.mark.parametrize("asked", ["", "Q4", "Q4_K_XL", "COPY", "15", "NVFP4", "Q8_1", "x" * 1000])
def test_what_is_none_is_refused_with_those_that_are(asked: str) -> None:
    with pytest.raises(InvalidRequest, match="supported types are F32, F16, BF16, Q8_0") as refused:
        read_file_type(asked)
    assert refused.value.param == "quantize"
    assert len(refused.value.message) < 500


def test_every_file_type_of_llama_cpp_can_be_asked_for_but_one_that_it_cannot_make_either() -> None:
    assert set(FILE_TYPES.values()) - set(TARGETS) == {"NVFP4"}


def test_main_types_exist_and_all_but_three_are_in_blocks() -> None:
    assert all(target.main in NUMBERS for target in TARGETS.values())
    assert {name for name, target in TARGETS.items() if not is_quantized(weight_type(target.main))} == {
        "F32", "F16", "BF16",
    }  # fmt: skip
