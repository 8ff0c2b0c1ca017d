"""What is said between the child that unpacks and whoever started it.

The child says, one JSON line each: any number of :class:`Seen`, one :class:`Outline`, then for every file a
:class:`Head` with exactly its bytes behind it (and :class:`Seen` between files), and last one :class:`Whole`.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

# Python and its buffers take 40 MiB; the window of `zstd --ultra -22` or `--long`, the largest taken, 128 MiB.
MEMORY = 208 * 2**20

Format = Literal["zip", "tar", "tar.gz", "tar.zst", "gguf"]


class Job(Struct, frozen=True):
    """What is to be done.

    Attributes:
        path: of the uploaded file.
        name: by which errors call it; a GGUF file, which is no archive, comes out under it.
        most_bytes: that may come out.
        memory: bytes that the child may set aside.
        nice: how far the child gives way to others, from 0 (not at all) to 19.
    """

    path: str
    name: str
    most_bytes: int
    memory: int = MEMORY
    nice: int = 0


class Seen(Struct, frozen=True, tag="seen"):
    """A sign of life: how many bytes of the archive were worked through, in both walks together; only ever grows."""

    done: int


class Outline(Struct, frozen=True, tag="outline"):
    """What will come out; said when every entry was looked at and before the first byte of any.

    Attributes:
        format: what the file is; of ``gguf``, the one file that comes out is the uploaded one.
        files: how many.
        size: bytes of all of them.
        notes: what was passed over and why, in sentences.
    """

    format: Format
    files: int
    size: int
    notes: tuple[str, ...] = ()


class Head(Struct, frozen=True, tag="file"):
    """A file begins: its name, relative and with ``/``, and how many bytes follow."""

    name: str
    size: int


class Whole(Struct, frozen=True, tag="whole"):
    """Everything came."""

    files: int
