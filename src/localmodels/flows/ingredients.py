"""The GGUF files of a model that is being made: found, merged, quantised, each a blob of the store."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path

from msgspec import Struct, structs

from localmodels.artifacts.gguf import join, read_header, read_part
from localmodels.artifacts.gguf_header import Header
from localmodels.artifacts.gguf_merge import Part
from localmodels.artifacts.quantize import FileType
from localmodels.core.catalog import Blob, Digest
from localmodels.core.errors import InvalidRequest, ModelDamaged
from localmodels.core.library import CreateRequest, Progress
from localmodels.flows.merging import Merged, merge_parts
from localmodels.flows.quantizing import Quantized, quantize_model
from localmodels.flows.threads import in_thread
from localmodels.store.entries import Entry, Kind, expect
from localmodels.store.layout import digest_of
from localmodels.store.leases import Lease
from localmodels.store.model_store import ModelStore

_ORDER: tuple[Kind, ...] = ("model", "projector", "adapter")


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


Ingredient = Weights | Split | Foreign


class Ingredients:
    """Brings files into a store.

    Args:
        store: where they become blobs.
        threads: how many quantise at once.
    """

    def __init__(self, store: ModelStore, *, threads: int) -> None:
        self._store = store
        self._threads = threads

    def named(self, lease: Lease, request: CreateRequest, base: Entry | None) -> list[Ingredient]:
        """The GGUF files that a request names, itself or by its base; waits for the disk.

        Raises:
            InvalidRequest: a file that is not here, is none, or is not what it should be; not one model.
        """
        if base and request.files:
            raise InvalidRequest(
                "from and files: a model is made of the one or of the others, not of both", param="files"
            )
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

    async def made(
        self, lease: Lease, found: Ingredient, target: FileType | None, *, uploaded: bool
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

    def _of_base(self, lease: Lease, request: CreateRequest, base: Entry) -> list[Ingredient]:
        found: list[Ingredient]
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

    def _given(self, lease: Lease, files: Sequence[tuple[str, str]]) -> list[Ingredient]:
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
