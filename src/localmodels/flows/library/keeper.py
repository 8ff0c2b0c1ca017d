"""What is done to the library of models: create, copy, delete and upload. Each is atomic, and can be repeated.

The rule: a name is given last, when all that it stands for is on disk; until then nothing of it can be seen, and what
was made for it is protected by a lease that ends with the operation, however it ends. Threads wait for the disk.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

from msgspec import structs

from localmodels.artifacts.chat_template import read_chat_template
from localmodels.artifacts.convert import Outline
from localmodels.artifacts.quantize import read_file_type
from localmodels.artifacts.recipe import expanded
from localmodels.core.catalog import Digest, ModelName
from localmodels.core.errors import Conflict, LocalModelsError, ModelDamaged, ModelNotFound, NotFound
from localmodels.core.library import SUCCESS, CopyRequest, CreateRequest, DeleteRequest, Progress
from localmodels.flows.concurrency.threads import finished, in_thread, opened
from localmodels.flows.library.build import Maker
from localmodels.flows.library.config_blobs import kept_of, texts_of
from localmodels.flows.library.conversion import with_words
from localmodels.flows.library.ingredients import Weights
from localmodels.flows.library.leases import blobs_of, leased, naming
from localmodels.flows.library.origins import Artifacts, NoArtifacts, Origin, Origins
from localmodels.store.blobs import BlobWriter
from localmodels.store.entries import Entry, Kind, details_of
from localmodels.store.leases import Lease
from localmodels.store.library import Library
from localmodels.store.manifests import Layer, parse_manifest, write_config, write_manifest
from localmodels.store.model_store import ModelStore
from localmodels.store.ollama import OllamaShelf

log = logging.getLogger(__name__)

Steps = AsyncGenerator[Progress, None]
# Bytes that are set aside at a time for an upload whose size nobody has said.
ROOM = 64 * 2**20
_ORDER: tuple[Kind, ...] = ("model", "projector", "adapter")  # of the layers in a manifest
_WHERE = {
    "file": "a file that was named with --model",
    "builtin": "the built-in model",
    "ollama": "in Ollama's store",
}


class Unloads(Protocol):
    """Takes a model out of memory as soon as it is idle: one that is there, or all that was loaded under a name."""

    async def unload(self, entry: Entry) -> None: ...

    async def unload_name(self, name: ModelName) -> None: ...


class Trial(Protocol):
    """Looks whether a model does what models are for."""

    async def __call__(self, entry: Entry) -> None:
        """Returns if it does.

        Raises:
            LocalModelsError: it does not; says what.
        """
        ...


Put = Callable[[Entry, Callable[[], Steps]], Steps]
"""Brings a model somewhere else; tells how far it is. What it is given beside gives the model its name here as well."""


class Keeper:
    """Changes the library.

    Args:
        store: is written; every other shelf is only read.
        library: finds models on all shelves.
        unloads: ends the runners of models that are deleted.
        artifacts: what was uploaded to become models.
        threads: how many quantise at once; 0 takes every processor.
    """

    def __init__(
        self,
        store: ModelStore,
        library: Library,
        unloads: Unloads,
        *,
        artifacts: Artifacts | None = None,
        threads: int = 0,
    ) -> None:
        self._origins = Origins(library, artifacts or NoArtifacts())
        self._maker = Maker(store, threads=threads or os.cpu_count() or 1)
        self._home = OllamaShelf(store.layout.root, source="home")
        self._store = store
        self._library = library
        self._unloads = unloads

    async def create(self, request: CreateRequest, trial: Trial | None = None, put: Put | None = None) -> Steps:
        """Makes a model of another one, of uploaded files, or of an artifact.

        Args:
            request: names them.
            trial: the model is put to it before it gets its name; if it fails, what had the name keeps it.
            put: brings it to where it shall be instead; unless it gives it its name here too, nothing of it stays.

        Once it has its name it is too late to be cancelled: what is left is said and done.

        Raises:
            InvalidRequest: a file that is not here or is none; a template or a Modelfile that cannot be used.
            Unsupported: a folder that cannot be converted; says why.
            ModelNotFound, NotFound: there is no such base, or no such artifact.
            Conflict: it would be hidden by a file that was named with ``--model``; not of one that is put elsewhere.
            DiskFull: there is no room.
            LocalModelsError: the trial failed.
        """
        name = ModelName.parse(request.model)
        if put is None:
            await in_thread(self._library.require_seen, name)
        request = await in_thread(expanded, request)
        target = read_file_type(request.quantize) if request.quantize else None
        if request.template:
            await in_thread(read_chat_template, request.template)
        made: list[Weights] = []
        manifest = b""
        given = False
        try:
            async with self._origins.named(request) as origin, naming(self._store, name):
                base = origin.entry
                texts_of(request, base)  # what it refuses is refused before anything is made
                async with leased(self._store, f"create {name}") as lease:
                    yield Progress("reading model metadata")
                    async with aclosing(self._maker.made(lease, request, origin, target)) as steps:
                        async for step in steps:
                            if isinstance(step, Weights):
                                made.append(step)
                            elif isinstance(step, Progress):
                                yield step
                            else:
                                request, base = described_by(step, request, base)
                    made.sort(key=lambda one: _ORDER.index(one.kind))
                    async with aclosing(self._described(lease, request, base, made)) as describing:
                        async for said in describing:
                            if isinstance(said, Progress):
                                yield said
                            else:
                                manifest = said
                    give = partial(self._given, lease, name, manifest, trial)
                    async with aclosing(self._put(name, manifest, put, give) if put else give()) as giving:
                        async for step in giving:
                            yield step
                        given = True
        except BaseException as error:
            # Who is cancelled while things are put away after the model has its name comes too late.
            if not (given and isinstance(error, asyncio.CancelledError)):
                await self._forget(made, manifest)
                raise
        if put is not None:
            await self._forget(made, manifest)
        yield Progress(SUCCESS)

    async def _described(
        self, lease: Lease, request: CreateRequest, base: Entry | None, made: Sequence[Weights]
    ) -> AsyncGenerator[Progress | bytes, None]:
        """How far it is until what the request says lies beside the files; at the end the manifest of all."""
        for one in made:
            yield Progress(f"{'creating new' if one.new else 'using existing'} layer {one.blob.digest}")
        layers = [Layer(one.kind, one.blob.digest, one.blob.size, one.title) for one in made]
        for kind, data in texts_of(request, base):
            blob = await in_thread(self._store.write, lease, (data,))
            layers.append(Layer(kind, blob.digest, blob.size))
            yield Progress(f"creating new layer {blob.digest}")
        model = next(one for one in made if one.kind == "model")
        details = base.details if base else details_of(model.header)
        if request.quantize:
            details = structs.replace(details, quantization_level=model.header.quantization_level)
        about = write_config(details, [layer.digest for layer in layers], kept_of(request, base))
        config = await in_thread(self._store.write, lease, (about,))
        yield write_manifest(Layer("", config.digest, config.size), layers)

    async def _given(self, lease: Lease, name: ModelName, manifest: bytes, trial: Trial | None) -> Steps:
        """Gives the model its name, once it has stood its trial."""
        await in_thread(self._library.require_seen, name)
        if trial is not None:
            yield Progress("verifying model")
            await trial(await in_thread(self._home.unpublished, name, manifest))
        yield Progress("writing manifest")
        await finished(self._store.publish, lease, name, manifest)

    async def _put(self, name: ModelName, manifest: bytes, put: Put, give: Callable[[], Steps]) -> Steps:
        async with aclosing(put(await in_thread(self._home.unpublished, name, manifest), give)) as steps:
            async for step in steps:
                yield step

    async def _forget(self, made: Sequence[Weights], manifest: bytes) -> None:
        """Gives back what was made for a model that has no name here, unless another one needs it."""
        texts = {layer.digest for layer in parse_manifest(manifest).blobs} if manifest else set()
        asked_for = {one.blob.digest for one in made if not one.new}
        released = ({one.blob.digest for one in made} | texts) - asked_for
        if released:
            try:
                await finished(self._store.collect, released=released)
            except LocalModelsError as error:  # the next collection takes it
                log.warning("what was made in vain is not removed yet: %s", error)

    async def copy(self, request: CopyRequest) -> None:
        """Gives a model a second name. One that stands on another shelf is brought into the store.

        Raises:
            ModelNotFound: there is none of the first name.
            Conflict: the second name differs from another model's in case alone, or would be hidden.
        """
        target = ModelName.parse(request.destination)
        await in_thread(self._library.require_seen, target)
        entry = await in_thread(self._library.find, request.source)
        if entry.source == "home":
            async with naming(self._store, target):
                await in_thread(self._store.copy, entry.name, target)
            return
        async for _ in self.create(CreateRequest(model=str(target), base=str(entry.name))):
            pass

    async def delete(self, request: DeleteRequest) -> None:
        """Takes a name away, also that of a damaged model; the runner of the model ends once its answers are done.

        Raises:
            ModelNotFound: there is none of this name.
            Conflict: the model is not in our store, so it is not ours to delete.
        """
        name = ModelName.parse(request.model)
        try:
            entry = await in_thread(self._library.named, request.model)
        except ModelDamaged:
            entry = None
        if entry is not None:
            if entry.source != "home":
                raise Conflict(f"{entry.name} is {_WHERE[entry.source]}, and is not ours to delete", param="model")
            name = entry.name
        released = await in_thread(blobs_of, self._store, name)
        if not await in_thread(self._store.delete, name):
            raise ModelNotFound(request.model)
        if entry is not None:
            await self._unloads.unload(entry)
        else:
            await self._unloads.unload_name(name)
        await in_thread(self._store.collect, released=released)

    @asynccontextmanager
    async def lent(self, digests: Sequence[Digest]) -> AsyncIterator[Mapping[Digest, Path]]:
        """Those of these blobs that are here and whole, as files; no collection takes them meanwhile."""
        async with leased(self._store, "lend blobs") as lease:
            await in_thread(lease.protect, *digests)
            yield {one: self._store.layout.blob(one) for one in digests if await in_thread(self._store.whole, one)}

    async def blob_size(self, digest: Digest) -> int:
        """Bytes of a blob that is here, and whole.

        Raises:
            NotFound: it is not; one that is damaged is to be uploaded again.
        """
        blob = await in_thread(self._store.whole, digest)
        if blob is None:
            raise NotFound(f"blob {str(digest)!r} not found")
        await in_thread(self._store.ask, digest)  # who is told so does not upload it, and names it next
        return blob.size

    async def upload(self, digest: Digest, pieces: AsyncIterator[bytes], size: int | None) -> None:
        """Takes a blob from pieces.

        Raises:
            ContentMismatch: they are not what the digest or the size says; nothing was kept.
            DiskFull: there is no room.
        """
        room = size or 0
        async with leased(self._store, f"upload {digest}", reserve=room) as lease:
            writer = await opened(lambda: self._store.writer(lease, digest=digest, size=size), BlobWriter.cancel)
            try:
                async for piece in pieces:
                    if size is None and writer.written + len(piece) > room:
                        room += max(ROOM, len(piece))
                        await in_thread(lease.reserve, max(ROOM, len(piece)))
                    await in_thread(writer.write, piece)
                await in_thread(writer.commit)
            finally:
                await in_thread(writer.cancel)


def described_by(
    said: Outline | Origin, request: CreateRequest, base: Entry | None
) -> tuple[CreateRequest, Entry | None]:
    """By what a model is described, after what was said while it was made: a folder's words, or that it has no base."""
    return (with_words(request, said), base) if isinstance(said, Outline) else (request, said.entry)
