"""Reads the head of a GGUF file, versions 2 and 3, little-endian. One rule: no number is used before it was bounded.

Whoever can upload a model can write these bytes (threat V-15: five engines read or allocated whatever a header told
them to). So every count is compared with the bytes that are left before anything is done with it, and what cannot be
true is refused by name: a file that is refused here is never handed to the native engine.

The layout, all little-endian; a string is a u64 length and UTF-8::

    magic "GGUF" | version u32 | tensors u64 | pairs u64
    pairs    × ( key string | type u32 | value )              an array: type u32 | length u64 | items
    tensors  × ( name string | dimensions u32 | u64 × dimensions | type u32 | offset u64 )
    padding to the alignment | weights, each padded to the alignment, in the same order

The file is read through a window, not mapped: a file that somebody cuts while it is mapped kills the process. Only
what is asked for stays in memory; long arrays are stepped over. A vocabulary of 150,000 tokens takes about 0.1 s, so a
caller who lists models keeps what he was told, by the file's identity, size and time of change (or by its digest).
"""

from __future__ import annotations

import os
import re
import stat
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Final, NoReturn

from msgspec import Struct, structs

from localmodels.artifacts.gguf_header import MIDDLE_FILLERS, WEIGHT_TYPES, Array, Header, TensorInfo, Value
from localmodels.artifacts.gguf_rules import complaint
from localmodels.core.errors import ModelDamaged
from localmodels.core.spans import Span

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32

# Bounds. Those with a source are Ollama's (fs/ggml/gguf.go); the others lie well above any model known: the largest
# vocabularies have 262,144 tokens and 514,906 merges, the largest heads 40 MB, the most tensors some thousands.
LONGEST_STRING = 16 * 2**20  # Ollama
MOST_ITEMS = 64 * 2**20  # Ollama; numbers, stepped over at once
MOST_STRINGS = 2 * 2**20  # each has to be walked: a second on a slow machine
MOST_TOKENS = 2**19
MOST_PAIRS = 2**16
MOST_TENSORS = 2**16
LONGEST_NAME = 63  # of a tensor: GGML_MAX_NAME - 1
MOST_DIMENSIONS = 4  # GGML_MAX_DIMS
LONGEST_HEAD = 256 * 2**20
MOST_TEXT = 32 * 2**20  # kept in memory, all values together
KEPT_ITEMS = 4096  # an array up to this length is a value; llama.cpp has at most 512 layers

_WINDOW: Final = 2**20
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_STRING, _ARRAY = 8, 9
_SMALLEST_PAIR = 8 + 1 + 4 + 1
_SMALLEST_TENSOR = 8 + 1 + 4 + 4 + 8


class _Scalar(Struct, frozen=True):
    name: str
    format: struct.Struct


_SCALARS: Mapping[int, _Scalar] = {
    0: _Scalar("u8", struct.Struct("<B")),
    1: _Scalar("i8", struct.Struct("<b")),
    2: _Scalar("u16", struct.Struct("<H")),
    3: _Scalar("i16", struct.Struct("<h")),
    4: _Scalar("u32", _U32),
    5: _Scalar("i32", struct.Struct("<i")),
    6: _Scalar("f32", struct.Struct("<f")),
    7: _Scalar("bool", struct.Struct("<?")),
    10: _Scalar("u64", _U64),
    11: _Scalar("i64", struct.Struct("<q")),
    12: _Scalar("f64", struct.Struct("<d")),
}

_PART = re.compile(r"(?P<stem>.+)-(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})\.gguf")


def read_header(path: Path | str) -> Header:
    """Reads everything before the weights and checks that llama.cpp can live with it.

    Of a split model, ``path`` is the first file; the others are read too, and the answer is about the whole.

    Raises:
        ModelDamaged: the file cannot be read, is not a sound GGUF file, or would bring the engine down.
    """
    return join([read_part(file) for file in parts(path)])


def read_part(path: Path | str) -> Header:
    """The same of one file alone, which may be a part of a split model; nobody asks what llama.cpp would make of it.

    Raises:
        ModelDamaged: the file cannot be read, or is not a sound GGUF file.
    """
    path = Path(path)
    with _opened(path) as file:
        return _Parser(_Reader(file, path.name, _size(file, path.name))).header()


def join(headers: Sequence[Header]) -> Header:
    """One header for all files of a model, in order, after checking that llama.cpp can live with it.

    Raises:
        ModelDamaged: they are not all parts of one model, or it would bring the engine down.
    """
    whole = headers[0] if len(headers) == 1 and headers[0].split is None else _joined(headers)
    wrong = complaint(whole)
    if wrong:
        raise ModelDamaged(f"{whole.name}: {wrong}")
    return whole


def parts(path: Path | str) -> tuple[Path, ...]:
    """The files of a model, the first being ``path``: one, or the set ``NAME-00001-of-0000N.gguf`` it begins.

    Raises:
        ModelDamaged: ``path`` is a later part, or a part is missing.
    """
    path = Path(path)
    match = _PART.fullmatch(path.name)
    if match is None:
        return (path,)
    count = int(match["count"])
    if int(match["number"]) != 1 or not count:
        raise ModelDamaged(f"{path.name}: a split model is loaded by its first part, {_part_name(match, 1)}")
    files = tuple(path.with_name(_part_name(match, number)) for number in range(1, count + 1))
    for file in files:
        if not file.exists():
            raise ModelDamaged(f"{file.name}: this part of the model is missing ({count} parts in all)")
    return files


def read_array(path: Path | str, array: Array) -> tuple[Value, ...]:
    """The items of an array that :func:`read_header` stepped over (in the first file of a split model).

    Raises:
        ModelDamaged: the file has changed since.
    """
    path = Path(path)
    with _opened(path) as file:
        reader = _Reader(file, path.name, _size(file, path.name), start=array.offset)
        if array.type == "string":
            return tuple(reader.string(f"item {i}").decode(errors="replace") for i in range(array.length))
        scalar = next(scalar for scalar in _SCALARS.values() if scalar.name == array.type)
        return reader.items(scalar.format, array.length, "an array")


def _part_name(match: re.Match[str], number: int) -> str:
    return f"{match['stem']}-{number:05}-of-{match['count']}.gguf"


def _joined(headers: Sequence[Header]) -> Header:
    """One header for the files of a split model, each of which must say so itself."""
    first = headers[0]
    for number, header in enumerate(headers):
        for key, due in (("split.count", len(headers)), ("split.no", number)):
            if header.metadata.get(key) != due:
                raise ModelDamaged(f"{header.name}: key '{key}' must be {due}, not {header.metadata.get(key)!r:.40}")
    tensors = [structs.replace(t, part=part) for part, header in enumerate(headers) for t in header.tensors]
    names: set[str] = set()
    for tensor in tensors:
        if tensor.name in names:
            raise ModelDamaged(f"{headers[tensor.part].name}: tensor '{tensor.name}' is in an earlier part too")
        names.add(tensor.name)
    size = sum(header.file_size for header in headers)
    return structs.replace(first, tensors=tuple(tensors), file_size=size, parts=len(headers))


def read_spans(path: Path | str) -> dict[str, Span]:
    """Where each pair of the metadata lies in a file: by key its first byte and one past its last.

    Raises:
        ModelDamaged: the file cannot be read, or is not a sound GGUF file.
    """
    path = Path(path)
    with _opened(path) as file:
        parser = _Parser(_Reader(file, path.name, _size(file, path.name)))
        parser.header()
        return parser.spans


def _opened(path: Path) -> BinaryIO:
    try:
        # Not blocking: to open a pipe would wait for a writer.
        return os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0)
    except OSError as error:
        raise ModelDamaged(f"{path.name}: cannot be read ({error.strerror})") from error


def _size(file: BinaryIO, name: str) -> int:
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        raise ModelDamaged(f"{name}: not a file")
    return status.st_size


class _Reader:
    """A window on the file that moves forward. Every method that takes a count has compared it with what is left."""

    def __init__(self, file: BinaryIO, name: str, size: int, *, start: int = 0) -> None:
        self._file = file
        self._window = b""
        self._start = start  # of the window, in the file
        self._at = 0  # in the window
        self.name = name
        self.size = size
        self.end = min(size, LONGEST_HEAD)

    @property
    def position(self) -> int:
        return self._start + self._at

    @property
    def left(self) -> int:
        return self.end - self.position

    def damaged(self, what: str) -> NoReturn:
        raise ModelDamaged(f"{self.name}: {what} (at byte {self.position})")

    def need(self, count: int, what: str) -> None:
        """Brings the next ``count`` bytes into the window."""
        if self._at + count <= len(self._window):
            return
        if count > self.left:
            self.damaged(
                f"{what} does not fit into the first {LONGEST_HEAD >> 20} MiB, where it should be"
                if self.end < self.size
                else f"the file ends inside {what}"
            )
        self._start, self._at = self.position, 0
        self._file.seek(self._start)
        self._window = self._file.read(max(count, min(_WINDOW, self.left)))
        if len(self._window) < count:
            self.damaged("the file became shorter while it was read")

    def take(self, count: int, what: str) -> bytes:
        self.need(count, what)
        data = self._window[self._at : self._at + count]
        self._at += count
        return data

    def skip(self, count: int, what: str) -> None:
        if count > self.left:
            self.need(count, what)
        self._at += count  # perhaps beyond the window: the next `need` seeks
        if self._at > len(self._window):
            self._start, self._at, self._window = self.position, 0, b""

    def number(self, form: struct.Struct, what: str) -> int:
        (value,) = form.unpack(self.take(form.size, what))
        return int(value)

    def string(self, what: str, longest: int = LONGEST_STRING) -> bytes:
        length = self.number(_U64, what)
        if length > longest:
            self._at -= _U64.size
            self.damaged(f"{what} is {length} bytes long, at most {longest} are allowed")
        return self.take(length, what)

    def items(self, form: struct.Struct, count: int, what: str) -> tuple[Value, ...]:
        return tuple(item for (item,) in form.iter_unpack(self.take(count * form.size, what)))

    def skip_strings(self, count: int, what: str, see: Callable[[bytes], None] | None) -> None:
        """Steps over strings, showing each to ``see``. The inner loop is the whole cost of a vocabulary."""
        while count:
            self.need(min(_U64.size, self.left + 1), what)
            window, at, last = self._window, self._at, len(self._window) - _U64.size
            while count and at <= last:
                after = at + 8 + _U64.unpack_from(window, at)[0]
                if after > last + 8:
                    break
                if see is not None:
                    see(window[at + 8 : after])
                at = after
                count -= 1
            self._at = at
            if count and at <= last:  # this one reaches beyond the window
                text = self.string(what)
                count -= 1
                if see is not None:
                    see(text)


class _Vocabulary:
    """What a glance at each token tells: that two are the same, which aborts llama.cpp, and that some are known."""

    def __init__(self) -> None:
        self._hashes: set[int] = set()
        self._count = 0
        self.repeated = -1

    def see(self, token: bytes) -> None:
        # llama.cpp takes tokens for C strings: they end at a zero byte.
        if b"\0" in token:
            token = token[: token.index(b"\0")]
        # Hashes, since a million long tokens would not fit the memory that we allow ourselves.
        number = hash(token)
        if token and number in self._hashes and self.repeated < 0:
            self.repeated = self._count
        self._hashes.add(number)
        self._count += 1

    def known(self) -> tuple[str, ...]:
        return tuple(text for text in MIDDLE_FILLERS if hash(text.encode()) in self._hashes)


class _Parser:
    """One pass over one file, front to back."""

    def __init__(self, reader: _Reader) -> None:
        self._reader = reader
        self._text_left = MOST_TEXT
        self._strings_left = MOST_STRINGS
        self._vocabulary = _Vocabulary()
        self.spans: dict[str, Span] = {}  # of the metadata's pairs

    def header(self) -> Header:
        reader = self._reader
        version = self._version()
        tensor_count = self._count("tensors", MOST_TENSORS, _SMALLEST_TENSOR)
        pair_count = self._count("metadata pairs", MOST_PAIRS, _SMALLEST_PAIR)
        metadata = self._metadata(pair_count)
        alignment = self._alignment(metadata)
        raw = self._tensor_infos(tensor_count)
        data_offset = -(-reader.position // alignment) * alignment
        return Header(
            name=reader.name,
            version=version,
            metadata=metadata,
            tensors=self._placed(raw, data_offset, alignment),
            alignment=alignment,
            data_offset=data_offset,
            file_size=reader.size,
            known_tokens=self._vocabulary.known(),
            repeated_token=self._vocabulary.repeated,
        )

    def _version(self) -> int:
        reader = self._reader
        if reader.take(len(MAGIC), "the magic number") != MAGIC:
            raise ModelDamaged(f"{reader.name}: not a GGUF file")
        version = reader.number(_U32, "the version")
        if version not in VERSIONS:
            if version and not version & 0xFFFF:
                reader.damaged("a big-endian GGUF file; only little-endian ones run here")
            reader.damaged(f"GGUF version {version}; versions 2 and 3 can be read")
        return version

    def _count(self, what: str, most: int, smallest: int) -> int:
        count = self._reader.number(_U64, f"the number of {what}")
        if count > most or count * smallest > self._reader.left:
            self._reader.damaged(f"{count} {what} are more than this file can hold")
        return count

    # Metadata

    def _metadata(self, count: int) -> dict[str, Value]:
        metadata: dict[str, Value] = {}
        for index in range(count):
            start = self._reader.position
            key = self._key(f"key {index}")
            if key in metadata:
                self._reader.damaged(f"key {key!r:.80} is there twice")
            metadata[key] = self._value(key, self._reader.number(_U32, f"the type of key {key!r:.80}"))
            self.spans[key] = (start, self._reader.position)
        return metadata

    def _key(self, what: str, longest: int = 2**16 - 1) -> str:
        raw = self._reader.string(what, longest)
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            self._reader.damaged(f"{what} is not UTF-8")
        if not text:
            self._reader.damaged(f"{what} is empty")
        return text

    def _value(self, key: str, kind: int) -> Value:
        what = f"the value of key {key!r:.80}"
        if kind == _STRING:
            return self._text(what)
        if kind == _ARRAY:
            return self._array(key, what)
        scalar = _SCALARS.get(kind)
        if scalar is None:
            self._reader.damaged(f"{what} is of unknown type {kind}")
        return self._reader.items(scalar.format, 1, what)[0]

    def _text(self, what: str) -> str:
        raw = self._reader.string(what)
        self._text_left -= len(raw)
        if self._text_left < 0:
            self._reader.damaged(f"more than {MOST_TEXT >> 20} MiB of text in the metadata")
        return raw.decode(errors="replace")

    def _array(self, key: str, what: str) -> Value:
        reader = self._reader
        kind = reader.number(_U32, what)
        length = reader.number(_U64, what)
        if length > MOST_ITEMS:
            reader.damaged(f"{what} has {length} items, at most {MOST_ITEMS} are allowed")
        kept = length <= KEPT_ITEMS and not key.startswith("tokenizer.")
        if kind == _STRING:
            return self._strings(key, length, what, kept=kept)
        scalar = _SCALARS.get(kind)
        if scalar is None:
            reader.damaged(f"{what} is an array of {'arrays' if kind == _ARRAY else f'unknown type {kind}'}")
        if kept:
            return reader.items(scalar.format, length, what)
        array = Array(scalar.name, length, reader.position)
        reader.skip(length * scalar.format.size, what)
        return array

    def _strings(self, key: str, length: int, what: str, *, kept: bool) -> Value:
        reader = self._reader
        is_vocabulary = key == "tokenizer.ggml.tokens"
        self._strings_left -= length
        if self._strings_left < 0 or length * _U64.size > reader.left or (is_vocabulary and length > MOST_TOKENS):
            reader.damaged(f"{what} has {length} strings, more than this file can hold")
        if kept:
            return tuple(self._text(what) for _ in range(length))
        array = Array("string", length, reader.position)
        reader.skip_strings(length, what, self._vocabulary.see if is_vocabulary else None)
        return array

    def _alignment(self, metadata: Mapping[str, Value]) -> int:
        alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
        if type(alignment) is not int or alignment <= 0 or alignment & (alignment - 1):
            self._reader.damaged(f"key 'general.alignment' must be a power of two, not {alignment!r:.40}")
        return alignment

    # Tensors

    def _tensor_infos(self, count: int) -> list[TensorInfo]:
        infos = []
        names: set[str] = set()
        for index in range(count):
            info = self._tensor_info(index)
            if info.name in names:
                self._reader.damaged(f"tensor {info.name!r} is there twice")
            names.add(info.name)
            infos.append(info)
        return infos

    def _tensor_info(self, index: int) -> TensorInfo:
        reader = self._reader
        name = self._key(f"the name of tensor {index}", LONGEST_NAME)
        what = f"the description of tensor {name!r}"
        dimensions = reader.number(_U32, what)
        if dimensions > MOST_DIMENSIONS:
            reader.damaged(f"tensor {name!r} has {dimensions} dimensions, at most {MOST_DIMENSIONS} are possible")
        shape = tuple(reader.number(_U64, what) for _ in range(dimensions))
        kind = reader.number(_U32, what)
        offset = reader.number(_U64, what)
        form = WEIGHT_TYPES.get(kind)
        if form is None:
            reader.damaged(f"tensor {name!r} is of unknown type {kind}")
        count = 1
        for size in shape:
            count *= size
            if not 0 < count < 2**63:
                reader.damaged(f"tensor {name!r} has the impossible shape {list(shape)}")
        if (shape[0] if shape else 1) % form.block:
            reader.damaged(f"tensor {name!r}: rows of {shape[:1]} weights cannot be {form.name}")
        return TensorInfo(name, form, shape, offset, count // form.block * form.size)

    def _placed(self, tensors: list[TensorInfo], data_offset: int, alignment: int) -> tuple[TensorInfo, ...]:
        """The tensors with their places in the file, which must follow one another without gap or overlap."""
        placed = []
        due = 0
        for tensor in tensors:
            if tensor.offset != due:
                raise ModelDamaged(
                    f"{self._reader.name}: tensor {tensor.name!r} is at offset {tensor.offset} of the weights,"
                    f" where {due} is due"
                )
            start = data_offset + due
            if start + tensor.size > self._reader.size:
                raise ModelDamaged(
                    f"{self._reader.name}: tensor {tensor.name!r} ends at byte {start + tensor.size},"
                    f" the file at byte {self._reader.size}"
                )
            placed.append(structs.replace(tensor, offset=start))
            due += -(-tensor.size // alignment) * alignment
        return tuple(placed)


__all__ = [
    "Array",
    "Header",
    "TensorInfo",
    "join",
    "parts",
    "read_array",
    "read_header",
    "read_part",
    "read_spans",
]
