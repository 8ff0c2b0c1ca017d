"""A store's lease for as long as something is done; threads wait for the disk.

The rule: who gives a name to something new gives back what the name meant before, as far as nothing else needs it.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from localmodels.core.catalog import Digest, ModelName
from localmodels.core.errors import LocalModelsError
from localmodels.flows.concurrency.threads import in_thread, opened
from localmodels.store.leases import Lease
from localmodels.store.manifests import parse_manifest
from localmodels.store.model_store import ModelStore

log = logging.getLogger(__name__)


@asynccontextmanager
async def leased(store: ModelStore, purpose: str, *, reserve: int = 0) -> AsyncIterator[Lease]:
    """A lease, opened and ended in a thread; it ends also when this is cancelled."""
    lease = await opened(lambda: store.lease(purpose, reserve=reserve), Lease.close)
    try:
        yield lease
    finally:
        await in_thread(lease.close)


@asynccontextmanager
async def naming(store: ModelStore, name: ModelName) -> AsyncIterator[None]:
    """Something is made that gets this name; when it has it, what had it before is collected."""
    before = await in_thread(blobs_of, store, name)
    yield
    if before and before != await in_thread(blobs_of, store, name):
        try:
            await in_thread(store.collect, released=before)
        except LocalModelsError as error:  # what is made is made; the next collection takes it
            log.warning("the old files of %s are not removed yet: %s", name, error)


def blobs_of(store: ModelStore, name: ModelName) -> tuple[Digest, ...]:
    """What a name's manifest is made of; nothing where there is none, or none that can be read.

    Its directory may go while it is looked for. Whether the disk refuses, what is done next finds out.
    """
    with suppress(LocalModelsError):
        if (data := store.read_manifest(name)) is not None:
            return tuple(layer.digest for layer in parse_manifest(data).blobs)
    return ()
