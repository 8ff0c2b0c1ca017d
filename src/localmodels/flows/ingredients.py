"""The GGUF files of a model that is being made: found, merged, quantised, each a blob of the store."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path

from msgspec import Struct, structs

from localmodels.artifacts.gguf import join, read_header, read_part
from localmodels.artifacts.gguf_header import Header
from localmodels.artifacts.gguf_merge import Part
from localmodels.artifacts.lora import misfit
from localmodels.artifacts.quantize import FileType
from localmodels.core.catalog import Blob, Digest
from localmodels.core.errors import InvalidRequest, ModelDamaged
from localmodels.core.library import CreateRequest, Progress
from localmodels.flows.merging import Merged, merge_parts
from localmodels.flows.quantizing import Quantized, quantize_model
from localmodels.flows.watched import Done, Tell, watched
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


class Reading:
    """Bytes read of one file after the other; telling them ends the thread when nobody listens any more."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._done = 0

    def more(self, size: int) -> None:
        """So many bytes more were read."""
        self._done += size
        self._tell(self._done)

    def next_file(self) -> Callable[[int], None]:
        """For a file that tells how much of it was read in all."""
        before = self._done

        def read(done: int) -> None:
            self.more(before + done - self._done)

        return read


class Ingredients:
    """Brings files into a store.

    Args:
        store: where they become blobs.
        threads: how many quantise at once.
    """

    def __init__(self, store: ModelStore, *, threads: int) -> None:
        self._store = store
        self._threads = threads

    async def brought(
        self, lease: Lease, request: CreateRequest, base: Entry | None, target: FileType | None
    ) -> AsyncGenerator[Progress | Weights, None]:
        """How far it is, and each file as the new model has it, in the order of its manifest.

        Args:
            lease: protects what it brings.
            request: names files, itself or by its base.
            base: the model that the new one is made of.
            target: what its weights shall become; None leaves them.

        Raises:
            InvalidRequest: a file that is not here, is none, or is not what it should be; not one model.
            ModelDamaged: so is the base.
            DiskFull: there is no room.
        """
        found: Sequence[Ingredient] = ()
        async with aclosing(watched(partial(self._named, lease, request, base))) as reading:
            async for read in reading:
                if isinstance(read, Done):
                    found = read.value
                elif read:
                    yield Progress("reading model data", total=base.size if base else 0, completed=read)
        for one in found:
            async with aclosing(self._made(lease, one, target, uploaded=base is None)) as steps:
                async for step in steps:
                    yield step

    def _named(self, lease: Lease, request: CreateRequest, base: Entry | None, tell: Tell) -> list[Ingredient]:
        """The files that a request names; in a thread."""
        reading = Reading(tell)
        if base and request.files:
            raise InvalidRequest(
                "from and files: a model is made of the one or of the others, not of both", param="files"
            )
        found = self._of_base(lease, request, base, reading) if base else self._given(lease, request.files, reading)
        if request.adapters:
            found = [one for one in found if one.kind != "adapter"]
            adapters = [self._uploaded(lease, *file, reading) for file in request.adapters]
            for (file, _), one in zip(request.adapters, adapters, strict=True):
                if one.kind != "adapter":
                    what = f"{file[:80]}: a GGUF file, but of a {one.kind}, not an adapter"
                    raise InvalidRequest(what, param="adapters")
            found += adapters
        models = [one for one in found if one.kind == "model"]
        if len(models) != 1:
            raise InvalidRequest(f"one model file is needed, not {len(models)}", param="files")
        require_fit(found, models[0], str(base.name) if base else "")
        return sorted(found, key=lambda one: _ORDER.index(one.kind))

    async def _made(
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
            async with aclosing(watched(partial(self._copied, lease, found))) as copying:
                async for read in copying:
                    if isinstance(read, Done):
                        found = read.value
                    elif read:
                        yield Progress("reading model data", total=found.header.file_size, completed=read)
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

    def _of_base(self, lease: Lease, request: CreateRequest, base: Entry, reading: Reading) -> list[Ingredient]:
        found: list[Ingredient]
        if len(base.parts) > 1:
            parts = tuple(Part(Path(path), read_part(path)) for path in base.parts)
            found = [Split(parts, uploaded=False)]
        elif request.quantize and base.source != "home":
            self._require_sound(base, reading)
            found = [Foreign(Path(base.model_path), base.header)]
        else:
            found = [Weights("model", self._brought(lease, base.model_path, reading), base.header)]
        if base.projector is not None:
            found.append(Weights("projector", self._brought(lease, base.projector_path, reading), base.projector))
        for path, title in zip(base.adapter_paths, base.adapter_names, strict=True):
            header = expect("adapter", read_header(Path(path)))
            found.append(Weights("adapter", self._brought(lease, path, reading), header, title))
        return found

    def _require_sound(self, base: Entry, reading: Reading) -> None:
        """Looks whether a blob of another store is what its name says, before anything is made of it."""
        digest = digest_of(Path(base.model_path).name) if base.store else None
        if digest is not None and not self._store.is_sealed(Path(base.store), digest):
            self._store.require_sound(Path(base.store), digest, reading.more)

    def _given(self, lease: Lease, files: Sequence[tuple[str, str]], reading: Reading) -> list[Ingredient]:
        """The uploaded files of a request; those that say that they are parts of a split model are one."""
        heads = [(name, *self._head(lease, name, digest, reading)) for name, digest in files]
        whole = [checked(name, blob, header) for name, blob, header in heads if header.split is None]
        parts = tuple(
            Part(self._store.layout.blob(blob.digest), structs.replace(header, name=name))
            for name, blob, header in heads
            if header.split is not None
        )
        return [*whole, *((Split(parts, uploaded=True),) if parts else ())]

    def _uploaded(self, lease: Lease, name: str, digest: str, reading: Reading) -> Weights:
        """An uploaded blob that a request names."""
        return checked(name, *self._head(lease, name, digest, reading))

    def _brought(self, lease: Lease, path: str, reading: Reading) -> Blob:
        """The file as a blob of our store: itself, where it is one."""
        file = Path(path)
        if digest := self._store.layout.digest_at(file):
            lease.protect(digest)
            if blob := self._store.whole(digest, progress=reading.more):
                return blob
            raise ModelDamaged(f"{file.name}: damaged; pull or create the model again")
        # A blob of Ollama's is what its name says, or is not taken.
        return self._store.adopt(lease, file, digest=digest_of(file.name), progress=reading.next_file())

    def _copied(self, lease: Lease, found: Foreign, tell: Tell) -> Weights:
        return Weights("model", self._brought(lease, str(found.path), Reading(tell)), found.header)

    def _head(self, lease: Lease, name: str, digest: str, reading: Reading) -> tuple[Blob, Header]:
        """The blob, and what this file alone says of itself."""
        wanted = Digest.parse(digest)
        lease.protect(wanted)
        blob = self._store.whole(wanted, progress=reading.more)
        if blob is None:
            what = f"{name[:80]}: blob {digest} is not here, or is damaged; upload it first"
            raise InvalidRequest(what, param="files")
        try:
            return blob, read_part(self._store.layout.blob(wanted))
        except ModelDamaged as error:
            raise InvalidRequest(f"{name[:80]}: not a sound GGUF file: {error.message}", param="files") from error


def require_fit(found: Sequence[Ingredient], model: Ingredient, name: str) -> None:
    """Looks whether the adapters can be used with the model, before anything is made of them.

    Args:
        found: among them the adapters.
        model: the weights.
        name: of the model that is the base; empty where it is a file.

    Raises:
        InvalidRequest: one cannot; names it, the tensor and the model.
    """
    heads = [part.header for part in model.parts] if isinstance(model, Split) else [model.header]
    tensors = [tensor for head in heads for tensor in head.tensors]
    for one in found:
        if isinstance(one, Weights) and one.kind == "adapter":
            wrong = misfit(one.header, heads[0].architecture, tensors)
            if wrong:
                to = f"model '{name}'" if name else "the model file"
                raise InvalidRequest(f"{one.title[:80] or 'the adapter'}: does not fit {to}: {wrong}", param="adapters")


def checked(name: str, blob: Blob, header: Header) -> Weights:
    """A file that is whole, after looking whether the engine can live with it.

    Raises:
        InvalidRequest: it cannot.
    """
    try:
        header = join([header])
    except ModelDamaged as error:
        raise InvalidRequest(f"{name[:80]}: not a sound GGUF file: {error.message}", param="files") from error
    kind: Kind = "adapter" if header.is_adapter else "projector" if header.is_projector else "model"
    return Weights(kind, blob, header, name if kind == "adapter" else "")
