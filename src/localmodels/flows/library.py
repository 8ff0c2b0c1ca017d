"""What is done to the library of models: create, copy, delete and upload. Each is atomic, and can be repeated.

The rule: a name is given last, when all that it stands for is on disk; until then nothing of it can be seen, and what
was made for it is protected by a lease that ends with the operation, however it ends. Threads wait for the disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from msgspec import Struct

from localmodels.artifacts.chat_template import read_chat_template
from localmodels.artifacts.gguf import read_header
from localmodels.artifacts.gguf_header import Header
from localmodels.core.catalog import Blob, Digest, ModelName
from localmodels.core.errors import (
    Conflict,
    InvalidRequest,
    ModelDamaged,
    ModelNotFound,
    NotFound,
    Unsupported,
)
from localmodels.core.library import SUCCESS, CopyRequest, CreateRequest, DeleteRequest, Progress
from localmodels.core.options import OPTIONS
from localmodels.store.entries import Entry, Kind, details_of, expect
from localmodels.store.leases import Lease
from localmodels.store.library import Library
from localmodels.store.manifests import (
    Layer,
    parse_manifest,
    write_config,
    write_manifest,
    write_messages,
    write_parameters,
)
from localmodels.store.model_store import ModelStore

Steps = AsyncGenerator[Progress, None]


class Unloads(Protocol):
    """Takes a model out of memory as soon as it is idle."""

    async def unload(self, entry: Entry) -> None: ...


class Weights(Struct, frozen=True):
    """A GGUF file of a model that is being made: what it is, and the blob that it became."""

    kind: Kind
    blob: Blob
    header: Header


class Keeper:
    """Changes the library.

    Args:
        store: is written; every other shelf is only read.
        library: finds models on all shelves.
        unloads: ends the runners of models that are deleted.
    """

    def __init__(self, store: ModelStore, library: Library, unloads: Unloads) -> None:
        self._store = store
        self._library = library
        self._unloads = unloads

    async def create(self, request: CreateRequest) -> Steps:
        """Makes a model of another one, or of uploaded files.

        Raises:
            InvalidRequest: a file that is not here or is none; a template that cannot be rendered.
            ModelNotFound: there is no such base.
            DiskFull: there is no room.
        """
        name = ModelName.parse(request.model)
        if request.quantize:
            raise Unsupported(
                "quantize is not here yet; create from a file that is quantized already", param="quantize"
            )
        if request.template:
            read_chat_template(request.template)
        base = await asyncio.to_thread(self._library.find, request.base) if request.base else None
        async with leased(self._store, f"create {name}") as lease:
            yield Progress("reading model metadata")
            weights = await asyncio.to_thread(self._weights, lease, request, base)
            for one in weights:
                yield Progress(f"using existing layer {one.blob.digest}")
            texts = texts_of(request, base)
            layers = [Layer(one.kind, one.blob.digest, one.blob.size) for one in weights]
            for kind, data in texts:
                blob = await asyncio.to_thread(self._store.write, lease, (data,))
                layers.append(Layer(kind, blob.digest, blob.size))
                yield Progress(f"creating new layer {blob.digest}")
            model = next(one for one in weights if one.kind == "model")
            details = base.details if base else details_of(model.header)
            about = write_config(details, [layer.digest for layer in layers], requires=request.requires)
            config = await asyncio.to_thread(self._store.write, lease, (about,))
            yield Progress("writing manifest")
            manifest = write_manifest(Layer("", config.digest, config.size), layers)
            await asyncio.to_thread(self._store.publish, lease, name, manifest)
        yield Progress(SUCCESS)

    async def copy(self, request: CopyRequest) -> None:
        """Gives a model a second name. One that stands on another shelf is brought into the store.

        Raises:
            ModelNotFound: there is none of the first name.
            Conflict: the second name differs from another model's in case alone.
        """
        target = ModelName.parse(request.destination)
        entry = await asyncio.to_thread(self._library.find, request.source)
        if entry.source == "home":
            await asyncio.to_thread(self._store.copy, entry.name, target)
            return
        async for _ in self.create(CreateRequest(model=str(target), base=str(entry.name))):
            pass

    async def delete(self, request: DeleteRequest) -> None:
        """Takes a name away, also that of a damaged model; the runner of the model ends once its answers are done.

        Raises:
            ModelNotFound: there is none of this name.
            Conflict: the model is not in our store, so it is not ours to delete.
        """
        try:
            entry = await asyncio.to_thread(self._library.find, request.model)
        except ModelDamaged:
            entry = None
        name = entry.name if entry else ModelName.parse(request.model)
        released = await asyncio.to_thread(self._blobs_of, name)
        if await asyncio.to_thread(self._store.delete, name):
            if entry is not None and entry.source == "home":
                await self._unloads.unload(entry)
            await asyncio.to_thread(self._store.collect, released=released)
            return
        if entry is None:
            raise ModelNotFound(request.model)
        raise Conflict(f"{entry.name} is {_WHERE[entry.source]}, and is not ours to delete", param="model")

    async def blob_size(self, digest: Digest) -> int:
        """Bytes of a blob that is here.

        Raises:
            NotFound: it is not.
        """
        blob = await asyncio.to_thread(self._store.find, digest)
        if blob is None:
            raise NotFound(f"blob {str(digest)!r} not found")
        return blob.size

    async def upload(self, digest: Digest, pieces: AsyncIterator[bytes], size: int | None) -> None:
        """Takes a blob from pieces.

        Raises:
            ContentMismatch: they are not what the digest or the size says; nothing was kept.
            DiskFull: there is no room.
        """
        async with leased(self._store, f"upload {digest}", reserve=size or 0) as lease:
            writer = await asyncio.to_thread(self._store.writer, lease, digest=digest, size=size)
            try:
                async for piece in pieces:
                    await asyncio.to_thread(writer.write, piece)
                await asyncio.to_thread(writer.commit)
            finally:
                await asyncio.to_thread(writer.cancel)

    def _blobs_of(self, name: ModelName) -> tuple[Digest, ...]:
        """What a name's manifest is made of; nothing where there is none, or none that can be read."""
        with suppress(ModelDamaged):
            if (data := self._store.read_manifest(name)) is not None:
                return tuple(layer.digest for layer in parse_manifest(data).blobs)
        return ()

    def _weights(self, lease: Lease, request: CreateRequest, base: Entry | None) -> list[Weights]:
        """The GGUF files of the new model, each a blob of our store."""
        found = self._of_base(lease, base) if base else [self._uploaded(lease, *file) for file in request.files]
        if request.adapters:
            found = [one for one in found if one.kind != "adapter"]
            adapters = [self._uploaded(lease, *file) for file in request.adapters]
            for (file, _), one in zip(request.adapters, adapters, strict=True):
                if one.kind != "adapter":
                    raise InvalidRequest(f"{file}: a GGUF file, but of a {one.kind}, not an adapter", param="adapters")
            found += adapters
        models = [one for one in found if one.kind == "model"]
        if len(models) != 1:
            raise InvalidRequest(f"one model file is needed, not {len(models)}", param="files")
        return sorted(found, key=lambda one: _ORDER.index(one.kind))

    def _of_base(self, lease: Lease, base: Entry) -> list[Weights]:
        if len(base.parts) > 1:
            raise Unsupported("a model in several files cannot be a base yet", param="from")
        found = [Weights("model", self._brought(lease, base.model_path), base.header)]
        if base.projector is not None:
            found.append(Weights("projector", self._brought(lease, base.projector_path), base.projector))
        for path in base.adapter_paths:
            header = expect("adapter", read_header(Path(path)))
            found.append(Weights("adapter", self._brought(lease, path), header))
        return found

    def _brought(self, lease: Lease, path: str) -> Blob:
        """The file as a blob of our store: itself, where it is one."""
        file = Path(path)
        if digest := self._store.layout.digest_at(file):
            lease.protect(digest)
            if blob := self._store.find(digest):
                return blob
        return self._store.adopt(lease, file)

    def _uploaded(self, lease: Lease, name: str, digest: str) -> Weights:
        """An uploaded blob that a request names."""
        wanted = Digest.parse(digest)
        lease.protect(wanted)
        blob = self._store.find(wanted)
        if blob is None:
            raise InvalidRequest(f"{name}: blob {digest} is not here; upload it first", param="files")
        try:
            header = read_header(self._store.layout.blob(wanted))
        except ModelDamaged as error:
            raise InvalidRequest(f"{name}: not a sound GGUF file: {error.message}", param="files") from error
        kind: Kind = "adapter" if header.is_adapter else "projector" if header.is_projector else "model"
        return Weights(kind, blob, header)


@asynccontextmanager
async def leased(store: ModelStore, purpose: str, *, reserve: int = 0) -> AsyncIterator[Lease]:
    """A lease, opened and ended in a thread; it ends also when this is cancelled."""
    lease = await asyncio.to_thread(store.lease, purpose, reserve=reserve)
    try:
        yield lease
    finally:
        await asyncio.shield(asyncio.to_thread(lease.close))


def texts_of(request: CreateRequest, base: Entry | None) -> list[tuple[str, bytes]]:
    """Kind and bytes of each small blob: what was asked for, over what the base has."""
    template = request.template if request.template is not None else base.template if base else ""
    system = request.system if request.system is not None else base.system if base else ""
    messages = request.messages if request.messages is not None else base.messages if base else ()
    licenses = request.license if request.license is not None else base.license if base else ()
    parameters = {**(parameters_of(base) if base else {}), **dict(request.parameters)}
    return [
        *((("template", template.encode()),) if template else ()),
        *((("system", system.encode()),) if system else ()),
        *((("params", write_parameters(parameters)),) if parameters else ()),
        *((("messages", write_messages(messages)),) if messages else ()),
        *(("license", text.encode()) for text in licenses if text),
    ]


def parameters_of(entry: Entry) -> dict[str, Any]:
    """A model's own parameters, those that we have no use for too."""
    ours = {name: value for name in OPTIONS if (value := getattr(entry.options, name)) is not None}
    return {**ours, **dict(entry.other_options)}


_ORDER: tuple[Kind, ...] = ("model", "projector", "adapter")
_WHERE = {
    "file": "a file that was named with --model",
    "builtin": "the built-in model",
    "ollama": "in Ollama's store",
    "home": "gone",
}
