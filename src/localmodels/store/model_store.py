"""The write side of a store, in one place: what flows build ``pull``, ``create``, ``copy`` and ``delete`` from.

::

    store = ModelStore(root)
    store.recover()                                    # once, when the program starts
    with store.lease("create mine:latest", reserve=size) as lease:
        weights = store.adopt(lease, path)             # or store.write(lease, pieces), or store.partial(lease, …)
        store.publish(lease, name, manifest)           # bytes

The rule: every method is atomic (a crash leaves the old state or the new), can be repeated, and may be called from any
thread of any process. They wait for the disk, so an event loop calls them in a thread.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path

from localmodels.core.catalog import Blob, Digest, ModelName
from localmodels.core.errors import ModelDamaged, ShuttingDown
from localmodels.store import blobs, publish
from localmodels.store.adopt import adopt_file
from localmodels.store.blobs import BlobWriter
from localmodels.store.check import Finding, check
from localmodels.store.collect import GRACE, Verdict, collect
from localmodels.store.layout import Layout
from localmodels.store.leases import Lease, Leases, Measure
from localmodels.store.lock import PATIENCE, StoreLock
from localmodels.store.manifests import Manifest
from localmodels.store.partials import Partial, discard_partials
from localmodels.store.pieces import Progress, no_progress
from localmodels.store.repair import PARTIAL_AGE, Repaired, recover, repair
from localmodels.store.seals import Seals
from localmodels.store.soundness import is_sealed, require_sound
from localmodels.store.space import space_of

STORE = "models"  # the directory of the home that holds our own models


class ModelStore:
    """One store on disk, to be written.

    Args:
        root: the directory that holds ``blobs`` and ``manifests``; it is made when it is first written to.
        measure: how much room there is, given a descriptor of a directory.
        patience: seconds to wait for somebody else's change of a name.
    """

    def __init__(self, root: Path, *, measure: Measure = space_of, patience: float = PATIENCE) -> None:
        self.layout = Layout(root)
        self.lock = StoreLock(self.layout, patience=patience)
        self._leases = Leases(self.layout, self.lock, measure=measure)
        self._seals = Seals(self.layout)
        self._closed = threading.Event()

    def close(self) -> None:
        """Ends what only reads and takes long; what is being written is ended by who writes it."""
        self._closed.set()

    def lease(self, purpose: str, *, reserve: int = 0) -> Lease:
        """A writer's corner of the store, with room set aside; a context manager.

        Raises:
            DiskFull: there is not so much room.
        """
        lease = self._leases.open(purpose)
        try:
            if reserve:
                lease.reserve(reserve)
        except BaseException:
            lease.close()
            raise
        return lease

    def find(self, digest: Digest, size: int | None = None) -> Blob | None:
        """The blob, if it is there and of this size; see :func:`localmodels.store.blobs.find_blob`."""
        return blobs.find_blob(self.layout, digest, size)

    def ask(self, digest: Digest) -> None:
        """Somebody counts on this blob; see :meth:`localmodels.store.seals.Seals.ask`."""
        self._seals.ask(digest)

    def whole(self, digest: Digest, size: int | None = None, progress: Progress = no_progress) -> Blob | None:
        """The blob, if it is there, of this size, and what its name says; it is read unless that is known already.

        ``progress`` hears of each piece that is read.

        Raises:
            ShuttingDown: the store was closed meanwhile.
        """
        blob = self.find(digest, size)
        if blob is not None and not self.is_sealed(self.layout.root, digest):
            try:
                self.require_sound(self.layout.root, digest, progress)
            except ModelDamaged:
                return None
        return blob

    def is_sealed(self, root: Path, digest: Digest) -> bool:
        """Is a blob of a store known to be whole? See :func:`localmodels.store.soundness.is_sealed`."""
        return is_sealed(Layout(root), digest, self._seals)

    def require_sound(self, root: Path, digest: Digest, progress: Progress = no_progress) -> None:
        """Reads a blob of a store, ours or another; see :func:`localmodels.store.soundness.require_sound`.

        Raises:
            ShuttingDown: this store was closed meanwhile.
        """

        def read(size: int) -> None:
            if self._closed.is_set():
                raise ShuttingDown("the server is shutting down")
            progress(size)

        require_sound(Layout(root), digest, self._seals, read)

    def write(
        self,
        lease: Lease,
        pieces: Iterable[bytes],
        *,
        digest: Digest | None = None,
        size: int | None = None,
        progress: Progress = no_progress,
    ) -> Blob:
        """Writes a blob from pieces; see :func:`localmodels.store.blobs.write_blob`."""
        return blobs.write_blob(lease, pieces, digest=digest, size=size, progress=progress)

    def writer(self, lease: Lease, *, digest: Digest | None = None, size: int | None = None) -> BlobWriter:
        """Writes a blob from pieces that come when they come; see :class:`localmodels.store.blobs.BlobWriter`."""
        return BlobWriter(lease, digest=digest, size=size)

    def adopt(
        self,
        lease: Lease,
        source: Path,
        *,
        digest: Digest | None = None,
        ours: bool = False,
        progress: Progress = no_progress,
    ) -> Blob:
        """Makes a finished file a blob; see :func:`localmodels.store.adopt.adopt_file`."""
        return adopt_file(lease, source, digest=digest, ours=ours, progress=progress)

    def partial(self, lease: Lease, digest: Digest, size: int) -> Partial:
        """A blob that arrives in parts; see :class:`localmodels.store.partials.Partial`."""
        return Partial(lease, digest, size)

    def publish(self, lease: Lease, name: ModelName, data: bytes) -> Manifest:
        """Makes a name mean the model of a manifest; see :func:`localmodels.store.publish.publish`."""
        return publish.publish(lease, name, data)

    def hold_manifest(self, lease: Lease, name: ModelName) -> bytes:
        """A manifest whose blobs stay; see :func:`localmodels.store.publish.hold_manifest`."""
        return publish.hold_manifest(lease, name)

    def copy(self, source: ModelName, target: ModelName) -> Manifest:
        """Makes a second name mean what the first does; see :func:`localmodels.store.publish.copy`."""
        with self.lease(f"copy {source} {target}") as lease:
            return publish.copy(lease, source, target)

    def delete(self, name: ModelName) -> bool:
        """Takes a name away; was it there? See :func:`localmodels.store.publish.delete`."""
        return publish.delete(self.layout, self.lock, name)

    def read_manifest(self, name: ModelName) -> bytes | None:
        """A manifest's bytes, as they came; None if there is none."""
        return publish.read_manifest(self.layout, name)

    def collect(self, *, grace: float = GRACE, released: Iterable[Digest] = ()) -> Verdict:
        """Removes the blobs that no model needs, and their seals; see :func:`localmodels.store.collect.collect`."""
        return collect(self.layout, self.lock, self._leases, grace=grace, released=released)

    def discard_partials(self) -> tuple[Blob, ...]:
        """Throws away downloads that nobody works on; see :func:`localmodels.store.partials.discard_partials`."""
        self.layout.prepare()
        return discard_partials(self.layout, self.lock)

    def check(self, *, read_data: bool = False, progress: Progress = no_progress) -> tuple[Finding, ...]:
        """Everything that is not as it should be; see :func:`localmodels.store.check.check`."""
        return check(self.layout, self.lock, read_data=read_data, progress=progress)

    def repair(self, *, read_data: bool = False, progress: Progress = no_progress) -> tuple[Repaired, ...]:
        """Puts right what can be; see :func:`localmodels.store.repair.repair`."""
        return repair(self.layout, self.lock, read_data=read_data, progress=progress)

    def recover(self, *, age: float = PARTIAL_AGE) -> tuple[str, ...]:
        """Clears away what dead writers left; see :func:`localmodels.store.repair.recover`."""
        return recover(self.layout, self.lock, age=age)
