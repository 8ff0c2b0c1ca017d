"""Tar files that lie about themselves, and what is packed around them."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import zlib
from collections.abc import Callable, Mapping

import zstandard
from msgspec import structs
from tests.contract.hostile_archives.making import CONFIG, Member, deflated, long_name, pax, tar_of

_TWO = (Member(), Member(name="tokenizer.json"))


def _odd_ones() -> dict[str, tuple[Member, ...]]:
    """Bad entries behind an innocent one."""
    link = {"kind": b"2", "data": b""}
    return {
        "a link": (Member(name="l.json", link=b"/etc/passwd", **link),),  # type: ignore[arg-type]
        "a link and a file behind it": (Member(name="a", link=b"/tmp", **link), Member(name="a/x.json")),  # type: ignore[arg-type]
        "a hard link": (Member(name="h.json", kind=b"1", link=b"/etc/passwd", data=b""),),
        "a hard link to an entry": (Member(name="h.json", kind=b"1", link=b"config.json", data=b""),),
        "a device": (Member(name="null.json", kind=b"3", data=b""),),
        "a block device": (Member(name="sda.json", kind=b"4", data=b""),),
        "a named pipe": (Member(name="pipe.json", kind=b"6", data=b""),),
        "a file of a kind of its own": (Member(name="c.json", kind=b"7"),),
        "a sparse file of GNU": (Member(name="s.safetensors", kind=b"S", magic=b"ustar  \0"),),
        "a sparse file of pax": (
            pax({"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(2**60)}),
            Member(name="s"),
        ),
        "the rest of a file": (Member(name="m.json", kind=b"M"),),
        "a volume's label": (Member(name="v", kind=b"V", data=b""),),
        "a list of names": (Member(name="d", kind=b"D", data=b"Yx\0\0"),),
        "a kind nobody knows": (Member(name="z.json", kind=b"z"),),
        "a link's long target": (Member(name="././@LongLink", kind=b"K", data=b"/etc/passwd\0", magic=b"ustar  \0"),),
        "a setuid file": (Member(name="su.json", mode=0o4755),),
        "a setgid file": (Member(name="sg.json", mode=0o2755),),
        "a folder with bytes": (Member(name="a/", kind=b"5"),),
        "a file under a folder's name": (Member(name="a.json/", kind=b"0"),),
        "an empty name": (Member(name=""),),
        "a zero in a name": (Member(name=b"a.json\0.exe"),),
        "a zero in a long name": (pax({"path": "a.json\0.exe"}), Member()),
        "a name that is no UTF-8": (Member(name=b"\xff.json"),),
        "a long name that climbs": (long_name("../evil.json"), Member(name="good.json")),
        "a pax name that climbs": (pax({"path": "../evil.json"}), Member(name="good.json")),
        "a pax name that is absolute": (pax({"path": "/opt/evil.json"}), Member(name="good.json")),
        "a prefix that climbs": (Member(name="evil.json", prefix=b"../.."),),
        "two long names": (long_name("a.json"), long_name("b.json"), Member(name="x")),
        "two names of two kinds": (long_name("a.json"), pax({"path": "b.json"}), Member(name="x")),
        "two extension headers": (pax({"path": "a.json"}), pax({"mtime": "1"}), Member(name="x")),
        "a name for nobody": (pax({"path": "a.json"}),),
        "a name for all": (pax({"path": "a.json"}, kind=b"g"), Member(name="x.json")),
        "a size for all": (pax({"size": "1"}, kind=b"g"), Member(name="x.json")),
        "names in another encoding": (pax({"hdrcharset": "BINARY", "path": b"\xff.json"}), Member(name="x.json")),
        "a pax record that is cut": (pax({}, raw=b"30 path=a.json\n"), Member(name="x.json")),
        "a pax record of length 0": (pax({}, raw=b"0 path=a.json\n"), Member(name="x.json")),
        "a pax record of 2^70 bytes": (pax({}, raw=b"1180591620717411303424 path=a\n"), Member(name="x.json")),
        "a pax record that is negative": (pax({}, raw=b"-5 path=a.json\n"), Member(name="x.json")),
        "a pax record without a value": (pax({}, raw=b"8 path=\n"[:6] + b"h\n"), Member(name="x.json")),
        "a pax record twice": (pax({}, raw=b"15 path=a.json\n" * 2), Member(name="x.json")),
        "a pax size that is no number": (pax({"size": "x"}), Member(name="x.json")),
        "a pax size that is negative": (pax({"size": "-1"}), Member(name="x.json")),
        "a pax size of 2^63": (pax({"size": str(2**63)}), Member(name="x.json")),
        "a pax header of a megabyte": (pax({"comment": "a" * 2**20}), Member(name="x.json")),
        "a pax header of 8 GB by its word": (structs.replace(pax({"a": "b"}), size=b"77777777777"), Member(name="x")),
        "a long name of a megabyte": (long_name("a" * 2**20), Member(name="x.json")),
        "a size that is too large": (Member(name="x.json", size=10**9),),
        "a size that is no number": (Member(name="x.json", size=b"xyz"),),
        "a size of 2^80": (Member(name="x.json", size=b"\x80\x01" + bytes(10)),),
        "a size that is negative": (Member(name="x.json", size=b"\xff" * 12),),
        "a size that is smaller": (Member(name="x.json", size=4, data=CONFIG * 40),),
        "a checksum that is wrong": (Member(name="x.json", checksum=b"000001\0 "),),
        "a checksum that is no number": (Member(name="x.json", checksum=b"abcdefgh"),),
        "a magic that is wrong": (Member(name="x.json", magic=b"ustar\x0099"),),
        "half an end in its middle": (
            Member(name="x.json", data=CONFIG.ljust(512, b"\0") + bytes(512), size=len(CONFIG)), Member(name="y.json"),
        ),
    }  # fmt: skip


def _whole_archives() -> dict[str, Callable[[], bytes]]:
    good = tar_of(*_TWO)
    return {
        "something behind its end": lambda: good + b"evil".ljust(512, b"\0"),
        "another tar behind its end": lambda: good + good,
        "two megabytes of zeros behind it": lambda: good + bytes(2**21),
        "half an end": lambda: tar_of(Member(), end=bytes(512)) + tar_of(Member(name="x.json")),
        "no end": lambda: tar_of(*_TWO, end=b""),
        "nothing in it": lambda: bytes(10_240),
        "its last file cut": lambda: tar_of(Member(), Member(name="x.json", data=CONFIG * 100), end=b"")[:-1000],
        "a header cut": lambda: good[:700],
        "a byte less": lambda: good[1:],
        "10,001 entries": lambda: tar_of(*(Member(name=f"{n}.json", data=b"{}") for n in range(10_001))),
        "10,001 folders": lambda: tar_of(*(Member(name=f"{n}/", kind=b"5", data=b"") for n in range(10_001))),
        "10,001 extension headers": lambda: tar_of(*[pax({"comment": "x"}, kind=b"g")] * 10_001),
    }


def _packed() -> dict[str, Callable[[], bytes]]:
    """What is around the tar file."""
    good = tar_of(*_TWO)
    bomb = Member(name="b.txt", data=b"a" * (64 * 2**20))
    zipped, zstd = gzip.compress(good), zstandard.ZstdCompressor(write_checksum=True).compress(good)
    return {
        "a gzip of nothing": lambda: gzip.compress(b""),
        "a gzip of no tar": lambda: gzip.compress(CONFIG * 100),
        "a gzip of a zip": lambda: gzip.compress(b"PK\x03\x04" + bytes(600)),
        "a gzip of a gzip": lambda: gzip.compress(zipped),
        "a gzip of a GGUF file": lambda: gzip.compress(b"GGUF" + bytes(600)),
        "a gzip that is cut": lambda: zipped[:-9],
        "a gzip without its checksum": lambda: zipped[:-8],
        "a gzip with a wrong checksum": lambda: zipped[:-8] + b"1234" + zipped[-4:],
        "a gzip with a wrong size": lambda: zipped[:-4] + b"1234",
        "a gzip with something behind": lambda: zipped + b"evil",
        "a gzip with garbage in it": lambda: zipped[:30] + b"\xff" * 30 + zipped[60:],
        "a gzip alone": lambda: b"\x1f\x8b",
        "a gzip with an endless name": lambda: b"\x1f\x8b\x08\x08" + bytes(6) + b"a" * 2**21,
        "a gzip bomb": lambda: gzip.compress(tar_of(Member(), bomb)),
        "a gzip bomb of padding": lambda: gzip.compress(good + bytes(64 * 2**20)),
        "a gzip bomb in a pickle nobody reads": lambda: gzip.compress(
            tar_of(structs.replace(bomb, name="optimizer.pt"))
        ),
        "a gzip bomb behind random bytes": _late_bomb,
        "a gzip bomb of names": lambda: gzip.compress(
            tar_of(*(Member(name=f"{n}/", kind=b"5", data=b"") for n in range(9999)))
        ),
        "a gzip of 100,000 members of nothing": lambda: zipped + gzip.compress(b"") * 100_000,
        "a gzip of 2,000,000 empty blocks": lambda: _empty_blocks(2_000_000),
        "a zstd of nothing": lambda: zstandard.compress(b""),
        "a zstd of no tar": lambda: zstandard.compress(CONFIG * 100),
        "a zstd that is cut": lambda: zstd[:-20],
        "a zstd without its checksum": lambda: zstd[:-4],
        "a zstd with a wrong checksum": lambda: zstd[:-4] + b"1234",
        "a zstd with a byte missing": lambda: zstd[:-1],
        "a zstd with something behind": lambda: zstd + b"evil",
        "a zstd alone": lambda: zstd[:4],
        "a zstd with garbage in it": lambda: zstd[:20] + b"\xff" * 40 + zstd[60:],
        "a zstd bomb": lambda: zstandard.compress(tar_of(Member(), bomb)),
        "a zstd bomb of 8 GB": _rle_bomb,
        "a zstd with a window of 1 GB": lambda: _zstd_window(20 << 3),
        "a zstd with a window of 2 TB": lambda: _zstd_window(31 << 3),
        "a zstd with a file as its window": lambda: b"\x28\xb5\x2f\xfd\xe0" + (2**40).to_bytes(8, "little") + bytes(9),
        "a zstd with a dictionary": lambda: b"\x28\xb5\x2f\xfd\x03\x58" + b"\x01\x00\x00\x00" + bytes(9),
        "a zstd of 1,000,000 empty blocks": lambda: b"\x28\xb5\x2f\xfd\x00\x58" + bytes(3) * 1_000_000 + b"\x01\0\0",
        "a zstd of 100,000 frames of nothing": lambda: zstd + zstandard.compress(b"") * 100_000,
        "a zstd of 200,000 frames to skip": lambda: zstd + b"\x50\x2a\x4d\x18\0\0\0\0" * 200_000,
        "a zstd with an endless frame to skip": lambda: zstd + b"\x50\x2a\x4d\x18\xff\xff\xff\xff",
    }  # fmt: skip


def _late_bomb() -> bytes:
    """Eight megabytes that do not shrink pay for a bomb behind them, if only the whole is looked at."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=6) as archive:
        for name, data in (("a.dat", os.urandom(2**23)), ("b.txt", b"a" * (200 * 2**20))):
            told = tarfile.TarInfo(name)
            told.size = len(data)
            archive.addfile(told, io.BytesIO(data))
    return buffer.getvalue()


def _empty_blocks(count: int) -> bytes:
    """A tar file behind stored blocks of no byte; none of them is the last."""
    data = tar_of(*_TWO)
    head = b"\x1f\x8b\x08" + bytes(7)
    return head + b"\0\0\0\xff\xff" * count + deflated(data) + zlib.crc32(data).to_bytes(4, "little") + bytes(4)


def _rle_bomb() -> bytes:
    """Blocks of four bytes that become 128 KiB each."""
    block = (2**17 << 3 | 1 << 1).to_bytes(3, "little") + b"a"
    return b"\x28\xb5\x2f\xfd\x00\x58" + block * 65_536 + b"\x01\0\0"


def _zstd_window(byte: int) -> bytes:
    return b"\x28\xb5\x2f\xfd\x00" + bytes([byte]) + b"\x09\x00\x00a"


def _with(members: tuple[Member, ...]) -> Callable[[], bytes]:
    return lambda: tar_of(Member(), *members)


def _named(makes: Mapping[str, Callable[[], bytes]]) -> dict[str, Callable[[], bytes]]:
    return {f"a tar with {what}": make for what, make in makes.items()}


TARS: dict[str, Callable[[], bytes]] = {
    **_named({what: _with(members) for what, members in _odd_ones().items()}),
    **_named(_whole_archives()),
    **_packed(),
}
