"""A zip file's list of what is in it, its central directory. It is believed only as far as it fits the file.

From the end backwards: the end record (22 bytes and a comment that reaches to the last byte), for large archives
zip64's locator (20 bytes) and its own end record (56) before that, and right before those the directory::

    local header, data, [descriptor], local header, …, directory, [end record of zip64, locator], end record

Readers differ about everything that is not exactly so, which is how an archive shows one content to whoever checks it
and another to whoever unpacks it; here it is refused. The layouts are those of PKWARE's APPNOTE 6.3.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterator, Mapping

from msgspec import Struct

from localmodels.artifacts.archive.limits import check_entries, check_ratio, check_waste
from localmodels.artifacts.archive.reading import Source
from localmodels.artifacts.file_names import shown
from localmodels.core.errors import InvalidRequest, TooLarge, Unsupported

_END, _END64, _LOCATOR, _CENTRAL = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07", b"PK\x01\x02"
_END_LAYOUT = struct.Struct("<4s4H2IH")
_END64_LAYOUT = struct.Struct("<4sQ2H2I4Q")
_LOCATOR_LAYOUT = struct.Struct("<4sIQI")
_CENTRAL_LAYOUT = struct.Struct("<4s6H3I5H2I")
_LONGEST_COMMENT = 2**16 - 1
_LONGEST_DIRECTORY = 16 * 2**20  # 10,000 entries with 1,600 bytes each; what people pack needs 100

FULL16, FULL32 = 2**16 - 1, 2**32 - 1  # "the number is in the field of zip64"
STORED, DEFLATED = 0, 8
DESCRIPTOR = 1 << 3
_UTF8, _ENCRYPTED = 1 << 11, 1 | 1 << 6 | 1 << 13
_KNOWN_FLAGS = 0b110 | DESCRIPTOR | _UTF8  # and how hard deflate tried
_METHODS: Mapping[int, str] = {
    1: "Shrink", 6: "Implode", 9: "Deflate64", 12: "bzip2", 14: "LZMA", 93: "zstd", 94: "MP3", 95: "xz", 96: "JPEG",
    98: "PPMd", 99: "AES",
}  # fmt: skip
_ZIP64, _UNICODE_NAME = 0x0001, 0x7075
_KINDS: Mapping[int, str] = {
    stat.S_IFLNK: "a symbolic link", stat.S_IFIFO: "a named pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}  # fmt: skip
_DOS_VOLUME, _DOS_FOLDER = 0x08, 0x10

PACK_ANEW = "pack the folder anew (zip -r model.zip folder)"


class Item(Struct, frozen=True):
    """An entry as the directory has it: ``raw`` is its name in the file, ``packed`` its compressed bytes."""

    raw: bytes
    name: str
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    offset: int

    @property
    def folder(self) -> bool:
        """Is it a folder and no file?"""
        return self.name.endswith("/")


class _Ends(Struct, frozen=True):
    """What the end records say: how many entries, and where their list lies."""

    count: int
    size: int
    offset: int


def read_directory(source: Source) -> tuple[tuple[Item, ...], int]:
    """All entries, in the order in which they lie in the file, and where the directory begins.

    Raises:
        InvalidRequest: it is not sound.
        Unsupported: an entry is encrypted, packed in an unusual way, or neither file nor folder.
        TooLarge: it lists too much.
    """
    ends = _ends(source)
    check_entries(ends.count)
    if ends.size > _LONGEST_DIRECTORY:
        raise TooLarge(f"the archive's list of entries has {ends.size:,} bytes; {PACK_ANEW}")
    data = source.at(ends.offset, ends.size, "the archive's list of entries")
    items = tuple(_items(data, ends.count))
    return tuple(sorted(items, key=lambda item: item.offset)), ends.offset


def _ends(source: Source) -> _Ends:
    place, found = _find_end(source)
    _, disk, first, here, count, size, offset, _ = found
    locator = source.at(place - 20, 20) if place >= 20 else b""
    if locator.startswith(_LOCATOR):
        return _ends64(source, place - 20, locator, found)
    if FULL16 in {here, count} or FULL32 in {size, offset}:
        raise _unsound("its end record points to one of zip64 that is not there")
    if disk or first or here != count:
        raise _unsound("it is a part of an archive in several files")
    return _fitting(_Ends(count, size, offset), place)


def _find_end(source: Source) -> tuple[int, tuple[int, ...]]:
    """Where the end record is, and its fields. There must be exactly one whose comment fills the file."""
    length = min(source.size, _END_LAYOUT.size + _LONGEST_COMMENT)
    tail = source.at(source.size - length, length)
    found = []
    place = tail.find(_END)
    while place >= 0:
        if len(tail) - place >= _END_LAYOUT.size:
            fields = _END_LAYOUT.unpack_from(tail, place)
            if place + _END_LAYOUT.size + fields[-1] == len(tail):
                found.append((source.size - length + place, fields))
        place = tail.find(_END, place + 1)
    if len(found) != 1:
        raise _unsound("it has two ends" if found else "its end is missing or has something behind it")
    return found[0]


def _ends64(source: Source, place: int, locator: bytes, short: tuple[int, ...]) -> _Ends:
    """What zip64's end record says, which must lie right before its locator and agree with the ordinary one."""
    _, disk, start, disks = _LOCATOR_LAYOUT.unpack(locator)
    if disk or disks > 1 or start != place - _END64_LAYOUT.size:
        raise _unsound("its end record of zip64 is not where it should be")
    magic, length, _, _, here_disk, first, here, count, size, offset = _END64_LAYOUT.unpack(
        source.at(start, _END64_LAYOUT.size)
    )
    if magic != _END64 or length != _END64_LAYOUT.size - 12 or here_disk or first or here != count:
        raise _unsound("its end record of zip64 is none")
    fulls = (FULL16, FULL16, FULL32, FULL32)
    for told, full, value in zip(short[3:7], fulls, (here, count, size, offset), strict=True):
        if told not in {full, value}:
            raise _unsound("its two end records contradict each other")
    return _fitting(_Ends(count, size, offset), start)


def _fitting(ends: _Ends, stop: int) -> _Ends:
    if ends.offset + ends.size != stop:
        raise _unsound("its list of entries does not lie where its end record says")
    return ends


def _items(data: bytes, count: int) -> Iterator[Item]:
    at = 0
    for _ in range(count):
        if len(data) - at < _CENTRAL_LAYOUT.size or not data.startswith(_CENTRAL, at):
            raise _unsound("its list of entries ends before its time")
        fields = _CENTRAL_LAYOUT.unpack_from(data, at)
        raw_at = at + _CENTRAL_LAYOUT.size
        name_length, extra_length, comment_length = fields[10:13]
        extra_at = raw_at + name_length
        at = extra_at + extra_length + comment_length
        if at > len(data):
            raise _unsound("its list of entries ends before its time")
        yield _item(fields, data[raw_at:extra_at], data[extra_at : extra_at + extra_length])
    if at != len(data):
        raise _unsound("its list has more entries than its end record says")


def _item(fields: tuple[int, ...], raw: bytes, extra: bytes) -> Item:
    _, _, needed, flags, method, _, _, crc, packed, size, _, _, _, disk, _, attributes, offset = fields
    extras = read_extras(extra, raw)
    name = _name(raw, flags, extras)
    size, packed, offset = wide(extras.get(_ZIP64, b""), (size, packed, offset), name)
    item = Item(raw, name, flags, method, crc, packed, size, offset)
    if disk:
        raise _unsound("it is a part of an archive in several files")
    _check_readable(item, needed)
    _check_kind(item, attributes)
    if item.method == STORED and item.packed != item.size:
        raise InvalidRequest(f"{shown(name)} is stored, yet its two sizes differ; {PACK_ANEW}")
    check_ratio(shown(name), item.size, item.packed)
    check_waste(shown(name), item.size, item.packed)
    return item


def _check_readable(item: Item, needed: int) -> None:
    if item.flags & _ENCRYPTED:
        raise Unsupported(f"{shown(item.name)} is encrypted; pack the folder without a password")
    if item.flags & ~_KNOWN_FLAGS:
        raise Unsupported(f"{shown(item.name)} is packed in a way that is not read here; {PACK_ANEW}")
    if item.method not in {STORED, DEFLATED}:
        method = _METHODS.get(item.method, f"method {item.method}")
        raise Unsupported(f"{shown(item.name)} is packed with {method}; {PACK_ANEW}, stored or deflated")
    if needed & 0xFF > 63:  # the newest there is; above it, the number means nothing known
        raise Unsupported(f"{shown(item.name)} needs a newer zip than there is; {PACK_ANEW}")


def _check_kind(item: Item, attributes: int) -> None:
    """Files and folders only, whatever system the entry claims to come from; their modes are nobody's business."""
    mode = attributes >> 16
    kind = stat.S_IFMT(mode)
    expected = stat.S_IFDIR if item.folder else stat.S_IFREG
    if kind not in {0, expected}:
        what = _KINDS.get(kind, "a folder under a file's name" if kind == stat.S_IFDIR else "no ordinary file")
        raise Unsupported(f"{shown(item.name)} is {what}; only files and folders are taken, so put the file itself in")
    if not item.folder and mode & (stat.S_ISUID | stat.S_ISGID):
        raise Unsupported(f"{shown(item.name)} is a program with its owner's rights (setuid); leave it out")
    if attributes & _DOS_VOLUME or (attributes & _DOS_FOLDER and not item.folder):
        raise Unsupported(f"{shown(item.name)} is no ordinary file; leave it out")
    if item.folder and item.size:
        raise InvalidRequest(f"{shown(item.name)} is a folder with {item.size:,} bytes in it; {PACK_ANEW}")


def read_extras(extra: bytes, raw: bytes) -> dict[int, bytes]:
    """The extra fields of a header by their number; fewer than four zeros at the end are padding.

    Raises:
        InvalidRequest: they do not fit, or one that matters is there twice.
    """
    found: dict[int, bytes] = {}
    while len(extra) >= 4:
        number, length = struct.unpack_from("<2H", extra)
        if length > len(extra) - 4 or (number in found and number in {_ZIP64, _UNICODE_NAME}):
            raise _unsound(f"the extra fields of {shown(raw.decode(errors='replace'))} are damaged")
        found[number] = extra[4 : 4 + length]
        extra = extra[4 + length :]
    if extra.strip(b"\0"):
        raise _unsound(f"the extra fields of {shown(raw.decode(errors='replace'))} are damaged")
    return found


def wide(field: bytes, numbers: tuple[int, ...], name: str) -> tuple[int, ...]:
    """Numbers of 32 bits, each replaced by zip64's of 64 where it is full; the field has the full ones alone, in order.

    Raises:
        InvalidRequest: there are fewer than are needed.
    """
    full = [number == FULL32 for number in numbers]
    if sum(full) * 8 > len(field):
        raise InvalidRequest(f"{shown(name)} lacks its sizes of zip64; {PACK_ANEW}")
    values = iter(struct.unpack_from(f"<{sum(full)}Q", field))
    return tuple(next(values) if is_full else number for number, is_full in zip(numbers, full, strict=True))


def wide_sizes(extras: Mapping[int, bytes], size: int, packed: int, name: str) -> tuple[int, ...]:
    """The two sizes of a local header; see :func:`wide`."""
    return wide(extras.get(_ZIP64, b""), (size, packed), name)


def _name(raw: bytes, flags: int, extras: Mapping[int, bytes]) -> str:
    """A name as text: UTF-8 where the flag says so or it can be, else the original PC's characters."""
    try:
        name = raw.decode()
    except UnicodeDecodeError:
        if flags & _UTF8:
            raise InvalidRequest(f"{shown(raw.decode(errors='replace'))} is not a name in UTF-8; {PACK_ANEW}") from None
        name = raw.decode("cp437")
    other = extras.get(_UNICODE_NAME, b"")[5:]  # after a version and the crc of the raw name
    if other and other != name.encode():
        raise InvalidRequest(f"{shown(name)} has a second name, {shown(other.decode(errors='replace'))}; {PACK_ANEW}")
    return name


def _unsound(what: str) -> InvalidRequest:
    return InvalidRequest(f"not a sound zip file: {what}; upload it again, or {PACK_ANEW}")
