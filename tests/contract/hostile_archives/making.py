"""Archives written byte by byte, after the formats' descriptions and with no library, so that every field can lie."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence

from msgspec import Struct, structs

STORED, DEFLATED = 0, 8
UTF8, DESCRIPTOR = 1 << 11, 1 << 3
UNIX = 3 << 8 | 20
CONFIG = b'{"architectures": ["LlamaForCausalLM"]}'


class File(Struct, frozen=True, kw_only=True):
    """An entry of a zip file.

    Attributes:
        told, beside: fields that lie, in the directory and in the local header beside the data.
        packed: the bytes in the archive, if they are not ``data`` packed by ``method``.
        mode: of Unix, in the upper half of the attributes; ``dos`` the lower half.
        offset: of the local header, as the directory has it; -1: the truth.
        after: bytes behind the data: a descriptor, or what should not be there.
        hidden: the directory does not list it.
        phantom: only the directory lists it.
    """

    name: str | bytes = "config.json"
    data: bytes = CONFIG
    method: int = DEFLATED
    flags: int = 0
    mode: int = 0
    dos: int = 0
    made_by: int = UNIX
    packed: bytes | None = None
    told: Mapping[str, int] = {}
    beside: Mapping[str, int] = {}
    beside_name: str | bytes | None = None
    extra: bytes = b""
    beside_extra: bytes = b""
    offset: int = -1
    disk: int = 0
    after: bytes = b""
    hidden: bool = False
    phantom: bool = False


def deflated(data: bytes, level: int = 9) -> bytes:
    """As zip files have it, without head and checksum."""
    packer = zlib.compressobj(level, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def zip_of(
    *files: File,
    comment: bytes = b"",
    end: Mapping[str, int] = {},
    end64: Mapping[str, int] | None = None,
    locator: Mapping[str, int] = {},
    before: bytes = b"",
    gap: bytes = b"",
    behind: bytes = b"",
    more: bytes = b"",
) -> bytes:
    """A zip file.

    Args:
        files: in order.
        comment: behind the end record, which counts it.
        end: fields of the end record that lie: count, here, size, offset, comment.
        end64: likewise of zip64's, which is there if this is not None; and of its ``locator``.
        before, gap, behind: bytes before the first entry, before the directory, behind everything.
        more: entries that the directory has beyond those that are counted.
    """
    body = bytearray(before)
    directory = b""
    for file in files:
        begin = len(body)
        if not file.phantom:
            body += _local(file)
        if not file.hidden:
            directory += _central(file, begin)
    body += gap
    directory += more
    fields = {
        "here": sum(not file.hidden for file in files),
        "count": sum(not file.hidden for file in files),
        "size": len(directory),
        "offset": len(body),
        "comment": len(comment),
    }
    tail = b""
    if end64 is not None:
        wide = {**fields, "length": 44, **end64}
        tail = struct.pack(
            "<4sQ2H2I4Q", b"PK\x06\x06", wide["length"], 45, 45, 0, 0, wide["here"], wide["count"], wide["size"],
            wide["offset"],
        )  # fmt: skip
        place = len(body) + len(directory)
        tail += struct.pack("<4sIQI", b"PK\x06\x07", 0, locator.get("start", place), locator.get("disks", 1))
    told = {**fields, **end}
    tail += struct.pack(
        "<4s4H2IH", b"PK\x05\x06", told.get("disk", 0), 0, told["here"], told["count"], told["size"], told["offset"],
        told["comment"],
    )  # fmt: skip
    return bytes(body + directory + tail + comment + behind)


def _raw(name: str | bytes) -> bytes:
    return name.encode() if isinstance(name, str) else name


def _packed(file: File) -> bytes:
    if file.packed is not None:
        return file.packed
    return deflated(file.data) if file.method == DEFLATED else file.data


def _sizes(file: File) -> dict[str, int]:
    return {"crc": zlib.crc32(file.data), "packed": len(_packed(file)), "size": len(file.data)}


def _flags(file: File) -> int:
    return file.flags | (UTF8 if isinstance(file.name, str) and not file.name.isascii() else 0)


def _local(file: File) -> bytes:
    name = _raw(file.name if file.beside_name is None else file.beside_name)
    fields = {"flags": _flags(file), "method": file.method, **_sizes(file), **file.beside}
    head = struct.pack(
        "<4s5H3I2H", b"PK\x03\x04", 20, fields["flags"], fields["method"], 0, 0, fields["crc"], fields["packed"],
        fields["size"], len(name), len(file.beside_extra),
    )  # fmt: skip
    return head + name + file.beside_extra + _packed(file) + file.after


def _central(file: File, begin: int) -> bytes:
    name = _raw(file.name)
    fields = {**_sizes(file), **file.told}
    return (
        struct.pack(
            "<4s6H3I5H2I", b"PK\x01\x02", file.made_by, fields.get("needed", 20), _flags(file), file.method, 0, 0,
            fields["crc"], fields["packed"], fields["size"], len(name), len(file.extra), 0, file.disk, 0,
            (file.mode << 16 | file.dos) & 0xFFFFFFFF, begin if file.offset < 0 else file.offset,
        )
        + name
        + file.extra
    )  # fmt: skip


def with_descriptor(file: File, *, wide: bool = False, magic: bool = True, **lies: int) -> File:
    """The entry as a streaming writer leaves it: what is known afterwards stands behind the data."""
    sizes = {**_sizes(file), **lies}
    told = struct.pack("<I2Q" if wide else "<3I", sizes["crc"], sizes["packed"], sizes["size"])
    return structs.replace(
        file,
        flags=file.flags | DESCRIPTOR,
        beside={"crc": 0, "packed": 0, "size": 0, **file.beside},
        after=(b"PK\x07\x08" if magic else b"") + told,
    )


class Member(Struct, frozen=True, kw_only=True):
    """An entry of a tar file; ``size`` and ``head`` lie: what the header says, and bytes at places in it."""

    name: str | bytes = "config.json"
    data: bytes = CONFIG
    kind: bytes = b"0"
    mode: int = 0o644
    size: int | bytes | None = None
    link: bytes = b""
    magic: bytes = b"ustar\x0000"
    prefix: bytes = b""
    head: Mapping[int, bytes] = {}
    checksum: bytes | None = None
    pad: bool = True


def tar_of(*members: Member, end: bytes = bytes(1024)) -> bytes:
    """A tar file."""
    return b"".join(map(_member, members)) + end


def _member(member: Member) -> bytes:
    block = bytearray(512)
    name = _raw(member.name)
    assert len(name) <= 100
    size = len(member.data) if member.size is None else member.size
    fields: Sequence[tuple[int, bytes]] = (
        (0, name),
        (100, b"%07o" % member.mode),
        (108, b"0000000"),
        (116, b"0000000"),
        (124, size if isinstance(size, bytes) else b"%011o" % size),
        (136, b"00000000000"),
        (148, b" " * 8),
        (156, member.kind),
        (157, member.link),
        (257, member.magic),
        (345, member.prefix),
        *member.head.items(),
    )
    for at, value in fields:
        block[at : at + len(value)] = value
    block[148:156] = b"%06o\0 " % sum(block) if member.checksum is None else member.checksum
    return bytes(block) + member.data + bytes(-len(member.data) % 512 if member.pad else 0)


def pax(records: Mapping[str, str | bytes], *, kind: bytes = b"x", raw: bytes | None = None) -> Member:
    """An extension header of these records; or of anything."""
    return Member(name="PaxHeaders/x", kind=kind, data=b"".join(map(_record, records.items())) if raw is None else raw)


def _record(record: tuple[str, str | bytes]) -> bytes:
    key, value = record
    line = b" " + key.encode() + b"=" + _raw(value) + b"\n"
    length = len(line) + 1
    while len(line) + len(str(length)) != length:
        length += 1
    return str(length).encode() + line


def long_name(name: str | bytes) -> Member:
    """GNU's header for a name that does not fit."""
    return Member(name="././@LongLink", kind=b"L", data=_raw(name) + b"\0", magic=b"ustar  \0")
