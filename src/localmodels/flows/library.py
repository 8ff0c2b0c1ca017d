"""What is done to the library of models: create, copy, delete and upload. Each is atomic, and can be repeated.

The rule: a name is given last, when all that it stands for is on disk; until then nothing of it can be seen, and what
was made for it is protected by a lease that ends with the operation, however it ends. Threads wait for the disk.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from msgspec import Struct, structs

from localmodels.artifacts.chat_template import read_chat_template
from localmodels.artifacts.gguf import join, read_header, read_part
from localmodels.artifacts.gguf_header import Header
from localmodels.artifacts.gguf_merge import Part
from localmodels.artifacts.quantize import FileType, read_file_type
from localmodels.artifacts.recipe import expanded
from localmodels.core.catalog import Blob, Digest, ModelName
from localmodels.core.errors import (
    Conflict,
    InvalidRequest,
    InvalidValue,
    ModelDamaged,
    ModelNotFound,
    NotFound,
)
from localmodels.core.library import SUCCESS, CopyRequest, CreateRequest, DeleteRequest, Progress
from localmodels.core.options import OPTIONS
from localmodels.flows.merging import Merged, merge_parts
from localmodels.flows.quantizing import Quantized, quantize_model
from localmodels.flows.threads import in_thread, opened
from localmodels.store.blobs import BlobWriter
from localmodels.store.entries import Entry, Kind, details_of, expect
from localmodels.store.layout import digest_of
from localmodels.store.leases import Lease
from localmodels.store.library import Library
from localmodels.store.manifests import (
    MAX_LAYERS,
    TEXT_BYTES,
    Layer,
    parse_manifest,
    write_config,
    write_manifest,
    write_messages,
    write_parameters,
)
from localmodels.store.model_store import ModelStore
from localmodels.store.templates import MADE_HERE

Steps = AsyncGenerator[Progress, None]
# Bytes that are set aside at a time for an upload whose size nobody has said.
ROOM = 64 * 2**20


class Unloads(Protocol):
    """Takes a model out of memory as soon as it is idle."""

    async def unload(self, entry: Entry) -> None: ...


class Weights(Struct, frozen=True):
    """A GGUF file of a model that is being made: what it is, and the blob that it became; an adapter with its name."""

    kind: Kind
    blob: Blob
    header: Header
    title: str = ""


class Split(Struct, frozen=True):
    """A model in several files, which are put together before anything else is done with them."""

    parts: tuple[Part, ...]
    uploaded: bool
    kind: Kind = "model"


class Foreign(Struct, frozen=True):
    """A model in one file that is not in our store, and of which only the quantised weights will be."""

    path: Path
    header: Header
    kind: Kind = "model"


class Keeper:
    """Changes the library.

    Args:
        store: is written; every other shelf is only read.
        library: finds models on all shelves.
        unloads: ends the runners of models that are deleted.
        threads: how many quantise at once; 0 takes every processor.
    """

    def __init__(self, store: ModelStore, library: Library, unloads: Unloads, *, threads: int = 0) -> None:
        self._threads = threads or os.cpu_count() or 1
        self._store = store
        self._library = library
        self._unloads = unloads

    async def create(self, request: CreateRequest) -> Steps:
        """Makes a model of another one, or of uploaded files.

        Raises:
            InvalidRequest: a file that is not here or is none; a template or a Modelfile that cannot be used.
            ModelNotFound: there is no such base.
            DiskFull: there is no room.
        """
        name = ModelName.parse(request.model)
        request = expanded(request)
        target = read_file_type(request.quantize) if request.quantize else None
        if request.template:
            read_chat_template(request.template)
        base = await in_thread(self._library.find, request.base) if request.base else None
        texts = texts_of(request, base)
        async with leased(self._store, f"create {name}") as lease:
            yield Progress("reading model metadata")
            weights: list[Weights] = []
            for found in await in_thread(self._weights, lease, request, base):
                async with aclosing(self._made(lease, found, target, uploaded=base is None)) as steps:
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
            Conflict: the second name differs from another model's in case alone.
        """
        target = ModelName.parse(request.destination)
        entry = await in_thread(self._library.find, request.source)
        if entry.source == "home":
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
        released = await in_thread(self._blobs_of, name)
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

    def _blobs_of(self, name: ModelName) -> tuple[Digest, ...]:
        """What a name's manifest is made of; nothing where there is none, or none that can be read."""
        with suppress(ModelDamaged):
            if (data := self._store.read_manifest(name)) is not None:
                return tuple(layer.digest for layer in parse_manifest(data).blobs)
        return ()

    def _weights(self, lease: Lease, request: CreateRequest, base: Entry | None) -> list[Weights | Split | Foreign]:
        """The GGUF files of the new model, each a blob of our store."""
        found = self._of_base(lease, request, base) if base else self._given(lease, request.files)
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

    def _of_base(self, lease: Lease, request: CreateRequest, base: Entry) -> list[Weights | Split | Foreign]:
        found: list[Weights | Split | Foreign]
        if len(base.parts) > 1:
            parts = tuple(Part(Path(path), read_part(path)) for path in base.parts)
            found = [Split(parts, uploaded=False)]
        elif request.quantize and base.source != "home":
            found = [Foreign(Path(base.model_path), base.header)]
        else:
            found = [Weights("model", self._brought(lease, base.model_path), base.header)]
        if base.projector is not None:
            found.append(Weights("projector", self._brought(lease, base.projector_path), base.projector))
        for path, title in zip(base.adapter_paths, base.adapter_names, strict=True):
            header = expect("adapter", read_header(Path(path)))
            found.append(Weights("adapter", self._brought(lease, path), header, title))
        return found

    async def _merging(self, lease: Lease, split: Split) -> AsyncGenerator[Progress | Weights, None]:
        """How far it is, and at the end the model in one file."""
        try:
            async with aclosing(merge_parts(self._store, lease, split.parts)) as steps:
                async for step in steps:
                    yield Weights("model", step.blob, step.header) if isinstance(step, Merged) else step
        except ModelDamaged as error:
            if split.uploaded:
                raise InvalidRequest(f"the parts are no sound model: {error.message}", param="files") from error
            raise

    async def _made(
        self, lease: Lease, found: Weights | Split | Foreign, target: FileType | None, *, uploaded: bool
    ) -> AsyncGenerator[Progress | Weights, None]:
        """How far it is, and at the end the file as the new model has it: merged and quantised where that is due."""
        if isinstance(found, Split):
            async with aclosing(self._merging(lease, found)) as merging:
                async for step in merging:
                    if isinstance(step, Weights):
                        found = step
                    else:
                        yield step
        if target is not None and found.kind == "model" and not isinstance(found, Split):
            async with aclosing(self._quantizing(lease, found, target, uploaded=uploaded)) as quantizing:
                async for step in quantizing:
                    if isinstance(step, Weights):
                        found = step
                    else:
                        yield step
        if isinstance(found, Foreign):
            found = Weights("model", await in_thread(self._brought, lease, str(found.path)), found.header)
        if isinstance(found, Weights):
            yield found

    async def _quantizing(
        self, lease: Lease, model: Weights | Foreign, target: FileType, *, uploaded: bool
    ) -> AsyncGenerator[Progress | Weights, None]:
        """How far it is, and at the end the model with its new weights; neither if it has them already."""
        path = self._store.layout.blob(model.blob.digest) if isinstance(model, Weights) else model.path
        made = quantize_model(self._store, lease, path, model.header, target, threads=self._threads)
        try:
            async with aclosing(made) as steps:
                async for step in steps:
                    yield Weights("model", step.blob, step.header) if isinstance(step, Quantized) else step
        except ModelDamaged as error:
            if uploaded:
                raise InvalidRequest(f"it cannot be quantized: {error.message}", param="files") from error
            raise

    def _brought(self, lease: Lease, path: str) -> Blob:
        """The file as a blob of our store: itself, where it is one."""
        file = Path(path)
        if digest := self._store.layout.digest_at(file):
            lease.protect(digest)
            if blob := self._store.whole(digest):
                return blob
            raise ModelDamaged(f"{file.name}: damaged; pull or create the model again")
        # A blob of Ollama's is what its name says, or is not taken.
        return self._store.adopt(lease, file, digest=digest_of(file.name))

    def _given(self, lease: Lease, files: Sequence[tuple[str, str]]) -> list[Weights | Split | Foreign]:
        """The uploaded files of a request; those that say that they are parts of a split model are one."""
        heads = [(name, *self._head(lease, name, digest)) for name, digest in files]
        whole = [checked(name, blob, header) for name, blob, header in heads if header.split is None]
        parts = tuple(
            Part(self._store.layout.blob(blob.digest), structs.replace(header, name=name))
            for name, blob, header in heads
            if header.split is not None
        )
        return [*whole, *((Split(parts, uploaded=True),) if parts else ())]

    def _uploaded(self, lease: Lease, name: str, digest: str) -> Weights:
        """An uploaded blob that a request names."""
        return checked(name, *self._head(lease, name, digest))

    def _head(self, lease: Lease, name: str, digest: str) -> tuple[Blob, Header]:
        """The blob, and what this file alone says of itself."""
        wanted = Digest.parse(digest)
        lease.protect(wanted)
        blob = self._store.whole(wanted)
        if blob is None:
            raise InvalidRequest(f"{name}: blob {digest} is not here, or is damaged; upload it first", param="files")
        try:
            return blob, read_part(self._store.layout.blob(wanted))
        except ModelDamaged as error:
            raise InvalidRequest(f"{name}: not a sound GGUF file: {error.message}", param="files") from error


def checked(name: str, blob: Blob, header: Header) -> Weights:
    """A file that is whole, after looking whether the engine can live with it.

    Raises:
        InvalidRequest: it cannot.
    """
    try:
        header = join([header])
    except ModelDamaged as error:
        raise InvalidRequest(f"{name}: not a sound GGUF file: {error.message}", param="files") from error
    kind: Kind = "adapter" if header.is_adapter else "projector" if header.is_projector else "model"
    return Weights(kind, blob, header, name if kind == "adapter" else "")


@asynccontextmanager
async def leased(store: ModelStore, purpose: str, *, reserve: int = 0) -> AsyncIterator[Lease]:
    """A lease, opened and ended in a thread; it ends also when this is cancelled."""
    lease = await opened(lambda: store.lease(purpose, reserve=reserve), Lease.close)
    try:
        yield lease
    finally:
        await in_thread(lease.close)


def texts_of(request: CreateRequest, base: Entry | None) -> list[tuple[str, bytes]]:
    """Kind and bytes of each small blob: what was asked for, over what the base has.

    Raises:
        InvalidValue: more or longer texts than a model's reader takes.
    """
    template = request.template if request.template is not None else base.template if base else ""
    system = request.system if request.system is not None else base.system if base else ""
    messages = request.messages if request.messages is not None else base.messages if base else ()
    licenses = request.license if request.license is not None else base.license if base else ()
    parameters = {**(parameters_of(base) if base else {}), **dict(request.parameters)}
    texts = [
        *((("template", template.encode()),) if template else ()),
        *((("system", system.encode()),) if system else ()),
        *((("params", write_parameters(parameters)),) if parameters else ()),
        *((("messages", write_messages(messages)),) if messages else ()),
        *(("license", text.encode()) for text in licenses if text),
    ]
    sizes = Counter[str]()
    for kind, data in texts:
        sizes[kind] += len(data)
        if sizes[kind] > TEXT_BYTES:
            raise InvalidValue(f"{_PARAM[kind]} may have at most {TEXT_BYTES >> 20} MiB", param=_PARAM[kind])
    if len(texts) > MOST_TEXTS:
        raise InvalidValue(f"license: at most {MOST_TEXTS} texts, not {len(texts)}", param="license")
    return texts


def kept_of(request: CreateRequest, base: Entry | None) -> dict[str, str]:
    """What the config says besides: what was asked for, else what the base has; and whose the template is."""
    names = ("renderer", "parser", "requires")
    kept = {name: getattr(request, name) or (getattr(base, name) if base else "") for name in names}
    return {**kept, "template_by": MADE_HERE if request.template else base.template_by if base else ""}


def parameters_of(entry: Entry) -> dict[str, Any]:
    """A model's own parameters, those that we have no use for too."""
    ours = {name: value for name in OPTIONS if (value := getattr(entry.options, name)) is not None}
    return {**ours, **dict(entry.other_options)}


# The rest of a manifest's layers is for weights, projectors and adapters.
MOST_TEXTS = MAX_LAYERS // 2
# Kinds of layers, as requests call them.
_PARAM = {kind: kind for kind in ("template", "system", "messages", "license")} | {"params": "parameters"}
_ORDER: tuple[Kind, ...] = ("model", "projector", "adapter")
_WHERE = {
    "file": "a file that was named with --model",
    "builtin": "the built-in model",
    "ollama": "in Ollama's store",
}
