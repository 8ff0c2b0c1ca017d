"""The files of models that are in memory: whole before they are loaded, and kept until they are unloaded.

The rule: nothing damaged is loaded, and nothing is read twice to know it. A blob that is being hashed is hashed for
everybody who waits for it, and also when the last of them has left: a disk that is too slow for one load timeout is
then not too slow for the next request. Files that were named one by one have no digest, so nothing is known of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from time import monotonic

from localmodels.core.catalog import Digest, ModelName
from localmodels.core.errors import LocalModelsError, ModelDamaged
from localmodels.engine.loadable import Loadable
from localmodels.store.leases import Lease
from localmodels.store.manifests import parse_manifest
from localmodels.store.model_store import ModelStore
from localmodels.store.soundness import Policy

log = logging.getLogger(__name__)

SAID_EVERY = 10.0  # seconds between two lines in the log about one blob that is being read
# Seconds that a load waits for its lease, which takes milliseconds. So a deletion comes either before the look whether
# the files are there, or after it and leaves them; only a disk that hangs leaves a gap.
MOMENT = 1.0


class StoredFiles:
    """Cares for models that lie in stores; see :class:`localmodels.engine.pool.Files`.

    Args:
        store: ours. Its blobs are leased while they are in use; those of other stores are only read.
        policy: when blobs are hashed.
    """

    def __init__(self, store: ModelStore, policy: Policy) -> None:
        self._store = store
        self._policy = policy
        self._readings: dict[tuple[str, Digest], asyncio.Task[None]] = {}

    @asynccontextmanager
    async def held(self, loadable: Loadable) -> AsyncIterator[None]:
        """No collection of any process takes the model's blobs meanwhile; a deletion gets them when it ends.

        One that cannot be had (the disk is full or read-only) keeps nobody from loading, and one that cannot be had
        within a moment is had beside the load.
        """
        if loadable.store != str(self._store.layout.root):
            yield
            return
        leasing = asyncio.create_task(asyncio.to_thread(self._lease, loadable))
        try:
            await asyncio.wait((leasing,), timeout=MOMENT)
            yield
        finally:
            await asyncio.shield(self._released(loadable, leasing))

    async def whole(self, loadable: Loadable) -> None:
        """Hashes the blobs that nothing vouches for.

        Raises:
            ModelDamaged: one of them is missing, or is not what its name says.
        """
        if self._policy == "never":
            return
        wanted = [(loadable.store, digest) for digest in loadable.blobs]
        if self._policy == "first":
            wanted = await asyncio.to_thread(self._unknown, wanted)
        for key in wanted:
            reading = self._readings.get(key) or self._begin(key, loadable.model.name)
            await asyncio.shield(reading)

    async def close(self) -> None:
        """Waits until nothing is read any more; the store must have been closed."""
        if self._readings:
            await asyncio.wait(self._readings.values())

    def _unknown(self, wanted: list[tuple[str, Digest]]) -> list[tuple[str, Digest]]:
        return [(root, digest) for root, digest in wanted if not self._store.is_sealed(Path(root), digest)]

    def _begin(self, key: tuple[str, Digest], name: str) -> asyncio.Task[None]:
        reading = self._readings[key] = asyncio.create_task(asyncio.to_thread(self._read, *key, name))
        reading.add_done_callback(lambda _: self._ended(key))
        return reading

    def _ended(self, key: tuple[str, Digest]) -> None:
        reading = self._readings.pop(key)
        if not reading.cancelled():
            reading.exception()  # whoever waits has it

    def _read(self, root: str, digest: Digest, name: str) -> None:
        if self._policy == "first" and self._store.is_sealed(Path(root), digest):
            return  # somebody's reading ended since we looked
        began = said = monotonic()
        done = 0

        def tell(size: int) -> None:
            nonlocal done, said
            done += size
            if monotonic() - said >= SAID_EVERY:
                said = monotonic()
                log.info("%s: %.1f GB of sha256-%.12s are read, to see that it is whole", name, done / 1e9, digest.hex)

        self._store.require_sound(Path(root), digest, tell)
        log.info("%s: sha256-%.12s is whole (%.1f s)", name, digest.hex, monotonic() - began)

    def _lease(self, loadable: Loadable) -> Lease | None:
        try:
            lease = self._store.lease(f"run {loadable.model.name}")
        except LocalModelsError as error:
            log.warning("%s is not protected from a collection: %s", loadable.model.name, error)
            return None
        try:
            lease.protect(*loadable.blobs)
        except LocalModelsError as error:
            lease.close()
            log.warning("%s is not protected from a collection: %s", loadable.model.name, error)
            return None
        return lease

    async def _released(self, loadable: Loadable, leasing: asyncio.Task[Lease | None]) -> None:
        lease = await leasing
        if lease is not None:
            await asyncio.to_thread(lease.close)
        await asyncio.to_thread(self._clear, loadable)

    def _clear(self, loadable: Loadable) -> None:
        """Collects what was of the model, if it is not there any more: a deletion had to leave it to us."""
        with suppress(LocalModelsError):
            if not self._is_there(loadable):
                self._store.collect(released=loadable.blobs)

    def _is_there(self, loadable: Loadable) -> bool:
        data = self._store.read_manifest(ModelName.parse(loadable.model.name))
        try:
            return data is not None and set(loadable.blobs) == {layer.digest for layer in parse_manifest(data).blobs}
        except ModelDamaged:
            return True  # whatever it may have named stays
