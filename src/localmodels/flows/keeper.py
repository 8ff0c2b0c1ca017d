"""What is done to the library of models: create, copy, delete and upload. Each is atomic, and can be repeated.

The rule: a name is given last, when all that it stands for is on disk; until then nothing of it can be seen, and what
was made for it is protected by a lease that ends with the operation, however it ends. Threads wait for the disk.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Protocol

from msgspec import structs

from localmodels.artifacts.chat_template import read_chat_template
from localmodels.artifacts.quantize import read_file_type
from localmodels.artifacts.recipe import expanded
from localmodels.core.catalog import Digest, ModelName
from localmodels.core.errors import Conflict, ModelDamaged, ModelNotFound, NotFound
from localmodels.core.library import SUCCESS, CopyRequest, CreateRequest, DeleteRequest, Progress
from localmodels.flows.ingredients import Ingredients, Weights
from localmodels.flows.leases import blobs_of, leased, naming
from localmodels.flows.texts import kept_of, texts_of
from localmodels.flows.threads import in_thread, opened
from localmodels.store.blobs import BlobWriter
from localmodels.store.entries import Entry, details_of
from localmodels.store.library import Library
from localmodels.store.manifests import Layer, write_config, write_manifest
from localmodels.store.model_store import ModelStore

Steps = AsyncGenerator[Progress, None]
# Bytes that are set aside at a time for an upload whose size nobody has said.
ROOM = 64 * 2**20
_WHERE = {
    "file": "a file that was named with --model",
    "builtin": "the built-in model",
    "ollama": "in Ollama's store",
}


class Unloads(Protocol):
    """Takes a model out of memory as soon as it is idle."""

    async def unload(self, entry: Entry) -> None: ...


class Keeper:
    """Changes the library.

    Args:
        store: is written; every other shelf is only read.
        library: finds models on all shelves.
        unloads: ends the runners of models that are deleted.
        threads: how many quantise at once; 0 takes every processor.
    """

    def __init__(self, store: ModelStore, library: Library, unloads: Unloads, *, threads: int = 0) -> None:
        self._ingredients = Ingredients(store, threads=threads or os.cpu_count() or 1)
        self._store = store
        self._library = library
        self._unloads = unloads

    async def create(self, request: CreateRequest) -> Steps:
        """Makes a model of another one, or of uploaded files.

        Raises:
            InvalidRequest: a file that is not here or is none; a template or a Modelfile that cannot be used.
            ModelNotFound: there is no such base.
            Conflict: it would be hidden by a file that was named with ``--model``.
            DiskFull: there is no room.
        """
        name = ModelName.parse(request.model)
        await in_thread(self._library.require_seen, name)
        request = expanded(request)
        target = read_file_type(request.quantize) if request.quantize else None
        if request.template:
            read_chat_template(request.template)
        base = await in_thread(self._library.find, request.base) if request.base else None
        texts = texts_of(request, base)
        async with naming(self._store, name), leased(self._store, f"create {name}") as lease:
            yield Progress("reading model metadata")
            weights: list[Weights] = []
            async with aclosing(self._ingredients.brought(lease, request, base, target)) as steps:
                async for step in steps:
                    if isinstance(step, Weights):
                        weights.append(step)
                    else:
                        yield step
            for one in weights:
                yield Progress(f"using existing layer {one.blob.digest}")
            layers = [Layer(one.kind, one.blob.digest, one.blob.size, one.title) for one in weights]
            for kind, data in texts:
                blob = await in_thread(self._store.write, lease, (data,))
                layers.append(Layer(kind, blob.digest, blob.size))
                yield Progress(f"creating new layer {blob.digest}")
            model = next(one for one in weights if one.kind == "model")
            details = base.details if base else details_of(model.header)
            if target is not None:
                details = structs.replace(details, quantization_level=model.header.quantization_level)
            about = write_config(details, [layer.digest for layer in layers], kept_of(request, base))
            config = await in_thread(self._store.write, lease, (about,))
            yield Progress("writing manifest")
            manifest = write_manifest(Layer("", config.digest, config.size), layers)
            await in_thread(self._store.publish, lease, name, manifest)
        yield Progress(SUCCESS)

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
        await in_thread(self._store.collect, released=released)

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
