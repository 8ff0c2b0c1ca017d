"""Finds the files that a request for a model names, and brings those that are one GGUF file into a store.

All of it waits for the disk, and so belongs in a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import structs

from localmodels.artifacts.gguf import read_header, read_part
from localmodels.artifacts.gguf_header import Header
from localmodels.artifacts.gguf_merge import Part
from localmodels.core.catalog import Blob, Digest, ModelName
from localmodels.core.errors import InvalidRequest, ModelDamaged
from localmodels.core.library import CreateRequest
from localmodels.flows.concurrency.thread_progress import Tell
from localmodels.flows.library.ingredients import (
    Foreign,
    Found,
    Ingredient,
    Raw,
    Split,
    Weights,
    checked,
    is_folder,
    param_of,
    require_fit,
    unreadable,
)
from localmodels.flows.library.origins import Held, Origin
from localmodels.store.entries import Entry, expect
from localmodels.store.layout import digest_of
from localmodels.store.leases import Lease
from localmodels.store.model_store import ModelStore

ADAPTER = "adapter"  # what an adapter is called that has no name of its own


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


class Gatherer:
    """Finds them.

    Args:
        store: where they become blobs.
    """

    def __init__(self, store: ModelStore) -> None:
        self._store = store

    def found(self, lease: Lease, request: CreateRequest, origin: Origin, tell: Tell) -> Found:
        """The files that a request names.

        Args:
            lease: protects what it brings.
            request: names files, itself or by its origin.
            origin: what the new model is made of.
            tell: hears how many bytes were read.

        Raises:
            InvalidRequest: a file that is not here, is none, or is not what it should be; not one model.
            ModelDamaged: so is the base.
            DiskFull: there is no room.
        """
        reading = Reading(tell)
        if origin.entry and request.files:
            raise InvalidRequest(
                "from and files: a model is made of the one or of the others, not of both", param="files"
            )
        found = self._bases(lease, request, origin, reading)
        added = self._adapters(lease, request, origin, reading)
        if added:
            found = [one for one in found if one.kind != "adapter"]
        found += added
        models = [one for one in found if one.kind == "model"]
        if len(models) != 1:
            raise InvalidRequest(f"one model file is needed, not {len(models)}", param=param_of(request))
        require_fit(found, models[0], str(origin.entry.name) if origin.entry else "")
        return Found(
            model=models[0],
            others=tuple(one for one in found if isinstance(one, Weights) and one.kind != "model"),
            raw_adapter=next((one for one in found if isinstance(one, Raw) and one.kind == "adapter"), None),
            merge=origin.base is not None and isinstance(models[0], Raw),
        )

    def _bases(self, lease: Lease, request: CreateRequest, origin: Origin, reading: Reading) -> list[Ingredient]:
        """All but the adapters that the request adds."""
        if origin.entry is not None:
            return self._of_base(lease, request, origin.entry, reading)
        held = origin.base or origin.artifact
        if held is not None:
            return [self._of_artifact(lease, held, reading)]
        return self._given(lease, request, reading)

    def _adapters(self, lease: Lease, request: CreateRequest, origin: Origin, reading: Reading) -> list[Ingredient]:
        """The adapters that the request adds to what it is made of."""
        if origin.artifact is not None and origin.artifact.artifact.kind == "adapter":
            return [self._of_artifact(lease, origin.artifact, reading)]
        if is_folder(request.adapters, "adapters"):
            files = self._folder(lease, request.adapters, reading, "adapters")
            return [Raw(files, ADAPTER, "adapters", kind="adapter")]
        adapters = [self._uploaded(lease, *file, reading) for file in request.adapters]
        for (file, _), one in zip(request.adapters, adapters, strict=True):
            if one.kind != "adapter":
                what = f"{file[:80]}: a GGUF file, but of a {one.kind}, not an adapter"
                raise InvalidRequest(what, param="adapters")
        return [*adapters]

    def _of_artifact(self, lease: Lease, held: Held, reading: Reading) -> Ingredient:
        name, kind = held.artifact.name, held.artifact.kind
        if kind != "gguf":
            return Raw(held.files, name, "artifact", kind="adapter" if kind == "adapter" else "model")
        [path] = [path for file, path in held.files.items() if file.lower().endswith(".gguf")]
        # Nobody writes into an artifact, so the blob may be the same file.
        blob = self._store.adopt(lease, path, ours=True, progress=reading.next_file())
        return checked(name, blob, read_part(self._store.layout.blob(blob.digest)))

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

    def _given(self, lease: Lease, request: CreateRequest, reading: Reading) -> list[Ingredient]:
        """The uploaded files of a request; those that say that they are parts of a split model are one."""
        if is_folder(request.files, "files"):
            files = self._folder(lease, request.files, reading, "files")
            return [Raw(files, ModelName.parse(request.model).name, "files")]
        names = [name for name, _ in request.files]
        heads = [(name, *self._head(lease, name, digest, reading, names)) for name, digest in request.files]
        whole = [checked(name, blob, header) for name, blob, header in heads if header.split is None]
        parts = tuple(
            Part(self._store.layout.blob(blob.digest), structs.replace(header, name=name))
            for name, blob, header in heads
            if header.split is not None
        )
        return [*whole, *((Split(parts, uploaded=True),) if parts else ())]

    def _uploaded(self, lease: Lease, name: str, digest: str, reading: Reading) -> Weights:
        """An uploaded blob that a request names."""
        return checked(name, *self._head(lease, name, digest, reading, (name,)))

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

    def copied(self, lease: Lease, found: Foreign, tell: Tell) -> Weights:
        """The file as a blob of our store.

        Raises:
            ModelDamaged: it is not what its name says.
            DiskFull: there is no room.
        """
        return Weights("model", self._brought(lease, str(found.path), Reading(tell)), found.header)

    def _folder(self, lease: Lease, files: Sequence[tuple[str, str]], reading: Reading, param: str) -> dict[str, Path]:
        """The uploaded files of a folder, by their names in it."""
        return {
            name: self._store.layout.blob(self._blob(lease, name, digest, reading, param).digest)
            for name, digest in files
        }

    def _blob(self, lease: Lease, name: str, digest: str, reading: Reading, param: str = "files") -> Blob:
        """An uploaded blob, whole."""
        wanted = Digest.parse(digest)
        lease.protect(wanted)
        blob = self._store.whole(wanted, progress=reading.more)
        if blob is None:
            what = f"{name[:80]}: blob {digest} is not here, or is damaged; upload it first"
            raise InvalidRequest(what, param=param)
        return blob

    def _head(
        self, lease: Lease, name: str, digest: str, reading: Reading, names: Sequence[str]
    ) -> tuple[Blob, Header]:
        """The blob, and what this file alone says of itself; ``names`` are of all that were sent."""
        blob = self._blob(lease, name, digest, reading)
        try:
            return blob, read_part(self._store.layout.blob(blob.digest))
        except ModelDamaged as error:
            raise unreadable(name, names, error) from error
