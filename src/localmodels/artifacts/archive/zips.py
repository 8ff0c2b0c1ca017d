"""Reads a zip file: the entries that :mod:`.zip_directory` lists, laid out without gap and without overlap.

The rule: entry by entry, the local header must repeat what the directory says, and the next entry begins where this one
ends. So the files of an archive together are not larger than the archive times the ratio that each may have, and what
checks looked at is what is unpacked (threat V-07: quoted and full overlaps).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from localmodels.artifacts.archive.limits import CHUNK
from localmodels.artifacts.archive.reading import Body, Bytes, Member, Source, Window, cut_short
from localmodels.artifacts.archive.zip_directory import (
    DESCRIPTOR,
    PACK_ANEW,
    STORED,
    Item,
    read_directory,
    read_extras,
    wide_sizes,
)
from localmodels.artifacts.file_names import shown
from localmodels.core.errors import InvalidRequest

_LOCAL, _DATA = b"PK\x03\x04", b"PK\x07\x08"
_LOCAL_LAYOUT = struct.Struct("<4s5H3I2H")
_DESCRIPTORS = {12: "<3I", 16: "<4x3I", 20: "<I2Q", 24: "<4xI2Q"}  # bytes: with and without a magic, of zip64 or not


class ZipArchive:
    """A zip file, as :class:`~.reading.Archive`.

    Raises:
        InvalidRequest: its directory is not sound.
        Unsupported, TooLarge: as :func:`~.zip_directory.read_directory`.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._items, self._end = read_directory(source)

    def walk(self) -> Iterator[tuple[Member, Body]]:
        """As :meth:`.reading.Archive.walk`."""
        due = 0
        starts = (*(item.offset for item in self._items), self._end)
        for item, following in zip(self._items, starts[1:], strict=True):
            if item.offset != due:
                raise _misplaced(item, item.offset - due)
            begin = self._begin(item)
            self._check_end(item, begin + item.packed, following)
            window = Window(self._source, begin, item.packed)
            body: Body = Stored(item, window) if item.method == STORED else Deflated(item, window)
            yield Member(item.name, item.size, item.folder), body
            due = following
        if due != self._end:
            raise InvalidRequest(f"the archive holds no files, or bytes that belong to none; {PACK_ANEW}")

    def _begin(self, item: Item) -> int:
        """Where the bytes of an entry begin, after checking what its local header says."""
        header = self._source.at(item.offset, _LOCAL_LAYOUT.size, shown(item.name))
        magic, _, flags, method, _, _, crc, packed, size, name_length, extra_length = _LOCAL_LAYOUT.unpack(header)
        rest = self._source.at(item.offset + _LOCAL_LAYOUT.size, name_length + extra_length, shown(item.name))
        if magic != _LOCAL or rest[:name_length] != item.raw:
            raise _contradiction(item, "name")
        if (flags, method) != (item.flags, item.method):
            raise _contradiction(item, "way of packing")
        size, packed = wide_sizes(read_extras(rest[name_length:], item.raw), size, packed, item.name)
        for told, true in ((crc, item.crc), (packed, item.packed), (size, item.size)):
            # A streaming writer does not know all of them yet: the descriptor behind the data does.
            if told != true and not (flags & DESCRIPTOR and not told):
                raise _contradiction(item, "size or checksum")
        return item.offset + _LOCAL_LAYOUT.size + len(rest)

    def _check_end(self, item: Item, end: int, following: int) -> None:
        """Between an entry's last byte and the next header lies its descriptor, if it has one, and nothing else."""
        gap = following - end
        if not item.flags & DESCRIPTOR:
            if gap:
                raise _misplaced(item, gap)
            return
        layout = _DESCRIPTORS.get(gap)
        if not gap:
            raise InvalidRequest(f"{shown(item.name)} lacks the sizes that should follow its data; {PACK_ANEW}")
        if layout is None:
            raise _misplaced(item, gap)
        data = self._source.at(end, gap, shown(item.name))
        if gap in {16, 24} and not data.startswith(_DATA):
            raise _misplaced(item, gap)
        if struct.unpack(layout, data) != (item.crc, item.packed, item.size):
            raise _contradiction(item, "size or checksum")


class _Checked:
    """Counts what comes out of an entry, and compares it at the end."""

    def __init__(self, item: Item) -> None:
        self._item = item
        self._left = item.size
        self._crc = 0

    def count(self, data: Bytes) -> Bytes:
        self._left -= len(data)
        self._crc = zlib.crc32(data, self._crc)
        if self._left < 0:
            raise InvalidRequest(f"{shown(self._item.name)} has more bytes than the archive says; {PACK_ANEW}")
        return data

    def finish(self) -> bytes:
        if self._left:
            raise InvalidRequest(f"{shown(self._item.name)} has fewer bytes than the archive says; {PACK_ANEW}")
        if self._crc != self._item.crc:
            raise InvalidRequest(
                f"{shown(self._item.name)} is damaged (its checksum differs); upload the archive again, or {PACK_ANEW}"
            )
        return b""


class Stored:
    """The bytes of an entry that is not compressed."""

    def __init__(self, item: Item, window: Window) -> None:
        self._window = window
        self._checked = _Checked(item)

    def read(self, most: int) -> Bytes:
        """As :meth:`.reading.Body.read`."""
        data = self._window.read(most)
        return self._checked.count(data) if data else self._checked.finish()


class Deflated:
    """The bytes of an entry that is."""

    def __init__(self, item: Item, window: Window) -> None:
        self._name = shown(item.name)
        self._window = window
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        self._pending: Bytes = b""
        self._checked = _Checked(item)

    def read(self, most: int) -> Bytes:
        """As :meth:`.reading.Body.read`."""
        while not self._inflate.eof:
            if not self._pending:
                self._pending = self._window.read(CHUNK)
                if not self._pending:
                    raise cut_short(self._name)
            try:
                data = self._inflate.decompress(self._pending, most)
            except zlib.error:
                raise InvalidRequest(f"{self._name} cannot be inflated; upload it again, or {PACK_ANEW}") from None
            self._pending = self._inflate.unconsumed_tail
            if data:
                return self._checked.count(data)
        if self._inflate.unused_data or self._window.left:
            raise InvalidRequest(f"{self._name} has bytes behind its end; {PACK_ANEW}")
        return self._checked.finish()


def _misplaced(item: Item, gap: int) -> InvalidRequest:
    if gap < 0:
        return InvalidRequest(f"{shown(item.name)} overlaps another entry; {PACK_ANEW}")
    return InvalidRequest(f"beside {shown(item.name)} lie {gap:,} bytes that belong to no entry; {PACK_ANEW}")


def _contradiction(item: Item, what: str) -> InvalidRequest:
    return InvalidRequest(
        f"{shown(item.name)} has another {what} in the archive's list than beside its data; {PACK_ANEW}"
    )
