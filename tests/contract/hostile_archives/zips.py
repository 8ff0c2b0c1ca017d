"""Zip files that lie about themselves, each in one way."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Mapping

from msgspec import structs
from tests.contract.hostile_archives.making import (
    CONFIG,
    DEFLATED,
    STORED,
    UTF8,
    File,
    deflated,
    with_descriptor,
    zip_of,
)

FULL = 2**32 - 1
_INNOCENT = File()
_STORED = File(method=STORED)
_TWO = (File(), File(name="tokenizer.json"))


def _extra64(*numbers: int) -> bytes:
    return struct.pack(f"<2H{len(numbers)}Q", 1, 8 * len(numbers), *numbers)


def _odd_ones() -> dict[str, File]:
    """One bad entry beside an innocent one."""
    unicode_name = struct.pack("<2HBI", 0x7075, 5 + 8, 1, zlib.crc32(b"a.json")) + b"../evil!"
    odd = {
        "a link": File(name="link.json", data=b"/etc/passwd", mode=0o120777),
        "a link by another system": File(name="link.json", data=b"/etc/passwd", mode=0o120777, made_by=20),
        "a link to a folder": File(name="a", data=b"..", mode=0o120777),
        "a named pipe": File(name="pipe.json", data=b"", mode=0o010644),
        "a device": File(name="null.json", data=b"", mode=0o020666),
        "a block device": File(name="sda.json", data=b"", mode=0o060660),
        "a socket": File(name="sock.json", data=b"", mode=0o140777),
        "a setuid file": File(name="su.json", mode=0o104755),
        "a setgid file": File(name="sg.json", mode=0o102755),
        "a folder under a file's name": File(name="a.json", mode=0o040755),
        "a file under a folder's name": File(name="a/", data=b"", mode=0o100644),
        "a folder with bytes": File(name="a/"),
        "a DOS folder under a file's name": File(name="a.json", dos=0x10),
        "a volume's label": File(name="a.json", dos=0x08),
        "an unknown kind": File(name="a.json", mode=0o170644),
        "an empty name": File(name=""),
        "a zero in a name": File(name=b"a.json\0.exe"),
        "a name that is no UTF-8": File(name=b"\xff\xfe.json", flags=UTF8),
        "an overlong form of a slash": File(name=b"..\xc0\xafevil.json", flags=UTF8),
        "a surrogate in a name": File(name=b"\xed\xa0\x80.json", flags=UTF8),
        "a second name": File(name="a.json", extra=unicode_name),
        "a password": File(name="a.json", flags=1),
        "a strong password": File(name="a.json", flags=1 | 1 << 6),
        "hidden headers": File(name="a.json", flags=1 << 13),
        "patched data": File(name="a.json", flags=1 << 5),
        "AES": File(name="a.json", method=99, flags=1),
        **{f"method {method}": File(name="a.json", method=method) for method in (1, 6, 9, 12, 14, 93, 95, 98, 1234)},
        "a version of nobody": File(name="a.json", told={"needed": 200}),
        "another disk": File(name="a.json", disk=3),
        "an extra field that is cut": File(name="a.json", extra=b"\x01\x00\xff\xff1234"),
        "an extra field twice": File(name="a.json", extra=_extra64(1) * 2),
        "an extra field of garbage": File(name="a.json", extra=b"abc"),
        "a checksum that is wrong": File(name="a.json", told={"crc": 1}, beside={"crc": 1}),
        "a checksum that is wrong, stored": File(name="a.json", method=STORED, told={"crc": 1}, beside={"crc": 1}),
        "data that cannot be inflated": File(name="a.json", packed=b"\xff" * 40),
        "data that do not end": File(name="a.json", packed=deflated(CONFIG)[:-3]),
        "data with something behind": File(name="a.json", packed=deflated(CONFIG) + b"evil"),
        "a size that is too small": File(name="a.json", told={"size": 4}, beside={"size": 4}),
        "a size that is too large": File(name="a.json", told={"size": 4000}, beside={"size": 4000}),
        "a size of four gigabytes": File(name="a.json", told={"size": FULL - 1}, beside={"size": FULL - 1}),
        "sizes that differ, stored": File(name="a.json", method=STORED, told={"size": 4}, beside={"size": 4}),
        "a packed size beyond the file": File(name="a.json", told={"packed": 10**6, "size": 10**6}),
        "a packed size of nothing": File(name="a.json", told={"packed": 0}, beside={"packed": 0}),
        "zip64 without its numbers": File(name="a.json", told={"size": FULL}),
        "zip64 with too few numbers": File(name="a.json", told={"size": FULL, "packed": FULL}, extra=_extra64(5)),
        "zip64 of 2^63": File(name="a.json", told={"size": FULL}, extra=_extra64(2**63)),
        "zip64 of 2^64-1": File(name="a.json", told={"packed": FULL}, extra=_extra64(2**64 - 1)),
        "an offset of 2^64-1": File(name="a.json", offset=FULL, extra=_extra64(2**64 - 1)),
        "zip64 that differs beside the data": File(
            name="a.json", beside={"size": FULL, "packed": FULL}, beside_extra=_extra64(7, 8)
        ),
        "another name beside the data": File(name="a.json", beside_name="b.json"),
        "a climbing name beside the data": File(name="aaaaaaa.json", beside_name="../evil.json"),
        "another method beside the data": File(name="a.json", beside={"method": STORED}),
        "another flag beside the data": File(name="a.json", beside={"flags": 1}),
        "another size beside the data": File(name="a.json", beside={"size": 7}),
        "another packed size beside the data": File(name="a.json", beside={"packed": 7}),
        "another checksum beside the data": File(name="a.json", beside={"crc": 7}),
        "zeros beside the data without a descriptor": File(name="a.json", beside={"crc": 0, "size": 0, "packed": 0}),
        "a descriptor that is missing": File(name="a.json", flags=1 << 3),
        "a descriptor that lies": with_descriptor(File(name="a.json"), size=5),
        "a descriptor with another checksum": with_descriptor(File(name="a.json"), wide=True, crc=5),
        "a descriptor with another magic": structs.replace(
            with_descriptor(File(name="a.json")), after=b"PK\x07\x09" + bytes(12)
        ),
        "a descriptor nobody announced": structs.replace(with_descriptor(File(name="a.json")), flags=0),
        "bytes behind the data": File(name="a.json", after=b"evil"),
        "an entry that is not there": File(name="a.json", phantom=True),
        "an entry that is not listed": File(name="../evil.json", hidden=True),
        "an offset into another entry": File(name="a.json", offset=3),
        "an offset beyond the end": File(name="a.json", offset=10**8),
        "packed data that hold nothing": File(name="a.json", packed=b"\0\0\0\xff\xff" * 10_000 + deflated(CONFIG)),
    }
    return {f"a zip with {what}": file for what, file in odd.items()}


def _whole_archives() -> dict[str, Callable[[], bytes]]:
    good = zip_of(*_TWO)
    central = good.index(b"PK\x01\x02")
    made: Mapping[str, Callable[[], bytes]] = {
        "nothing in it": zip_of,
        "an end record alone": lambda: b"PK\x05\x06" + bytes(18),
        "a local header alone": lambda: b"PK\x03\x04" + bytes(26),
        "garbage behind a magic": lambda: b"PK\x03\x04" + os.urandom(5000),
        "something before it": lambda: zip_of(*_TWO, before=b"PK\x03\x04 this is no header"),
        "something before its list": lambda: zip_of(*_TWO, gap=b"hidden"),
        "something behind it": lambda: zip_of(*_TWO, behind=b"evil"),
        "another zip behind it": lambda: good + good,
        "another zip in its comment": lambda: zip_of(*_TWO, comment=zip_of(File(name="b.json"))),
        "an end in its comment": lambda: zip_of(*_TWO, comment=b"PK\x05\x06" + bytes(18)),
        "a comment that is cut": lambda: zip_of(*_TWO, comment=b"hello", end={"comment": 50}),
        "a comment that is longer": lambda: zip_of(*_TWO, comment=b"hello", end={"comment": 2}),
        "fewer entries than listed": lambda: zip_of(*_TWO, end={"count": 1, "here": 1}),
        "more entries than listed": lambda: zip_of(*_TWO, end={"count": 3, "here": 3}),
        "two numbers of entries": lambda: zip_of(*_TWO, end={"here": 1}),
        "a second disk": lambda: zip_of(*_TWO, end={"disk": 1}),
        "a list elsewhere": lambda: zip_of(*_TWO, end={"offset": 0}),
        "a list beyond the end": lambda: zip_of(*_TWO, end={"offset": FULL - 1}),
        "a list that is longer": lambda: zip_of(*_TWO, end={"size": FULL - 1}),
        "a list that is shorter": lambda: zip_of(*_TWO, end={"size": 20}),
        "full numbers and no zip64": lambda: zip_of(*_TWO, end={"count": 0xFFFF, "here": 0xFFFF}),
        "zip64 that contradicts": lambda: zip_of(*_TWO, end={"count": 1, "here": 1}, end64={}),
        "zip64 of 2^64 entries": lambda: zip_of(
            *_TWO, end={"count": 0xFFFF, "here": 0xFFFF}, end64={"count": 2**64 - 1, "here": 2**64 - 1}
        ),
        "zip64 with an endless list": lambda: zip_of(*_TWO, end={"size": FULL}, end64={"size": 2**64 - 1}),
        "zip64 with a list at 2^63": lambda: zip_of(*_TWO, end={"offset": FULL}, end64={"offset": 2**63}),
        "zip64 whose locator points elsewhere": lambda: zip_of(*_TWO, end64={}, locator={"start": 0}),
        "zip64 whose locator points beyond": lambda: zip_of(*_TWO, end64={}, locator={"start": 2**64 - 1}),
        "zip64 in several files": lambda: zip_of(*_TWO, end64={}, locator={"disks": 2}),
        "zip64 that is longer": lambda: zip_of(*_TWO, end64={"length": 2**64 - 1}),
        "entries that share their data": lambda: _full_overlap(500),
        "entries that quote each other": lambda: _quoted_overlap(60),
        "two entries in one place": lambda: zip_of(_INNOCENT, File(name="b.json", offset=0, phantom=True)),
        "a bomb": lambda: zip_of(_INNOCENT, File(name="b.txt", data=b"a" * (64 * 2**20))),
        "a bomb that lies about its size": _lying_bomb,
        "a bomb of many": lambda: zip_of(*(File(name=f"{n}.txt", data=b"a" * (3 * 2**20)) for n in range(30))),
        "10,001 entries": lambda: zip_of(*(File(name=f"{n}.json", method=STORED, data=b"{}") for n in range(10_001))),
        "a million entries": _million,
        "a million entries by its own word": lambda: zip_of(
            *_TWO, end={"count": 0xFFFF, "here": 0xFFFF}, end64={"count": 10**6, "here": 10**6}
        ),
        "a million entries that it does not count": lambda: zip_of(_INNOCENT, more=_phantoms(10**5)),
        "its last byte missing": lambda: good[:-1],
        "its end missing": lambda: good[:-22],
        "its list missing": lambda: good[:central],
        "half of it": lambda: good[: len(good) // 2],
        "its first byte missing": lambda: good[1:],
        "a hole in it": lambda: good[:40] + good[41:],
    }
    return {f"a zip with {what}": make for what, make in made.items()}


def _full_overlap(count: int) -> bytes:
    """Each entry of the list is the same one in the file (Fifield's simplest)."""
    kernel = File(name="0.txt", data=os.urandom(1000), method=STORED)
    return zip_of(kernel, *(structs.replace(kernel, offset=0, phantom=True, name=f"{n}.txt") for n in range(count)))


def _quoted_overlap(count: int) -> bytes:
    """Each entry's data are a stored block that quotes the next header, and go on with the next entry's (Fifield)."""
    kernel = deflated(b"a" * 100_000)
    data, packed = b"a" * 100_000, kernel
    files: list[bytes] = []
    directory: list[tuple[bytes, bytes, bytes, int]] = []
    for number in reversed(range(count)):
        name = b"%d.txt" % number
        head = _head(name, data, packed)
        files.insert(0, head)
        directory.insert(0, (name, data, packed, 0))
        quoted = head
        packed = struct.pack("<BHH", 0, len(quoted), len(quoted) ^ 0xFFFF) + quoted + packed
        data = quoted + data
    body = bytearray()
    central = b""
    for number, (name, whole, parts, _) in enumerate(directory):
        central += _entry(name, whole, parts, len(body))
        body += files[number]
        if number < count - 1:
            body += struct.pack("<BHH", 0, len(files[number + 1]), len(files[number + 1]) ^ 0xFFFF)
    body += kernel
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, count, count, len(central), len(body), 0)
    return bytes(body) + central + end


def _head(name: bytes, data: bytes, packed: bytes) -> bytes:
    return struct.pack("<4s5H3I2H", b"PK\x03\x04", 20, 0, DEFLATED, 0, 0, *_sizes(data, packed), len(name), 0) + name


def _entry(name: bytes, data: bytes, packed: bytes, offset: int) -> bytes:
    fields = (20, 20, 0, DEFLATED, 0, 0, *_sizes(data, packed), len(name), 0, 0, 0, 0, 0, offset)
    return struct.pack("<4s6H3I5H2I", b"PK\x01\x02", *fields) + name


def _sizes(data: bytes, packed: bytes) -> tuple[int, int, int]:
    return zlib.crc32(data), len(packed), len(data)


def _lying_bomb() -> bytes:
    """It says that it becomes 100 kB, and becomes 64 MiB."""
    small = {"size": 100_000, "crc": 1}
    return zip_of(_INNOCENT, File(name="b.txt", data=b"a" * (64 * 2**20), told=small, beside=small))


def _million() -> bytes:
    one = _phantoms(10**6)
    body = zip_of(_INNOCENT)[: zip_of(_INNOCENT).index(b"PK\x01\x02")]
    wide = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 10**6, 10**6, len(one), len(body))
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, len(body) + len(one), 1)
    return body + one + wide + locator + struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 65535, 65535, FULL, FULL, 0)


def _phantoms(count: int) -> bytes:
    entry = _entry(b"000000.json", CONFIG, deflated(CONFIG), 0)
    return entry * count


def _with(file: File) -> Callable[[], bytes]:
    return lambda: zip_of(_STORED, file)


ZIPS: dict[str, Callable[[], bytes]] = {
    **{what: _with(file) for what, file in _odd_ones().items()},
    **_whole_archives(),
}
