"""Makes blobs of finished files, without copying where the file system allows it.

The rule is the one of :mod:`localmodels.store.blobs`, with one more: what is hashed is what will lie in the store,
never the file that it comes from, unless each byte is copied as it is hashed.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from localmodels.core.catalog import Blob, Digest
from localmodels.core.errors import InvalidRequest
from localmodels.store.blobs import publish_blob, verify
from localmodels.store.folders import disk_errors, plain, write_all
from localmodels.store.leases import Lease
from localmodels.store.pieces import CHUNK, Progress, no_progress

# linux/fs.h: _IOW(0x94, 9, int). XFS, Btrfs and bcachefs let two files share their blocks until one is written.
_FICLONE = 0x40049409
_NO_LINK = frozenset({errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP})


def adopt_file(
    lease: Lease, source: Path, *, digest: Digest | None = None, ours: bool = False, progress: Progress = no_progress
) -> Blob:
    """Makes a finished file a blob; it stays where it is.

    Where the file system can share blocks, or the file is ``ours``, no byte is copied; it is read once, for its digest.

    Args:
        lease: protects the blob until the lease ends.
        source: a plain file; a link to one is followed.
        digest: what it must hash to; None takes what it does hash to.
        ours: nobody else writes it now or later, so the blob may be the same file under a second name.
        progress: told how many bytes are hashed.

    Raises:
        InvalidRequest: there is no such plain file.
        ContentMismatch: it is not what ``digest`` says.
        DiskFull: it must be copied, and there is no room.
    """
    with BlobCopy(lease, source, ours=ours) as copy:
        return copy.commit(digest, progress)


class BlobCopy:
    """A file that becomes a blob; a context manager that removes what was not committed."""

    @disk_errors()
    def __init__(self, lease: Lease, source: Path, *, ours: bool) -> None:
        self._lease = lease
        self._file = lease.new_file()
        self._source = _open_source(source)
        self._target = -1
        try:
            self._shared = (ours and self._linked(source)) or self._cloned()
        except OSError:
            self.__exit__(None, None, None)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for descriptor in (self._source, self._target):
            if descriptor >= 0:
                os.close(descriptor)
        with suppress(OSError):  # after a commit there is none; what cannot be removed goes with the lease
            self._lease.folder.remove(self._file)

    def commit(self, digest: Digest | None, progress: Progress) -> Blob:
        """Hashes, copies where nothing is shared, and gives the blob its name."""
        blob = self._hashed(progress)
        verify(blob, digest, None)
        self._lease.protect(blob.digest)
        with disk_errors():
            os.fsync(self._target)
            publish_blob(self._lease, self._file, blob.digest, self._target, lambda _: progress(blob.size))
        return blob

    def _linked(self, source: Path) -> bool:
        """One file under two names is one content only while nobody writes it: a third name means a stranger."""
        status = os.fstat(self._source)
        if status.st_nlink != 1:
            return False
        try:
            self._lease.folder.link(source, self._file)
        except OSError as error:
            if error.errno in _NO_LINK:
                return False
            raise
        linked = self._lease.folder.look(self._file)
        if linked is None or not os.path.samestat(linked, status):  # the path was a link, or changed hands
            self._lease.folder.remove(self._file)
            return False
        self._target = os.dup(self._source)
        return True

    def _cloned(self) -> bool:
        """A file of its own that shares its blocks with the source; if that cannot be, an empty file."""
        self._target = self._lease.folder.create(self._file)
        if sys.platform != "linux":
            return False
        try:
            fcntl.ioctl(self._target, _FICLONE, self._source)
        except OSError:
            return False
        return True

    def _hashed(self, progress: Progress) -> Blob:
        total = hashlib.sha256()
        done = 0
        # What is shared is hashed as it lies in the store: the source may change meanwhile.
        origin = self._target if self._shared else self._source
        if not self._shared:
            self._lease.reserve(os.fstat(self._source).st_size)
        while True:
            with disk_errors():
                piece = os.pread(origin, CHUNK, done)
                if piece and not self._shared:
                    write_all(self._target, piece)
                    self._lease.spend(len(piece))
            if not piece:
                return Blob(Digest(total.hexdigest()), done)
            total.update(piece)
            done += len(piece)
            progress(done)


def _open_source(source: Path) -> int:
    try:
        descriptor = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InvalidRequest(f"{source.name}: there is no such file") from error
    try:
        plain(source.name, os.fstat(descriptor))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
