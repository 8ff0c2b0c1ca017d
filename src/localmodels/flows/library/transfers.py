"""Models fetched from registries and brought to them: the registry's side and the store's, put together.

The rule: what is fetched becomes a model in one step, at the end, when every blob is in its place and has its digest;
what is sent was read from a store whose manifest is sound. Room for a blob is set aside before its first byte comes.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress

from localmodels.core.catalog import Blob, ModelName
from localmodels.core.errors import ContentMismatch, Garbled, ModelDamaged, Unsupported
from localmodels.core.library import SUCCESS, Progress, PullRequest, PushRequest
from localmodels.core.spans import Span
from localmodels.dialects.strict_json import parsed
from localmodels.flows.concurrency.threads import in_thread, opened
from localmodels.flows.library.hub_pulls import HubPulls, shown
from localmodels.flows.library.leases import leased, naming
from localmodels.registry.addresses import Registries, read_reference, repository
from localmodels.registry.distribution import Distribution
from localmodels.registry.downloads import Downloads
from localmodels.registry.hub import Hub
from localmodels.registry.hub_pull import HubPuller
from localmodels.registry.pull import Pulled, Puller
from localmodels.registry.push import Pusher
from localmodels.store.folders import disk_errors
from localmodels.store.layout import blob_name
from localmodels.store.leases import Lease
from localmodels.store.library import Library
from localmodels.store.manifests import parse_manifest
from localmodels.store.model_store import ModelStore
from localmodels.store.partials import Partial

Steps = AsyncGenerator[Progress, None]
KINDS = 3  # of layers that are told of what is no model


class Transfers:
    """Pulls and pushes.

    Args:
        store: where models are put and sent from.
        library: finds what is sent.
        registry: the protocol.
        hub: the other protocol, of Hugging Face's hub and of what stands in for it.
        registries: where each host's models are. Hosts that a request names are as good as registered only where
            whoever asks is the operator: strangers would have us look around in the local network (threat V-18).
    """

    def __init__(
        self,
        store: ModelStore,
        library: Library,
        registry: Distribution,
        hub: Hub,
        registries: Registries,
    ) -> None:
        self._store = store
        self._library = library
        self._registry = registry
        self._registries = registries
        downloads = Downloads(StoreSinks(store))
        self._puller = Puller(registry, downloads, blobs_of)
        self._hub_pulls = HubPulls(store, HubPuller(hub, downloads))
        self._pusher = Pusher(registry, StoreSources(store))

    async def pull(self, request: PullRequest) -> Steps:
        """Fetches a model; one that is here already is looked for anew, and what has changed is fetched.

        Raises:
            ModelNotFound: the registry has none of this name.
            Conflict: it would be hidden by a file that was named with ``--model``.
            DiskFull: there is no room.
            LocalModelsError: it cannot be had.
        """
        name, plain = read_reference(request.model)
        places = self._registries.places(name, insecure=request.insecure or plain, named=request.operator)
        await in_thread(self._library.require_seen, name)
        if places[-1].speaks == "hub":
            async with aclosing(self._hub_pulls.pull(name, places)) as steps:
                async for step in steps:
                    yield step
            return
        yield Progress("pulling manifest")
        known = manifest, _ = await self._puller.manifest(name, places)
        require_model(name, manifest.data)
        async with naming(self._store, name), leased(self._store, f"pull {name}") as lease:
            await in_thread(lease.protect, *(blob.digest for blob in blobs_of(manifest.data)))
            async with aclosing(self._puller.pull(name, places, known)) as pulling:
                async for one in pulling:
                    if not isinstance(one, Pulled):
                        yield shown("pulling", one)
            yield Progress("verifying sha256 digest")
            yield Progress("writing manifest")
            await in_thread(self._store.publish, lease, name, manifest.data)
        yield Progress(SUCCESS)

    async def push(self, request: PushRequest) -> Steps:
        """Sends a model of our store.

        Raises:
            ModelNotFound: there is none of this name.
            LocalModelsError: the registry does not take it.
        """
        name, plain = read_reference(request.model)
        places = self._registries.places(name, insecure=request.insecure or plain, named=request.operator)
        if places[-1].speaks == "hub":
            raise Unsupported(f"{name.host} takes no models from here; upload the file with `hf upload`", param="model")
        yield Progress("retrieving manifest")
        entry = await in_thread(self._library.named, str(name))
        if entry.source != "home":
            to = "NAME" if entry.source == "file" else name  # under its own name it would be hidden
            raise Unsupported(f"{name} is not in our store; copy it first: localmodels cp {name} {to}", param="model")
        async with leased(self._store, f"push {name}") as lease:
            data = await in_thread(self._store.hold_manifest, lease, entry.name)
            mount = await in_thread(relative, self._store, name, blobs_of(data))
            async with aclosing(self._pusher.push(name, places[-1], data, blobs_of(data), mount=mount)) as steps:
                async for step in steps:
                    yield shown("pushing", step)
        yield Progress(SUCCESS)


def blobs_of(manifest: bytes) -> Sequence[Blob]:
    """Every blob that a manifest names.

    Raises:
        ModelDamaged: it is no manifest.
    """
    return [Blob(layer.digest, layer.size) for layer in parse_manifest(manifest).blobs]


def require_model(name: ModelName, manifest: bytes) -> None:
    """Looks whether what a registry has under a name can become a model, before any of it is fetched.

    Raises:
        Garbled: it is no manifest that anybody could read.
        Unsupported: it is of something else.
    """
    try:
        read = parse_manifest(manifest)
    except ModelDamaged as error:
        raise Garbled(f"the registry's manifest of {name} cannot be used: {error.message}") from error
    if not read.of("model"):
        kinds = dict.fromkeys(layer["mediaType"] for layer in parsed(manifest)["layers"])
        there = f"layers of the kind {', '.join([*kinds][:KINDS])[:200]!r}" if kinds else "no layers"
        raise Unsupported(f"{name} is no model that can be run here: it has {there} and no GGUF file", param="model")


def relative(store: ModelStore, name: ModelName, blobs: Sequence[Blob]) -> ModelName | None:
    """The model of the same registry that has most of these blobs, in bytes: they need not be sent there again."""
    wanted = {blob.digest: blob.size for blob in blobs}
    shared: dict[ModelName, int] = {}
    for other in store.layout.names():
        if not isinstance(other, ModelName) or other.host != name.host or repository(other) == repository(name):
            continue
        with suppress(ModelDamaged):
            theirs = {blob.digest for blob in blobs_of(store.read_manifest(other) or b"")}
            shared[other] = sum(size for digest, size in wanted.items() if digest in theirs)
    best = max(shared, key=shared.__getitem__, default=None)
    return best if best is not None and shared[best] else None


class StoreSinks:
    """Blobs that are fetched, into the store; parts that have come survive a restart."""

    def __init__(self, store: ModelStore) -> None:
        self._store = store

    async def open(self, blob: Blob) -> StoreSink | None:
        """A sink for this blob; None when it is in its place already."""
        return await opened(lambda: self._open(blob), shut)

    def _open(self, blob: Blob) -> StoreSink | None:
        # One that is damaged is fetched again, and replaced once the new one is verified.
        if self._store.whole(blob.digest, blob.size) is not None:
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
        await in_thread(self._partial.write, offset, data)

    async def keep(self, start: int, stop: int) -> None:
        """These need never be fetched again."""
        await in_thread(self._partial.finish, start, stop - start)

    async def finish(self) -> bool:
        """Verifies it and puts it in its place; False if it was not what its digest says, and was thrown away."""
        return await in_thread(self._finish)

    def _finish(self) -> bool:
        try:
            self._partial.commit()
        except ContentMismatch:
            self._partial.close()
            self._lease.reserve(self._blob.size)  # what was set aside has been used
            self._partial = self._store.partial(self._lease, self._blob.digest, self._blob.size)
            return False
        return True

    async def close(self) -> None:
        """Ends it; what has arrived stays."""
        await in_thread(self.shut)

    def shut(self) -> None:
        """The same, in this thread."""
        self._partial.close()
        self._lease.close()


def shut(sink: StoreSink | None) -> None:
    """Ends one that nobody took."""
    if sink is not None:
        sink.shut()


class StoreSources:
    """Blobs that are sent, from the store."""

    def __init__(self, store: ModelStore) -> None:
        self._store = store

    async def open(self, blob: Blob) -> StoreSource:
        """Reads this blob.

        Raises:
            ModelDamaged: it is not here, or is not what its digest says.
        """
        return await opened(lambda: self._open(blob), StoreSource.shut)

    def _open(self, blob: Blob) -> StoreSource:
        if self._store.whole(blob.digest, blob.size) is None:
            raise ModelDamaged(f"sha256-{blob.digest.hex}: missing or damaged; pull or create the model again")
        with disk_errors(), self._store.layout.blobs() as blobs:
            descriptor = blobs.open(blob_name(blob.digest))
        if descriptor is None:
            raise ModelDamaged(f"sha256-{blob.digest.hex}: missing")
        return StoreSource(descriptor)


class StoreSource:
    """An open blob."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    async def read(self, offset: int, size: int) -> bytes:
        """So many bytes from there; fewer only at the end."""
        return await in_thread(self._read, offset, size)

    @disk_errors()
    def _read(self, offset: int, size: int) -> bytes:
        return os.pread(self._descriptor, size, offset)

    async def close(self) -> None:
        """Closes it."""
        self.shut()

    def shut(self) -> None:
        """The same, in this thread."""
        os.close(self._descriptor)
