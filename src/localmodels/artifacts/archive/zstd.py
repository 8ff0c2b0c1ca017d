"""The bytes of a tar file out of zstd. Imported in the child alone, since it loads native code.

The library says nothing of a frame that ends before its time, and gives no bound to what it reads before something
comes out. So the frames are walked first, by their own description (RFC 8878): every block has its length in 3 bytes
before it, and none of it is unpacked for that.
"""

from __future__ import annotations

from typing import IO, cast

import zstandard
from msgspec import Struct

from localmodels.artifacts.archive.limits import CHUNK, check_ratio
from localmodels.artifacts.archive.reading import Bytes, Source, Window, cut_short
from localmodels.artifacts.archive.streams import Tick, skip_by_reading
from localmodels.core.errors import InvalidRequest, Unsupported

MAGIC = b"\x28\xb5\x2f\xfd"
LARGEST_WINDOW = 128 * 2**20  # what `zstd -d` itself takes without being told to: `--ultra -22` and `--long`
_SKIPPABLE = range(0x184D2A50, 0x184D2A60)
_FREE_PARTS = 4096  # blocks and frames, however small
_SMALLEST_PART = 256  # bytes of a block beyond those, on average; zstd's own have up to 128 KiB
_RAW, _RLE = 0, 1
_HEAD = 3  # bytes of a block's


class _Frame(Struct, frozen=True):
    """The head of a frame: its length, the memory that unpacking takes, whether a checksum follows the last block."""

    length: int
    window: int
    checksum: bool


class Unzstd:
    """Bytes out of zstd: of one frame, or of as many as there are.

    Raises:
        InvalidRequest: a frame is not whole or not sound.
        Unsupported: it takes too much memory, or a dictionary.
    """

    def __init__(self, source: Source, tick: Tick) -> None:
        check_frames(source, tick)
        self._feed = _Feed(source, tick)
        self._made = 0
        unpacker = zstandard.ZstdDecompressor(max_window_size=LARGEST_WINDOW)
        self._reader = unpacker.stream_reader(cast("IO[bytes]", self._feed), read_size=CHUNK, read_across_frames=True)
        self._buffer = memoryview(bytearray(CHUNK))

    @property
    def consumed(self) -> int:
        """As :attr:`.streams.Stream.consumed`, up to a chunk more."""
        return self._feed.consumed

    def read(self, most: int) -> Bytes:
        """As :meth:`.streams.Stream.read`."""
        buffer = self._buffer[:most]
        try:
            count = self._reader.readinto(buffer)
        except zstandard.ZstdError as error:
            raise InvalidRequest(f"the archive's zstd is damaged ({error}); upload it again, or pack it anew") from None
        self._made += count
        check_ratio("the archive", self._made, self._feed.consumed)
        return buffer[:count]

    def skip(self, length: int) -> None:
        """As :meth:`.streams.Stream.skip`."""
        skip_by_reading(self, length)


class _Feed:
    """What the library reads from. It knows nothing of whoever reads: a circle would keep two windows in memory."""

    def __init__(self, source: Source, tick: Tick) -> None:
        self._window = Window(source, 0, source.size)
        self._tick = tick
        self.consumed = 0

    def read(self, most: int) -> bytes:
        data = bytes(self._window.read(min(most, CHUNK)))
        self.consumed += len(data)
        self._tick(len(data))
        return data


def check_frames(source: Source, tick: Tick) -> None:
    """Walks over all frames; of the bytes, it ticks those that it reads.

    Raises:
        InvalidRequest: one is not whole or not sound; they are made of nothing.
        Unsupported: one takes too much memory, or a dictionary.
    """
    at = parts = 0
    while at < source.size:
        magic = source.at(at, 4)
        if int.from_bytes(magic, "little") in _SKIPPABLE:
            at += 8 + int.from_bytes(source.at(at + 4, 4), "little")
            parts += 1
            _check_parts(parts, at)
            tick(8)
        elif magic == MAGIC:
            at, parts = _walk_frame(source, at, parts, tick)
        else:
            raise InvalidRequest("something lies behind the end of the archive's zstd; pack it anew")
    if at > source.size:
        raise cut_short("the archive")


def _walk_frame(source: Source, at: int, parts: int, tick: Tick) -> tuple[int, int]:
    """Where a frame ends, and how many parts there were with it."""
    frame = _head(source, at)
    if frame.window > LARGEST_WINDOW:
        raise Unsupported(
            f"the archive takes {frame.window >> 20:,} MiB of memory to unpack, at most {LARGEST_WINDOW >> 20} are "
            "allowed; pack it anew with zstd's ordinary levels and at most --long"
        )
    at += frame.length
    last = False
    while not last:
        head = int.from_bytes(source.at(at, _HEAD), "little")
        last, kind, size = bool(head & 1), head >> 1 & 3, head >> 3
        at += _HEAD + (1 if kind == _RLE else size)
        parts += 1
        _check_parts(parts, at)
        tick(_HEAD)
    return at + 4 * frame.checksum, parts + 1


def _check_parts(parts: int, at: int) -> None:
    """Blocks of nothing cost time and become no bytes."""
    if parts > _FREE_PARTS + at // _SMALLEST_PART:
        raise InvalidRequest("the archive's zstd is made of too many parts that hold nothing; pack it anew")


def _head(source: Source, at: int) -> _Frame:
    descriptor = source.at(at + 4, 1)[0]
    single, dictionary = bool(descriptor & 0x20), (0, 1, 2, 4)[descriptor & 3]
    content = (int(single), 2, 4, 8)[descriptor >> 6]
    rest = source.at(at + 5, (0 if single else 1) + dictionary + content)
    if dictionary:
        raise Unsupported("the archive was packed with a dictionary of zstd; pack it anew without")
    window = int.from_bytes(rest, "little") + (256 if content == 2 else 0) if single else _window(rest[0])
    return _Frame(5 + len(rest), window, bool(descriptor & 4))


def _window(byte: int) -> int:
    base = 1 << (10 + (byte >> 3))
    return base + (base >> 3) * (byte & 7)
