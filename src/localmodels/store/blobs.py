"""Writes blobs: whole, verified and durable before they have their name.

The order is the rule: an unfinished file in the lease's own directory, the digest taken from the bytes on their way
past, size and digest compared, the file synced, moved in one step to the name that its content gives it, the directory
synced. So a file under a digest's name has that content, and one that is named by a manifest is on disk.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from contextlib import suppress
from types import TracebackType
from typing import Self

from localmodels.core.catalog import Blob, Digest
from localmodels.core.errors import ContentMismatch
from localmodels.store.folders import disk_errors, write_all
from localmodels.store.layout import Layout, blob_name
from localmodels.store.leases import Lease
from localmodels.store.pieces import Progress, no_progress
from localmodels.store.seals import Seals
from localmodels.store.soundness import renew_seal


@disk_errors()
def find_blob(layout: Layout, digest: Digest, size: int | None = None) -> Blob | None:
    """The blob, if it is there, and of this ``size`` where one is given. Its content is not read.

    Raises:
        ModelDamaged: something else than a file lies in its place.
    """
    try:
        with layout.blobs() as blobs:
            status = blobs.status(blob_name(digest))
    except FileNotFoundError:
        return None
    if status is None or (size is not None and status.st_size != size):
        return None
    return Blob(digest, status.st_size)


def write_blob(
    lease: Lease,
    pieces: Iterable[bytes],
    *,
    digest: Digest | None = None,
    size: int | None = None,
    progress: Progress = no_progress,
) -> Blob:
    """Writes a blob from pieces; none of them is taken if a blob of this digest and size is there already.

    Args:
        lease: protects the blob until the lease ends.
        pieces: its bytes, in order.
        digest: what they must hash to; None takes what they do hash to.
        size: how many they must be; one byte more ends the writing.
        progress: told how many bytes are written, after each piece.

    Raises:
        ContentMismatch: they are not what ``digest`` or ``size`` says.
        DiskFull: there is no room.
    """
    if digest is not None and size is not None:
        lease.protect(digest)  # first, or a collection could take it after it was found
        found = find_blob(lease.layout, digest, size)
        if found is not None:
            return found
    with BlobWriter(lease, digest=digest, size=size) as writer:
        for piece in pieces:
            writer.write(piece)
            progress(writer.written)
        return writer.commit()


class BlobWriter:
    """One blob on its way; a context manager that removes what was not committed. For one thread."""

    @disk_errors()
    def __init__(self, lease: Lease, *, digest: Digest | None = None, size: int | None = None) -> None:
        if digest is not None:
            blob_name(digest)
        self.written = 0
        self._lease = lease
        self._digest = digest
        self._size = size
        self._hash = hashlib.sha256()
        self._file = lease.new_file()
        self._descriptor = lease.folder.create(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.cancel()

    @disk_errors()
    def write(self, piece: bytes | memoryview) -> None:
        """Adds bytes at the end.

        Raises:
            ContentMismatch: they are more than the blob has.
        """
        if self._size is not None and self.written + len(piece) > self._size:
            raise ContentMismatch(f"the content is longer than the {self._size} bytes that were announced")
        write_all(self._descriptor, piece)
        self._hash.update(piece)
        self.written += len(piece)
        self._lease.spend(len(piece))

    @disk_errors()
    def commit(self) -> Blob:
        """Gives the blob its name.

        A blob that was there already stays if it is sound, and is replaced otherwise.

        Raises:
            ContentMismatch: the bytes are not what the digest or the size says.
            ModelDamaged: something else than a file lies in its place.
        """
        blob = Blob(Digest(self._hash.hexdigest()), self.written)
        verify(blob, self._digest, self._size)
        self._lease.protect(blob.digest)
        os.fsync(self._descriptor)
        publish_blob(self._lease, self._file, blob.digest, self._descriptor)
        self._close()
        return blob

    def cancel(self) -> None:
        """Removes what was written, unless it was committed."""
        if self._descriptor >= 0:
            self._close()
            with suppress(OSError):  # what cannot be removed now goes with the lease
                self._lease.folder.remove(self._file)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)


def verify(blob: Blob, digest: Digest | None, size: int | None) -> None:
    """Compares what came with what was announced.

    Raises:
        ContentMismatch: they differ.
    """
    if size is not None and blob.size != size:
        raise ContentMismatch(f"the content has {blob.size} bytes, not the {size} that were announced")
    if digest is not None and blob.digest != digest:
        raise ContentMismatch(f"the content has the digest {blob.digest}, not {digest}", param="digest")


def publish_blob(lease: Lease, file: str, digest: Digest, descriptor: int, progress: Progress = no_progress) -> None:
    """Moves a synced file of a lease, which is open, to the name of its content, and seals it.

    One that is there and sound stays, and the new file goes: runners have the old one open, or are about to open it.
    ``progress`` is told how many bytes each piece has that is read to know it.

    Raises:
        ModelDamaged: something else than a file lies in its place.
    """
    name, seals = blob_name(digest), Seals(lease.layout)
    renew_seal(lease.layout, digest, os.fstat(descriptor).st_size, seals, progress)
    with lease.layout.blobs() as blobs:
        if stays(seals, digest, blobs.status(name)):
            lease.folder.remove(file)
            seals.ask(digest)
            return
        lease.folder.move(file, blobs, name)
        blobs.sync()
    seals.seal(digest, os.fstat(descriptor))


def stays(seals: Seals, digest: Digest, there: os.stat_result | None) -> bool:
    """Is what lies in a blob's place as good as the same content that has just been verified?

    What nothing vouches for may have rotted, and is replaced.
    """
    return there is not None and seals.vouches(digest, there)
