"""Blobs that arrive in parts, in any order, and may take more than one life of this program.

Beside the bytes lies a journal: the blob's size, then a line a finished part. The rule: a part's line is written after
its bytes are on disk, so what the journal says survives a power cut; and the blob gets its name only after all of it
was hashed here. The digest is taken as far as parts have arrived without a gap, so little is left to do at the end.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

from localmodels.core.catalog import Blob, Digest
from localmodels.core.errors import Conflict, ContentMismatch, InvalidValue, StoreFailed
from localmodels.core.spans import Span, gaps, merged
from localmodels.store.blobs import stays, verify
from localmodels.store.folders import Folder, disk_errors, write_all
from localmodels.store.layout import Layout, blob_name, digest_of, journal_name
from localmodels.store.leases import Lease
from localmodels.store.lock import StoreLock, try_lock
from localmodels.store.pieces import CHUNK, Progress, no_progress
from localmodels.store.seals import Seals
from localmodels.store.soundness import renew_seal

SECTOR = 512  # bytes in which the system counts what a file has on disk (st_blocks)

# A line has at most 42 bytes; parts of 1 MiB would make a terabyte of this.
_JOURNAL_BYTES = 2**26
_SIZE = re.compile(r"size ([0-9]{1,19})")
_PART = re.compile(r"([0-9]{1,19}) ([0-9]{1,19})")


def read_journal(data: bytes, size: int, present: int) -> tuple[Span, ...]:
    """The parts that a journal vouches for: none if it is of a blob of another size.

    Its last line may be torn, and is then no part; nor is what ends behind the ``present`` bytes of the file.
    """
    first, *lines = data.decode(errors="replace").split("\n")[:-1] or [""]
    announced = _SIZE.fullmatch(first)
    if announced is None or int(announced[1]) != size:
        return ()
    found = (_PART.fullmatch(line) for line in lines)
    spans = ((int(part[1]), int(part[1]) + int(part[2])) for part in found if part)
    return merged(span for span in spans if span[1] <= min(size, present))


class Partial:
    """One blob that arrives in parts; a context manager that keeps what has arrived.

    ``write`` and ``finish`` may be called by several threads, each with spans of its own.

    Args:
        lease: protects the blob until the lease ends.
        digest: its name.
        size: its bytes; what is there of a blob of another size is thrown away.

    Raises:
        Conflict: somebody else is fetching it.
        ModelDamaged: something else than a file lies in its place.
    """

    @disk_errors()
    def __init__(self, lease: Lease, digest: Digest, size: int) -> None:
        if size < 0:
            raise InvalidValue(f"a blob cannot have {size} bytes", param="size")
        self.digest = digest
        self.size = size
        self._lease = lease
        self._name, self._journal_name = blob_name(digest), journal_name(digest)
        self._mutex = threading.Lock()
        self._hashing = threading.Lock()
        self._hash = hashlib.sha256()
        self._hashed = 0
        lease.protect(digest)
        self._folder = lease.layout.partials()
        try:
            # Under the lock, since the one who has it now may be about to move it away.
            with lease.lock.held():
                self._data = _open_locked(self._folder, self._name, digest)
            try:
                self._done, self._journal = self._resume()
            except BaseException:
                os.close(self._data)
                raise
        except BaseException:
            self._folder.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def done(self) -> tuple[Span, ...]:
        """What has arrived and is on disk, in order."""
        return self._done

    @property
    def missing(self) -> tuple[Span, ...]:
        """What has yet to be written and finished, in order."""
        return gaps(self._done, self.size)

    @property
    def arrived(self) -> int:
        """Bytes that are on disk."""
        return sum(end - start for start, end in self._done)

    @disk_errors()
    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Writes bytes at a place; they count once ``finish`` was called for them.

        Raises:
            InvalidValue: they lie outside of the blob, or where bytes are finished already.
        """
        self._check((offset, offset + len(data)))
        rest = memoryview(data)
        while rest:
            count = os.pwrite(self._data, rest, offset)
            offset, rest = offset + count, rest[count:]
        self._lease.spend(len(data))

    @disk_errors()
    def finish(self, offset: int, length: int) -> None:
        """Says that a part is written whole; when this returns it need never be fetched again.

        Raises:
            InvalidValue: it lies outside of the blob, or is finished already.
        """
        span = (offset, offset + length)
        self._check(span)
        os.fdatasync(self._data)
        with self._mutex:
            write_all(self._journal, f"{offset} {length}\n".encode())
            self._done = merged((*self._done, span))
        if self._hashing.acquire(blocking=False):
            try:
                self._advance(no_progress)
            finally:
                self._hashing.release()

    def commit(self, progress: Progress = no_progress) -> Blob:
        """Hashes what was not hashed yet, and gives the blob its name.

        Args:
            progress: told how many bytes are hashed.

        Raises:
            ContentMismatch: parts are missing; or all are there and the digest is another, and all were thrown away.
            ModelDamaged: something else than a file lies in its place.
        """
        if self.missing:
            raise ContentMismatch(f"{self._name}: {self.arrived} of {self.size} bytes have arrived")
        with self._hashing:
            self._advance(progress)
        try:
            verify(Blob(Digest(self._hash.hexdigest()), self._hashed), self.digest, self.size)
        except ContentMismatch:
            self.discard()
            raise
        with disk_errors():
            os.fsync(self._data)
            seals = Seals(self._lease.layout)
            renew_seal(self._lease.layout, self.digest, self.size, seals, lambda _: progress(self.size))
            # Under the lock: nobody may open the file between its move and its unlocking.
            with self._lease.lock.held(), self._lease.layout.blobs() as blobs:
                there = stays(seals, self.digest, blobs.status(self._name))
                if there:
                    self._folder.remove(self._name)
                else:
                    self._folder.move(self._name, blobs, self._name)
                    blobs.sync()
                self._folder.remove(self._journal_name)
            if there:
                seals.ask(self.digest)
            else:
                seals.seal(self.digest, os.fstat(self._data))
        return Blob(self.digest, self.size)

    @disk_errors()
    def discard(self) -> None:
        """Throws away what has arrived; the journal first, so that it never vouches for another file."""
        self._folder.remove(self._journal_name)
        self._folder.remove(self._name)
        self._done = ()

    def close(self) -> None:
        """Lets go of the files; what has arrived stays. A second time does nothing."""
        with self._mutex:
            descriptors, self._data, self._journal = (self._data, self._journal), -1, -1
        if descriptors[0] >= 0:
            for descriptor in descriptors:
                os.close(descriptor)
            self._folder.close()

    def _resume(self) -> tuple[tuple[Span, ...], int]:
        """What the journal vouches for, and the journal, open at its end and without a torn line."""
        data = self._folder.read(self._journal_name, _JOURNAL_BYTES) or b""
        done = read_journal(data, self.size, os.fstat(self._data).st_size)
        self._folder.remove(f"{self._journal_name}.new")
        lines = [f"size {self.size}\n", *(f"{start} {end - start}\n" for start, end in done)]
        self._folder.put(f"{self._journal_name}.new", "".join(lines).encode())
        self._folder.move(f"{self._journal_name}.new", self._folder, self._journal_name)
        if not done:
            os.ftruncate(self._data, 0)
        journal = self._folder.open(self._journal_name, os.O_WRONLY | os.O_APPEND)
        if journal is None:
            raise StoreFailed(f"{self._journal_name}: was removed while it was in use")
        return done, journal

    def _check(self, span: Span) -> None:
        if not 0 <= span[0] <= span[1] <= self.size:
            raise InvalidValue(f"{span[0]} to {span[1]} is outside of a blob of {self.size} bytes", param="offset")
        if any(start < span[1] and span[0] < end for start, end in self._done):
            raise InvalidValue(f"{span[0]} to {span[1]} was finished before", param="offset")

    def _advance(self, progress: Progress) -> None:
        """Hashes from where it stopped to the first gap."""
        until = self._done[0][1] if self._done and self._done[0][0] == 0 else 0
        while self._hashed < until:
            with disk_errors():
                piece = os.pread(self._data, min(CHUNK, until - self._hashed), self._hashed)
            if not piece:
                raise StoreFailed(f"{self._name}: was cut short while it was in use")
            self._hash.update(piece)
            self._hashed += len(piece)
            progress(self._hashed)


def _open_locked(folder: Folder, name: str, digest: Digest) -> int:
    descriptor = folder.open(name, os.O_RDWR | os.O_CREAT)
    if descriptor is None:
        raise StoreFailed("the model store's directory was removed while it was in use")
    if not try_lock(descriptor):
        os.close(descriptor)
        raise Conflict(f"{digest} is being fetched by another process already")
    return descriptor


def clear_partial(folder: Folder, name: str) -> bool:
    """Removes a partial blob and its journal unless somebody has it open; is it gone? Call it under the lock."""
    descriptor = folder.open(name, os.O_RDWR)
    try:
        if descriptor is not None and not try_lock(descriptor):
            return False
        for file in (f"{name}.parts.new", f"{name}.parts", name):
            folder.remove(file)
    finally:
        if descriptor is not None:
            with suppress(OSError):
                os.close(descriptor)
    return True


@disk_errors()
def discard_partials(layout: Layout, lock: StoreLock) -> tuple[Blob, ...]:
    """Throws away every download that nobody works on; what each of them had on disk."""
    gone = []
    with lock.held(), layout.partials() as folder:
        for file in folder.names():
            digest, status = digest_of(file), folder.look(file)
            if (
                digest is not None
                and status is not None
                and stat.S_ISREG(status.st_mode)
                and clear_partial(folder, file)
            ):
                gone.append(Blob(digest, min(status.st_blocks * SECTOR, status.st_size)))
    return tuple(gone)
