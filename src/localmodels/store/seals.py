"""Remembers which blobs were read from end to end and found to be what their names say.

A seal is what the file system said of a file when it was hashed. Whoever writes to that file, or puts another in its
place, changes its inode or its ``ctime``, which no program can set back; what changes a byte and nothing else (a disk
that rots) is found when the seal has grown old. The rule: a seal is made only of a whole hash that matched, and one
that is lost costs one more reading. Device numbers are no part of it: they may change when a machine starts again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress

import msgspec
from msgspec import Struct

from localmodels.core.catalog import Digest
from localmodels.core.errors import ModelDamaged
from localmodels.store.layout import Layout, blob_name, digest_of
from localmodels.store.notes import read_note, sweep_notes, write_note

DAY = 86_400.0
# How long the disk is trusted with a file that nobody has written to. A reading costs 0.6 s a GB, and brings the file
# into memory where the engine wants it next.
AGE = 30 * DAY
# Files of one content that are remembered: ours, and those of the stores of Ollama that are read too.
_MOST = 4


class Seal(Struct, frozen=True, array_like=True):
    """A file as it was when it was hashed; times in nanoseconds but for ``hashed``, seconds since 1970."""

    inode: int
    size: int
    mtime: int
    ctime: int
    hashed: float

    def fits(self, status: os.stat_result) -> bool:
        """Is it this very file, unchanged?"""
        return (self.inode, self.size, self.mtime, self.ctime) == _seen(status)


class Seals:
    """The seals that a store keeps: of its own blobs, and of those of other stores that it reads."""

    def __init__(self, layout: Layout, *, age: float = AGE, clock: Callable[[], float] = time.time) -> None:
        self._layout = layout
        self._age = age
        self._clock = clock

    def vouches(self, digest: Digest, status: os.stat_result) -> bool:
        """Was this file hashed lately, and is it unchanged since? A seal from the future is none."""
        now = self._clock()
        return any(seal.fits(status) and 0 <= now - seal.hashed < self._age for seal in self._read(digest))

    def seal(self, digest: Digest, status: os.stat_result) -> None:
        """This file was just hashed, and has this digest. What cannot be written down is forgotten."""
        now, known = self._clock(), self._read(digest)
        if any(seal.fits(status) and 0 <= now - seal.hashed < DAY for seal in known):
            return
        others = [seal for seal in known if seal.inode != status.st_ino]
        seals = [Seal(*_seen(status), now), *others][:_MOST]
        with suppress(OSError, ModelDamaged), self._layout.verified(make=True) as folder:
            write_note(folder, blob_name(digest), msgspec.json.encode(seals))

    def judge(self, digest: Digest, status: os.stat_result, *, sound: bool) -> None:
        """This file was just hashed: it is sealed if it is sound; if it is not, it is vouched for no more."""
        if sound:
            self.seal(digest, status)
        elif any(seal.fits(status) for seal in self._read(digest)):
            with suppress(OSError, ModelDamaged), self._layout.verified() as folder:
                folder.remove(blob_name(digest))

    def ask(self, digest: Digest) -> None:
        """Somebody counts on the blob of this content, which was here already: a model may be about to name it."""
        with suppress(OSError), self._layout.verified() as folder:
            folder.touch(blob_name(digest))

    def asked(self) -> dict[Digest, int]:
        """When each sealed blob was last read or counted on, nanoseconds since 1970."""
        with suppress(OSError), self._layout.verified() as folder:
            found = ((digest_of(name), folder.look(name)) for name in folder.names())
            return {digest: status.st_mtime_ns for digest, status in found if digest and status}
        return {}

    def forget(self, digest: Digest, status: os.stat_result) -> None:
        """This file is gone."""
        known = self._read(digest)
        left = [seal for seal in known if seal.inode != status.st_ino]
        if len(left) == len(known):
            return
        with suppress(OSError, ModelDamaged), self._layout.verified() as folder:
            if left:
                write_note(folder, blob_name(digest), msgspec.json.encode(left))
            else:
                folder.remove(blob_name(digest))

    def sweep(self) -> None:
        """Removes the seals that have grown too old to say anything."""
        before = self._clock() - self._age
        with suppress(OSError), self._layout.verified() as folder:
            sweep_notes(folder, lambda name, status: digest_of(name) is not None and status.st_mtime >= before)

    def _read(self, digest: Digest) -> tuple[Seal, ...]:
        with suppress(OSError, ModelDamaged, msgspec.DecodeError), self._layout.verified() as folder:
            text = read_note(folder, blob_name(digest))
            if text is not None:
                return msgspec.json.decode(text, type=tuple[Seal, ...])
        return ()


def _seen(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
