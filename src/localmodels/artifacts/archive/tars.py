"""Reads a tar file: ustar, with the additions of POSIX (pax) and of GNU for long names and large files.

The rule: files and folders, and nothing else. Links, devices, sparse files and parts of other archives are refused by
name, and an extension header is read only as far as it names the next file and its size. Two blocks of zeros end the
archive; what is behind them are zeros, or it is two archives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NoReturn

from msgspec import Struct

from localmodels.artifacts.archive.limits import CHUNK, check_entries, check_ratio
from localmodels.artifacts.archive.reading import Body, Bytes, Member, cut_short
from localmodels.artifacts.archive.streams import Stream, read_exactly
from localmodels.artifacts.file_names import shown
from localmodels.core.errors import InvalidRequest, Unsupported

BLOCK = 512
LONGEST_EXTENSION = 64 * 1024  # a name, times, owners, perhaps an attribute: 1,000 bytes
MOST_PADDING = 2**20  # of zeros behind the end; tar's default is 10 KiB, tapes had more
_PACK_ANEW = "pack the folder anew (tar -cf model.tar folder)"

_KINDS: Mapping[bytes, str] = {
    b"1": "a hard link", b"2": "a symbolic link", b"3": "a device", b"4": "a device", b"6": "a named pipe",
    b"7": "a file of a kind of its own", b"S": "a sparse file", b"K": "a link with a long target",
    b"M": "the rest of a file from another archive", b"V": "the label of a volume", b"D": "a folder's list of names",
}  # fmt: skip
_FILES, _FOLDER = (b"0", b"\0"), b"5"
_PAX, _PAX_GLOBAL, _LONG_NAME = b"x", b"g", b"L"
_MEANT = frozenset({"path", "size", "hdrcharset"})  # of the records; others say nothing that matters here
_SETUID_SETGID = 0o6000


class _Header(Struct, frozen=True):
    """One block: the name in it, the bytes behind it."""

    name: bytes
    kind: bytes
    size: int
    mode: int


class _Told(Struct):
    """What extension headers say of the next file; each of them may say it once."""

    name: str | None = None
    size: int | None = None
    extended: bool = False


class TarArchive:
    """A tar file, as :class:`~.reading.Archive`.

    Args:
        opened: its bytes, from the beginning, for one walk.
    """

    def __init__(self, opened: Callable[[], Stream]) -> None:
        self._opened = opened

    def walk(self) -> Iterator[tuple[Member, Body]]:
        """As :meth:`.reading.Archive.walk`."""
        stream = self._opened()
        told = _Told()
        count = 0
        while (header := _next(stream, first=not count)) is not None:
            count += 1
            check_entries(count)
            if header.kind in {_PAX, _PAX_GLOBAL, _LONG_NAME}:
                _extend(told, header, _extension(stream, header))
                continue
            member = _member(header, told)
            told = _Told()
            body = TarBody(stream, member)
            yield member, body
            body.skip_rest()
        if told.extended or told.name is not None:
            raise cut_short("the archive")
        _check_padding(stream)


class TarBody:
    """The bytes of one file in a tar file."""

    def __init__(self, stream: Stream, member: Member) -> None:
        self._stream = stream
        self._name = shown(member.name)
        self._size = self._left = member.size
        self._before = stream.consumed

    def read(self, most: int) -> Bytes:
        """As :meth:`.reading.Body.read`."""
        if not self._left:
            return b""
        data = self._stream.read(min(most, self._left, CHUNK))
        if not data:
            raise cut_short(self._name)
        self._left -= len(data)
        # One chunk may be in the making: compressed data are counted by what was given to the library.
        check_ratio(self._name, self._size - self._left, self._stream.consumed - self._before + CHUNK)
        return data

    def skip_rest(self) -> None:
        """Goes to where the next header begins."""
        self._stream.skip(self._left + -self._size % BLOCK)
        self._left = 0


def _next(stream: Stream, *, first: bool) -> _Header | None:
    """The next header; None at the end of the archive."""
    block = read_exactly(stream, BLOCK)
    if len(block) < BLOCK:
        raise _no_tar() if first else cut_short("the archive")
    if any(block):
        return _header(block, first=first)
    if any(read_exactly(stream, BLOCK)):
        raise InvalidRequest(f"not a sound tar file: half of an end is in its middle; {_PACK_ANEW}")
    return None


def _header(block: bytes, *, first: bool) -> _Header:
    magic = block[257:265]
    if magic not in {b"ustar\x0000", b"ustar  \0", bytes(8)} or not _sums_up(block):
        if first:
            raise _no_tar()
        raise InvalidRequest(f"not a sound tar file: a header is damaged; upload it again, or {_PACK_ANEW}")
    name = _text(block[:100])
    prefix = _text(block[345:500]) if magic.startswith(b"ustar\0") else b""
    return _Header(
        name=prefix + b"/" + name if prefix else name,
        kind=block[156:157],
        size=_number(block[124:136], name),
        mode=_number(block[100:108], name),
    )


def _sums_up(block: bytes) -> bool:
    """The checksum counts itself as spaces. Long ago some counted bytes above 127 as negative; nobody does now."""
    told = block[148:156].strip(b" \0")
    return (
        0 < len(told) <= 8
        and not told.strip(b"01234567")
        and int(told, 8) == sum(block) - sum(block[148:156]) + 8 * ord(" ")
    )


def _text(field: bytes) -> bytes:
    """Up to the first zero; what is behind it must be zeros, or the field is two names."""
    text, _, rest = field.partition(b"\0")
    if rest.strip(b"\0"):
        raise InvalidRequest(f"{shown(field.decode(errors='replace'))} has a zero in its name; {_PACK_ANEW}")
    return text


def _number(field: bytes, name: bytes) -> int:
    """Octal digits, or, with the highest bit set, GNU's large numbers: bytes, the highest first."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    if digits.strip(b"01234567"):
        raise InvalidRequest(f"{shown(name.decode(errors='replace'))}: its header has no sound number; {_PACK_ANEW}")
    return int(digits or b"0", 8)


def _member(header: _Header, told: _Told) -> Member:
    """An ordinary file or folder, as header and extensions together say."""
    name = told.name if told.name is not None else _decoded(header.name)
    size = told.size if told.size is not None else header.size
    folder = header.kind == _FOLDER or (header.kind == b"\0" and name.endswith("/"))
    if not folder and header.kind not in _FILES:
        what = _KINDS.get(header.kind, f"an entry of the unknown kind {header.kind!r}")
        raise Unsupported(f"{shown(name)} is {what}; only files and folders are taken, so put the file itself in")
    if folder and size:
        raise InvalidRequest(f"{shown(name)} is a folder with {size:,} bytes in it; {_PACK_ANEW}")
    if not folder and name.endswith("/"):
        raise InvalidRequest(f"{shown(name)} has a folder's name and is a file; {_PACK_ANEW}")
    if not folder and header.mode & _SETUID_SETGID:
        raise Unsupported(f"{shown(name)} is a program with its owner's rights (setuid); leave it out")
    return Member(name, size, folder)


def _decoded(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise InvalidRequest(
            f"{shown(name.decode(errors='replace'))} is not a name in UTF-8; rename it, or {_PACK_ANEW}"
        ) from None


# Extensions


def _extension(stream: Stream, header: _Header) -> bytes:
    if header.size > LONGEST_EXTENSION:
        raise InvalidRequest(
            f"an extension header of {header.size:,} bytes, at most {LONGEST_EXTENSION:,} are allowed; {_PACK_ANEW}"
        )
    data = read_exactly(stream, header.size)
    if len(data) < header.size:
        raise cut_short("the archive")
    stream.skip(-header.size % BLOCK)
    return data


def _extend(told: _Told, header: _Header, data: bytes) -> None:
    """Keeps what an extension header says of the next file."""
    if header.kind == _LONG_NAME:
        if told.name is not None:
            _twice("name")
        told.name = _decoded(data.removesuffix(b"\0"))
        return
    records = _records(data)
    if any(key.startswith("GNU.sparse.") for key in records):
        raise Unsupported(f"the archive has a sparse file; {_PACK_ANEW}, without --sparse")
    if records.get("hdrcharset", "") not in {"", "ISO-IR 10646 2000 UTF-8"}:
        raise Unsupported(f"the archive has names in another encoding than UTF-8; {_PACK_ANEW}")
    if header.kind == _PAX_GLOBAL:
        if {"path", "size", "linkpath"} & records.keys():
            raise InvalidRequest(f"a header for all files gives them one name or size; {_PACK_ANEW}")
        return
    if told.extended:
        _twice("extension header")
    told.extended = True
    if "path" in records:
        if told.name is not None:
            _twice("name")
        told.name = records["path"]
    if "size" in records:
        if not records["size"].isascii() or not records["size"].isdigit() or len(records["size"]) > 19:
            raise InvalidRequest(f"an extension header has no sound size; {_PACK_ANEW}")
        told.size = int(records["size"])


def _twice(what: str) -> NoReturn:
    raise InvalidRequest(f"not a sound tar file: a file has a second {what}; {_PACK_ANEW}")


def _records(data: bytes) -> dict[str, str]:
    """Lines of ``LENGTH KEY=VALUE``, where the length counts all of it; values that mean nothing here are left out."""
    found: dict[str, str] = {}
    while data:
        digits, space, _ = data[:8].partition(b" ")
        length = int(digits) if space and digits.isdigit() else 0
        record = data[len(digits) + 1 : length]
        if not record.endswith(b"\n") or length > len(data):
            raise InvalidRequest(f"not a sound tar file: an extension header is damaged; {_PACK_ANEW}")
        raw, equals, value = record[:-1].partition(b"=")
        key = raw.decode(errors="replace")
        if not equals or key in found:
            raise InvalidRequest(f"not a sound tar file: an extension header is damaged; {_PACK_ANEW}")
        found[key] = _decoded(value) if key in _MEANT else ""
        data = data[length:]
    return found


def _check_padding(stream: Stream) -> None:
    left = MOST_PADDING
    while data := stream.read(min(CHUNK, left + 1)):
        left -= len(data)
        if left < 0 or bytes(data).strip(b"\0"):
            raise InvalidRequest(f"something lies behind the end of the archive; {_PACK_ANEW}")


def _no_tar() -> InvalidRequest:
    return InvalidRequest(
        "there is no tar file in it; upload a .zip, .tar, .tar.gz or .tar.zst of the model's folder, or one .gguf"
    )
