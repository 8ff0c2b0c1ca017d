"""Looks whether blobs are what their names say, before anybody relies on them.

The rule: a blob that is vouched for by a seal is not read again; any other is read from end to end, and sealed if it is
sound. What was read is what is judged: a file that changes meanwhile is not sealed.
"""

from __future__ import annotations

import errno
import hashlib
import os
from typing import Literal

from msgspec import Struct

from localmodels.core.catalog import Digest
from localmodels.core.errors import ModelDamaged
from localmodels.store.folders import disk_errors
from localmodels.store.layout import Layout, blob_name
from localmodels.store.pieces import CHUNK, Progress, no_progress
from localmodels.store.seals import Seals

Policy = Literal["first", "always", "never"]
"""When blobs are hashed before they are used: the first time (and when their seal is broken or old), always, never."""


class Content(Struct, frozen=True):
    """What a blob's bytes hash to, and what the file system said of the file before and after it was read."""

    digest: Digest
    before: os.stat_result
    after: os.stat_result

    @property
    def still(self) -> bool:
        """Nobody wrote to it meanwhile."""
        return (self.before.st_mtime_ns, self.before.st_size) == (self.after.st_mtime_ns, self.after.st_size)


def read_content(layout: Layout, digest: Digest, progress: Progress = no_progress) -> Content | None:
    """Hashes a blob; None if it is not there.

    Args:
        layout: of the store that it lies in.
        digest: its name.
        progress: told how many bytes each piece had; what it raises ends the reading.

    Raises:
        ModelDamaged: it is not a plain file.
        OSError: the disk does not give it.
    """
    with layout.blobs() as blobs:
        descriptor = blobs.open(blob_name(digest))
    if descriptor is None:
        return None
    total = hashlib.sha256()
    try:
        before = os.fstat(descriptor)
        while piece := os.read(descriptor, CHUNK):
            total.update(piece)
            progress(len(piece))
        return Content(Digest(total.hexdigest()), before, os.fstat(descriptor))
    finally:
        os.close(descriptor)


@disk_errors()
def is_sealed(layout: Layout, digest: Digest, seals: Seals) -> bool:
    """Is a blob there, and vouched for? It is not read."""
    try:
        with layout.blobs() as blobs:
            status = blobs.status(blob_name(digest))
    except FileNotFoundError:
        return False
    return status is not None and seals.vouches(digest, status)


@disk_errors()
def renew_seal(layout: Layout, digest: Digest, size: int, seals: Seals, progress: Progress = no_progress) -> None:
    """Reads a blob of this size that is there and that nothing vouches for, and seals it anew if it is sound.

    Where an artifact and a blob are one file, the artifact's end breaks the blob's seal, and changes none of its bytes.

    Args:
        layout: of the store.
        digest: of the blob.
        size: that it must have; one of another size is not sound.
        seals: of the store.
        progress: told how many bytes each piece had; what it raises ends the reading.

    Raises:
        ModelDamaged: something else than a file lies in its place.
    """
    with layout.blobs() as blobs:
        status = blobs.status(blob_name(digest))
    if status is None or status.st_size != size or seals.vouches(digest, status):
        return
    try:
        content = read_content(layout, digest, progress)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return  # what the disk does not give is not sound
    if content is not None and content.still:
        seals.judge(digest, content.after, sound=content.digest == digest)


@disk_errors()
def require_sound(layout: Layout, digest: Digest, seals: Seals, progress: Progress = no_progress) -> None:
    """Reads a blob from end to end, and seals it.

    Raises:
        ModelDamaged: it is missing, or its content is another than its name says.
    """
    file = blob_name(digest)
    try:
        content = read_content(layout, digest, progress)
    except OSError as error:
        if error.errno == errno.EIO:
            raise ModelDamaged(f"{file}: damaged, the disk cannot read it; pull or create the model again") from error
        if error.errno != errno.ENOENT:
            raise
        content = None
    if content is None:
        raise ModelDamaged(f"{file}: missing; pull or create the model again")
    if content.still:
        seals.judge(digest, content.after, sound=content.digest == digest)
    if content.digest != digest:
        raise ModelDamaged(f"{file}: damaged, its content is not what its name says; pull or create the model again")
