"""Models fetched from registries and brought to them: the registry's side and the store's, put together.

The rule: what is fetched becomes a model in one step, at the end, when every blob is in its place and has its digest;
what is sent was read from a store whose manifest is sound. Room for a blob is set aside before its first byte comes.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from localmodels.core.catalog import Blob
from localmodels.core.errors import ContentMismatch, ModelDamaged, ModelNotFound, Unsupported
from localmodels.core.library import SUCCESS, Progress, PullRequest, PushRequest
from localmodels.core.spans import Span
from localmodels.flows.library import leased
from localmodels.registry.addresses import Registries, read_reference
from localmodels.registry.distribution import Distribution
from localmodels.registry.downloads import Downloads
from localmodels.registry.progress import Progress as BlobProgress
from localmodels.registry.pull import Pulled, Puller
from localmodels.registry.push import Pusher
from localmodels.store.leases import Lease
from localmodels.store.library import Library
from localmodels.store.manifests import parse_manifest
from localmodels.store.model_store import ModelStore
from localmodels.store.partials import Partial

Steps = AsyncGenerator[Progress, None]
SHORT = 12  # digits of a digest that a status shows, as Ollama's


class Transfers:
    """Pulls and pushes.

    Args:
        store: where models are put and sent from.
        library: finds what is sent.
        registry: the protocol.
        registries: where each host's models are.
    """

    def __init__(self, store: ModelStore, library: Library, registry: Distribution, registries: Registries) -> None:
        self._store = store
        self._library = library
        self._registry = registry
        self._registries = registries
        self._puller = Puller(registry, Downloads(StoreSinks(store)), blobs_of)
        self._pusher = Pusher(registry, StoreSources(store))

    async def pull(self, request: PullRequest) -> Steps:
        """Fetches a model; one that is here already is looked for anew, and what has changed is fetched.

        Raises:
            ModelNotFound: the registry has none of this name.
            DiskFull: there is no room.
            LocalModelsError: it cannot be had.
        """
        name, plain = read_reference(request.model)
        # Whoever may ask this server is its operator: it listens to this machine only, until there are keys.
        places = self._registries.places(name, insecure=request.insecure or plain, named=True)
        yield Progress("pulling manifest")
        manifest, _ = await self._puller.manifest(name, places)
        async with leased(self._store, f"pull {name}") as lease:
            await asyncio.to_thread(lease.protect, *(blob.digest for blob in blobs_of(manifest.data)))
            async with aclosing(self._puller.pull(name, places)) as steps:
                async for step in steps:
                    if isinstance(step, Pulled):
                        manifest = step.manifest
                    else:
                        yield shown("pulling", step)
            yield Progress("verifying sha256 digest")
            yield Progress("writing manifest")
            await asyncio.to_thread(self._store.publish, lease, name, manifest.data)
        yield Progress(SUCCESS)

    async def push(self, request: PushRequest) -> Steps:
        """Sends a model of our store.

        Raises:
            ModelNotFound: there is none of this name.
            LocalModelsError: the registry does not take it.
        """
        name, plain = read_reference(request.model)
        places = self._registries.places(name, insecure=request.insecure or plain, named=True)
        yield Progress("retrieving manifest")
        entry = await asyncio.to_thread(self._library.find, str(name))
        if entry.source != "home":
            raise Unsupported(f"{name} is not in our store; copy it first: localmodels cp {name} {name}", param="model")
        data = await asyncio.to_thread(self._store.read_manifest, entry.name)
        if data is None:
            raise ModelNotFound(request.model)
        async with leased(self._store, f"push {name}") as lease:
            await asyncio.to_thread(lease.protect, *(blob.digest for blob in blobs_of(data)))
            async with aclosing(self._pusher.push(name, places[0], data, blobs_of(data))) as steps:
                async for step in steps:
                    yield shown("pushing", step)
            yield Progress("pushing manifest")
        yield Progress(SUCCESS)


def blobs_of(manifest: bytes) -> Sequence[Blob]:
    """Every blob that a manifest names.

    Raises:
        ModelDamaged: it is no manifest.
    """
    return [Blob(layer.digest, layer.size) for layer in parse_manifest(manifest).blobs]


def shown(doing: str, step: BlobProgress) -> Progress:
    """How far a blob is, as Ollama's clients show it."""
    blob = step.blob
    return Progress(f"{doing} {blob.digest.hex[:SHORT]}", str(blob.digest), blob.size, step.completed)


class StoreSinks:
    """Blobs that are fetched, into the store; parts that have come survive a restart."""

    def __init__(self, store: ModelStore) -> None:
        self._store = store

    async def open(self, blob: Blob) -> StoreSink | None:
        """A sink for this blob; None when it is in its place already."""
        return await asyncio.to_thread(self._open, blob)

    def _open(self, blob: Blob) -> StoreSink | None:
        if self._store.find(blob.digest, blob.size) is not None:
            return None
        lease = self._store.lease(f"pull {blob.digest}")
        try:
            partial = self._store.partial(lease, blob.digest, blob.size)
            try:
                lease.reserve(blob.size - partial.arrived)
            except BaseException:
                partial.close()
                raise
        except BaseException:
            lease.close()
            raise
        return StoreSink(self._store, lease, partial, blob)


class StoreSink:
    """One blob on its way into the store."""

    def __init__(self, store: ModelStore, lease: Lease, partial: Partial, blob: Blob) -> None:
        self._store = store
        self._lease = lease
        self._partial = partial
        self._blob = blob

    @property
    def have(self) -> Sequence[Span]:
        """What has arrived and is on disk."""
        return self._partial.done

    async def write(self, offset: int, data: bytes | memoryview) -> None:
        """Writes some bytes."""
        await asyncio.to_thread(self._partial.write, offset, data)

    async def keep(self, start: int, stop: int) -> None:
        """These need never be fetched again."""
        await asyncio.to_thread(self._partial.finish, start, stop - start)

    async def finish(self) -> bool:
        """Verifies it and puts it in its place; False if it was not what its digest says, and was thrown away."""
        return await asyncio.to_thread(self._finish)

    def _finish(self) -> bool:
        try:
            self._partial.commit()
        except ContentMismatch:
            self._partial.close()
            self._partial = self._store.partial(self._lease, self._blob.digest, self._blob.size)
            return False
        return True

    async def close(self) -> None:
        """Ends it; what has arrived stays."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._partial.close()
        self._lease.close()


class StoreSources:
    """Blobs that are sent, from the store."""

    def __init__(self, store: ModelStore) -> None:
        self._store = store

    async def open(self, blob: Blob) -> StoreSource:
        """Reads this blob.

        Raises:
            ModelDamaged: it is not here, or has another size.
        """
        return await asyncio.to_thread(self._open, blob)

    def _open(self, blob: Blob) -> StoreSource:
        if self._store.find(blob.digest, blob.size) is None:
            raise ModelDamaged(f"sha256-{blob.digest.hex}: missing, or of another size")
        path = self._store.layout.blob(blob.digest)
        return StoreSource(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC))


class StoreSource:
    """An open blob."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    async def read(self, offset: int, size: int) -> bytes:
        """So many bytes from there; fewer only at the end."""
        return await asyncio.to_thread(os.pread, self._descriptor, size, offset)

    async def close(self) -> None:
        """Closes it."""
        os.close(self._descriptor)
