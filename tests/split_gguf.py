"""Splits GGUF files as llama.cpp's ``llama-gguf-split`` does, by what the reference library reads of them.

All metadata is in the first part, behind it the three keys of the split; the others have these keys alone. The tensors
follow one another in the order of the file, ``each`` to a part.
"""

from __future__ import annotations

import struct
from pathlib import Path

from gguf import GGUFReader

ALIGNMENT = 32
U16, I32 = 2, 5


def split_gguf(
    file: Path,
    directory: Path,
    stem: str = "model",
    *,
    each: int = 8,
    bare_first: bool = False,
    first_alignment: int = ALIGNMENT,
) -> list[Path]:
    """The parts of a file, written to a directory.

    Args:
        file: a model in one file.
        directory: where they go.
        stem: of their names: ``STEM-00001-of-0000N.gguf``.
        each: tensors in a part.
        bare_first: the first part has no tensors (``--no-tensor-first-split``).
        first_alignment: of the first part, which alone has the key that says so.
    """
    reader = GGUFReader(file)
    fields = [field for key, field in reader.fields.items() if not key.startswith("GGUF.")]
    pairs = b"".join(bytes(part) for field in fields for part in field.parts)
    groups = [reader.tensors[at : at + each] for at in range(0, len(reader.tensors), each)]
    if bare_first:
        groups.insert(0, [])
    paths = []
    for number, tensors in enumerate(groups):
        infos, data = b"", b""
        alignment = ALIGNMENT if number else first_alignment
        for tensor in tensors:
            name = tensor.name.encode()
            shape = [int(size) for size in tensor.shape]
            infos += struct.pack("<Q", len(name)) + name + struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
            infos += struct.pack("<IQ", int(tensor.tensor_type), len(data))
            data += tensor.data.tobytes()
            data += bytes(-len(data) % alignment)
        # In this order, since the tool learns last how many parts there are.
        split = key("split.no", U16, "<H", number) + key("split.tensors.count", I32, "<i", len(reader.tensors))
        split += key("split.count", U16, "<H", len(groups))
        own = pairs if number == 0 else b""
        count = (len(fields) if number == 0 else 0) + 3
        head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), count) + own + split + infos
        path = directory / f"{stem}-{number + 1:05}-of-{len(groups):05}.gguf"
        path.write_bytes(head + bytes(-len(head) % alignment) + data)
        paths.append(path)
    return paths


def key(name: str, kind: int, form: str, value: int) -> bytes:
    """A pair of the metadata."""
    return struct.pack("<Q", len(name)) + name.encode() + struct.pack("<I", kind) + struct.pack(form, value)
