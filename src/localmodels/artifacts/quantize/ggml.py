"""ggml's own quantisers, through the C functions that the engine's wheel exports. For a child process alone.

The rule: whatever ggml asserts is checked before it is called, because a failed assertion ends the process; and sizes
and blocks of every type are compared with our table when the library is opened, so a newer wheel cannot make us write
beyond a buffer. The wheel's Python module is not imported: it would start the whole engine.

Where ggml has a slow and a fast way to the same bits, the fast one is taken: of F16 it is 20 times as fast to read, and
to square and add up all numbers is the fastest way to see that each is finite. What ends as other bits is left alone.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

from localmodels.artifacts.gguf_header import WEIGHT_TYPES, WeightType
from localmodels.artifacts.quantize.file_types import NUMBERS, is_quantized
from localmodels.core.errors import EngineError

WHEEL = "xllamacpp"
_MOST_AT_ONCE = 2**30  # bytes: ggml counts in 32 bits here

_Convert = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
_Dot = ctypes.CFUNCTYPE(
    None,
    ctypes.c_int,
    ctypes.POINTER(ctypes.c_float),
    ctypes.c_size_t,
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
)


class _Traits(ctypes.Structure):
    """``struct ggml_type_traits`` (ggml.h), up to the fields that we read."""

    _fields_ = (
        ("type_name", ctypes.c_char_p),
        ("blck_size", ctypes.c_int64),
        ("blck_size_interleave", ctypes.c_int64),
        ("type_size", ctypes.c_size_t),
        ("is_quantized", ctypes.c_bool),
        ("to_float", ctypes.c_void_p),
    )


class _CpuTraits(ctypes.Structure):
    """``struct ggml_type_traits_cpu`` (ggml-cpu.h), up to the field that we read."""

    _fields_ = (("from_float", ctypes.c_void_p), ("vec_dot", ctypes.c_void_p))


class Ggml:
    """The functions that turn weights from one type into another. Addresses are plain numbers.

    Each call lets other Python threads run, and may be made from several at once.

    Args:
        library: the shared object; see :func:`find_library`.

    Raises:
        EngineError: it cannot be loaded, or is not the one that this program was written for.
    """

    def __init__(self, library: Path) -> None:
        try:
            self._library = ctypes.CDLL(str(library))
            self._traits = self._library.ggml_get_type_traits
            self._quantize = self._library.ggml_quantize_chunk
            self._validate = self._library.ggml_validate_row_data
            self._needs_matrix = self._library.ggml_quantize_requires_imatrix
            self._cpu_traits = self._library.ggml_get_type_traits_cpu
            self._library.ggml_cpu_init()  # makes the tables that the fast ways may use
            from_f16: Callable[[int, int, int], None] = _Convert(("ggml_cpu_fp16_to_fp32", self._library))
            self._to_f16 = _Convert(("ggml_cpu_fp32_to_fp16", self._library))
        except (OSError, AttributeError) as error:
            raise EngineError(f"{library.name}: the engine's functions cannot be loaded ({error})") from error
        pointer, number, count = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
        self._traits.argtypes, self._traits.restype = [number], ctypes.POINTER(_Traits)
        self._quantize.argtypes = [number, pointer, pointer, count, count, count, pointer]
        self._quantize.restype = ctypes.c_size_t
        self._validate.argtypes, self._validate.restype = [number, pointer, ctypes.c_size_t], ctypes.c_bool
        self._needs_matrix.argtypes, self._needs_matrix.restype = [number], ctypes.c_bool
        self._cpu_traits.argtypes, self._cpu_traits.restype = [number], ctypes.POINTER(_CpuTraits)
        self._dots: dict[str, Callable[..., None]] = {
            name: _Dot(self._cpu_traits(NUMBERS[name]).contents.vec_dot) for name in ("F16", "F32")
        }
        self._readers = {**self._compared(library.name), "F16": from_f16}

    def is_sound(self, form: WeightType, data: int, size: int) -> bool:
        """Are these ``size`` bytes blocks of this type without a number that is none, or infinite?"""
        if size % form.size:
            raise ValueError(f"{size} bytes are no blocks of {form.name}")
        if form.name in self._dots and 0 < size < _MOST_AT_ONCE and self._is_surely_finite(form, data, size):
            return True
        return bool(self._validate(NUMBERS[form.name], data, size))

    def _is_surely_finite(self, form: WeightType, data: int, size: int) -> bool:
        """The sum of all squares is; large numbers may make it infinite though none of them is."""
        total = ctypes.c_float()
        self._dots[form.name](size // form.size, ctypes.byref(total), 0, data, 0, data, 0, 1)
        return math.isfinite(total.value)

    def widen(self, form: WeightType, data: int, floats: int, count: int) -> None:
        """Turns ``count`` weights of this type, at ``data``, into floats of 32 bits."""
        self._expect_blocks(form, count)
        self._readers[form.name](data, floats, count)

    def narrow(self, form: WeightType, floats: int, data: int, count: int) -> None:
        """Turns ``count`` floats into weights of this type, written to ``data``."""
        self._expect_blocks(form, count)
        number = NUMBERS[form.name]
        if self._needs_matrix(number):
            raise ValueError(f"{form.name} needs an importance matrix")
        if form.name == "F16":
            self._to_f16(floats, data, count)
            return
        if self._quantize(number, floats, data, 0, 1, count, None) != count // form.block * form.size:
            raise EngineError(f"ggml did not write {count} weights of {form.name}")

    def _expect_blocks(self, form: WeightType, count: int) -> None:
        if count <= 0 or count % form.block:
            raise ValueError(f"{count} weights are no blocks of {form.name}")

    def _compared(self, name: str) -> Mapping[str, Callable[[int, int, int], None]]:
        """What turns each type into floats, where something does."""
        readers: dict[str, Callable[[int, int, int], None]] = {}
        for number, form in WEIGHT_TYPES.items():
            traits = self._traits(number).contents
            found = (traits.type_name.decode().upper(), traits.blck_size, traits.type_size, traits.is_quantized)
            if found != (form.name, form.block, form.size, is_quantized(form)):
                raise EngineError(f"{name}: its type {number} is {found}, not {form}; another version of the engine")
            if traits.to_float:
                readers[form.name] = _Convert(traits.to_float)
        return readers


def find_library() -> Path:
    """The shared object of the engine's wheel.

    Raises:
        EngineError: the wheel is not installed.
    """
    spec = find_spec(WHEEL)
    places = (spec.submodule_search_locations or ()) if spec else ()
    found = [path for place in places for path in sorted(Path(place).glob(f"{WHEEL}*.so"))]
    if not found:
        raise EngineError(f"{WHEEL} is not installed; without it nothing can be quantized")
    return found[0]
