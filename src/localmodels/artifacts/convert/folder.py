"""The folder that a training run left, as a value: its files by name, its JSON, its tensors. Reads, and writes nothing.

The rule: only what is named is opened, only as what it is meant to be, and what a file says of itself is bounded first.
Nothing in here is ever executed: weights are safetensors, everything else is JSON or text. A folder whose weights are
pickles is refused, and so is any file that is another thing than its name says.

Weights are mapped, so that a view of a tensor costs nothing. A mapped file that somebody cuts kills the process, which
is why :meth:`Folder.tensor` is for a child process alone; everything else here reads.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from localmodels.artifacts.convert.safetensors import Stored, disguise, open_file, read_safetensors
from localmodels.artifacts.model_files import ADAPTER_WEIGHTS, INDEX, USE_SAFETENSORS, is_pickle
from localmodels.core.errors import InvalidRequest, ModelDamaged, Unsupported

Tensor = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]

# BF16 has no type in NumPy: its bits are the upper half of an F32's. FP8 likewise comes as bytes.
_DTYPES: Mapping[str, str] = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "F8_E4M3": "u1", "F8_E5M2": "u1", "F8_E8M0": "u1",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1",
    "BOOL": "?",
}  # fmt: skip

LONGEST_TEXT = 16 * 2**20
LONGEST_TOKENIZER = 64 * 2**20  # the largest known, Gemma 3's, has 33 MB
_TOKENIZERS = frozenset({"tokenizer.json", "vocab.json"})
MOST_FILES = 10_000
MOST_VALUES = 2**19  # in a JSON file, by its commas: each value takes 64 bytes and more, whatever it is

SINGLE = ("model.safetensors", ADAPTER_WEIGHTS)


class Folder:
    """Files of one model.

    Args:
        files: path by name, the name relative to the folder and with ``/``: ``1_Pooling/config.json``. They may lie
            anywhere, as blobs do.
        name: what errors and titles call it.
    """

    def __init__(self, files: Mapping[str, Path], *, name: str = "model") -> None:
        self.name = name
        self._files = dict(files)
        self._tensors: dict[str, Stored] | None = None
        self._maps: dict[str, mmap.mmap] = {}

    @classmethod
    def of(cls, directory: Path | str) -> Folder:
        """The files of a directory and those one level below, without links.

        Raises:
            ModelDamaged: it cannot be read.
            InvalidRequest: there are too many files.
        """
        root = Path(directory)
        try:
            paths = [path for pattern in ("*", "*/*") for path in root.glob(pattern)]
        except OSError as error:
            raise ModelDamaged(f"{root.name}: cannot be read ({error.strerror})") from error
        if len(paths) > MOST_FILES:
            raise InvalidRequest(f"{root.name}: {len(paths)} files, at most {MOST_FILES} are allowed")
        files = {path.relative_to(root).as_posix(): path for path in paths if not path.is_symlink() and path.is_file()}
        return cls(files, name=root.name)

    @property
    def names(self) -> tuple[str, ...]:
        """Of all files, sorted."""
        return tuple(sorted(self._files))

    def has(self, name: str) -> bool:
        """Is there a file of this name?"""
        return name in self._files

    # Texts

    def read_bytes(self, name: str) -> bytes:
        """A whole small file.

        Raises:
            ModelDamaged: it is not there, cannot be read, or is too large to be what its name says.
        """
        if name not in self._files:
            raise ModelDamaged(f"{name}: missing in the folder")
        longest = LONGEST_TOKENIZER if name in _TOKENIZERS else LONGEST_TEXT
        descriptor = open_file(self._files[name], name)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            if os.fstat(descriptor).st_size > longest:
                raise ModelDamaged(f"{name}: larger than {longest >> 20} MiB, which such a file never is")
            return file.read(longest)

    def read_text(self, name: str) -> str:
        """A whole small file as text.

        Raises:
            ModelDamaged: as :meth:`read_bytes`, or it is not UTF-8.
            Unsupported: it is a program in disguise.
        """
        raw = self.read_bytes(name)
        what = disguise(raw)
        if what:
            raise Unsupported(f"{name}: this is {what}, not a text")
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise ModelDamaged(f"{name}: not a text in UTF-8 (at byte {error.start})") from error

    def read_json(self, name: str) -> Any:
        """What a JSON file says.

        Raises:
            ModelDamaged: as :meth:`read_text`, or it is not JSON.
            Unsupported: it is a program in disguise.
        """
        text = self.read_text(name)
        values = text.count(",")
        if values > MOST_VALUES:
            raise ModelDamaged(f"{name}: {values} values, at most {MOST_VALUES} are allowed in such a file")
        try:
            return msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError) as error:
            raise ModelDamaged(f"{name}: not JSON ({error})") from error

    def read_object(self, name: str) -> dict[str, Any]:
        """What a JSON file says that holds an object; an empty one if there is no such file.

        Raises:
            ModelDamaged: as :meth:`read_json`, or it holds something else.
            Unsupported: it is a program in disguise.
        """
        if not self.has(name):
            return {}
        found = self.read_json(name)
        if not isinstance(found, dict):
            raise ModelDamaged(f"{name}: must hold an object, not {type(found).__name__}")
        return found

    # Tensors

    def tensors(self) -> Mapping[str, Stored]:
        """All tensors by name, of all shards, after checking that every shard is there and sound.

        Raises:
            ModelDamaged: a file cannot be read, is not sound, or is missing; a tensor is there twice.
            Unsupported: there are no safetensors, or a file is something else than its name says.
        """
        if self._tensors is None:
            self._tensors = self._read_tensors()
        return self._tensors

    def tensor(self, name: str) -> Tensor:
        """A read-only view of a tensor, as it lies in the file. BF16 comes as ``uint16``: see :func:`floats`.

        Raises:
            ModelDamaged: there is none of this name, or its file has become shorter.
        """
        stored = self.tensors().get(name)
        if stored is None:
            raise ModelDamaged(f"tensor {name!r} is missing in the folder")
        dtype = np.dtype(_DTYPES[stored.dtype])
        count = stored.size // dtype.itemsize
        if not count:
            return np.empty(stored.shape, dtype)
        mapped = self._mapped(stored.file)
        if len(mapped) < stored.stop:
            raise ModelDamaged(f"{stored.file}: became shorter while it was read")
        return np.frombuffer(mapped, dtype, count, stored.start).reshape(stored.shape)

    def floats(self, name: str) -> Floats:
        """The weights of a tensor as 32-bit floats, a copy (but for F32, of which it is a view).

        Raises:
            ModelDamaged: as :meth:`tensor`.
            Unsupported: they are not floats.
        """
        stored = self.tensors().get(name)
        return widened(self.tensor(name), stored.dtype if stored else "", name)

    def forget(self, name: str, weights: Tensor) -> None:
        """Lets the system take back the memory in which these weights of a tensor are mapped; they can be read again.

        Nothing happens to weights that are a copy.
        """
        stored = self.tensors().get(name)
        mapped = self._maps.get(stored.file) if stored else None
        if stored is None or mapped is None:
            return
        start = weights.ctypes.data - np.frombuffer(mapped, np.uint8).ctypes.data
        stop = min(start + weights.nbytes, stored.stop)
        if start < stored.start:
            return
        start = start // mmap.PAGESIZE * mmap.PAGESIZE  # what shares a page is read once more
        if stop > start:
            mapped.madvise(mmap.MADV_DONTNEED, start, stop - start)

    def _mapped(self, file: str) -> mmap.mmap:
        if file not in self._maps:
            descriptor = open_file(self._files[file], file)
            try:
                self._maps[file] = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
            except (OSError, ValueError) as error:
                raise ModelDamaged(f"{file}: cannot be read ({error})") from error
            finally:
                os.close(descriptor)
        return self._maps[file]

    def _read_tensors(self) -> dict[str, Stored]:
        found: dict[str, Stored] = {}
        for file in self._shards():
            for stored in read_safetensors(self._files[file], file):
                if stored.name in found:
                    raise ModelDamaged(f"tensor {stored.name!r} is in {found[stored.name].file} and in {file}")
                found[stored.name] = stored
        if not found:
            raise ModelDamaged("there are no weights in the folder")
        return found

    def _shards(self) -> tuple[str, ...]:
        """The files that hold the weights: those that the index names, or the one file, or all there are."""
        if self.has(INDEX):
            return self._indexed()
        for name in SINGLE:
            if self.has(name):
                return (name,)
        shards = tuple(name for name in self.names if name.endswith(".safetensors") and "/" not in name)
        if shards:
            return shards
        raise Unsupported(self._without_weights())

    def _indexed(self) -> tuple[str, ...]:
        weights = self.read_object(INDEX).get("weight_map")
        if not isinstance(weights, dict) or not all(isinstance(file, str) for file in weights.values()):
            raise ModelDamaged(f"{INDEX}: 'weight_map' must say for each tensor in which file it is")
        named = set(weights.values())
        if len(named) > MOST_FILES:
            raise ModelDamaged(f"{INDEX}: {len(named)} files with weights, at most {MOST_FILES} are allowed")
        shards = tuple(sorted(named))
        missing = [name for name in shards if not self.has(name)]
        if missing:
            listed = ", ".join(f"{name:.60}" for name in missing[:5])
            raise ModelDamaged(
                f"of the {len(shards)} files with weights there are missing: {listed}"
                f"{' and more' if len(missing) > 5 else ''}"
            )
        return shards

    def _without_weights(self) -> str:
        pickles = [name for name in self.names if is_pickle(name)]
        if pickles:
            return f"{pickles[0]}: {USE_SAFETENSORS}"
        if any(name.endswith(".gguf") for name in self.names):
            return "there are no safetensors in the folder, only GGUF, which needs no conversion"
        return "there are no safetensors in the folder, so there is nothing to convert"


def widened(weights: Tensor, dtype: str, name: str) -> Floats:
    """Weights as 32-bit floats.

    Args:
        weights: as :meth:`Folder.tensor` gives them.
        dtype: of the tensor in the file.
        name: of the tensor, for the error.

    Raises:
        Unsupported: they are not floats.
    """
    convert = _WIDEN.get(dtype)
    if convert is None:
        raise Unsupported(f"tensor {name!r} is of type {dtype}; F32, F16 and BF16 are converted")
    return convert(weights)


def _from_bf16(weights: Tensor) -> Floats:
    return (weights.astype(np.uint32) << np.uint32(16)).view(np.float32)


def _from_f64(weights: Tensor) -> Floats:
    with np.errstate(over="ignore"):  # what becomes infinite is refused where weights are looked at
        return weights.astype(np.float32)


_WIDEN: Mapping[str, Callable[[Tensor], Floats]] = {
    "F32": lambda weights: weights.view(np.float32),
    "F16": lambda weights: weights.astype(np.float32),
    "BF16": _from_bf16,
    "F64": _from_f64,
}
