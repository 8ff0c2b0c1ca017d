"""Models fetched from repositories of Hugging Face's hub, which have no manifest: it is made here.

The rule is that of every pull: a name is given in one step, at the end, when all that it stands for is on disk and was
verified. A model in several files becomes one, so that one directory serves Ollama too. Its parts are removed
afterwards, and the config blob remembers them: the same parts are not fetched again.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path

from msgspec import Struct, structs

from localmodels.artifacts.gguf import join, read_part
from localmodels.artifacts.gguf_header import Header
from localmodels.artifacts.gguf_merge import Part
from localmodels.core.catalog import Blob, Digest, ModelName
from localmodels.core.errors import Garbled, InvalidRequest, ModelDamaged
from localmodels.core.library import SUCCESS, Progress
from localmodels.flows.concurrency.threads import in_thread, opened
from localmodels.flows.library.leases import leased, naming
from localmodels.flows.library.split_merge import Merged, merge_parts
from localmodels.flows.library.split_parts import Interim
from localmodels.registry.addresses import Place
from localmodels.registry.hub import MAX_SMALL
from localmodels.registry.hub_files import Choice, File, choose
from localmodels.registry.hub_pull import Found, HubPuller
from localmodels.registry.progress import BlobProgress
from localmodels.store.entries import Kind, details_of, expect
from localmodels.store.leases import Lease
from localmodels.store.manifests import (
    TEXT_BYTES,
    Layer,
    Origin,
    parse_manifest,
    parse_origin,
    parse_parameters,
    parse_text,
    write_config,
    write_manifest,
)
from localmodels.store.model_store import ModelStore

Steps = AsyncGenerator[Progress, None]
SHORT = 12  # digits of a digest that a status shows, as Ollama's


class Weights(Struct, frozen=True):
    """A GGUF file in its place, and its head."""

    kind: Kind
    blob: Blob
    header: Header


Making = AsyncGenerator[Progress | Weights, None]


class HubPulls:
    """Pulls from hubs into a store."""

    def __init__(self, store: ModelStore, puller: HubPuller) -> None:
        self._store = store
        self._puller = puller

    async def pull(self, name: ModelName, places: Sequence[Place]) -> Steps:
        """Fetches the model that the name's tag means in its repository, at the newest commit.

        Raises:
            NotFound: there is no such repository, or nothing in it that the tag means.
            InvalidRequest: the tag fits several models.
            DiskFull: there is no room.
            LocalModelsError: it cannot be had.
        """
        yield Progress("pulling manifest")
        found = await self._puller.find(name, places)
        choice = await in_thread(choose, found.repository.files, name.tag, repository_of(name))
        choice = await self._puller.completed(found, choice)
        async with naming(self._store, name), leased(self._store, f"pull {name}") as lease:
            texts = await self._texts(lease, found, choice)
            weights: list[Weights] = []
            async with aclosing(self._weights(lease, found, choice)) as steps:
                async for step in steps:
                    if isinstance(step, Weights):
                        weights.append(step)
                    else:
                        yield step
            yield Progress("verifying sha256 digest")
            yield Progress("writing manifest")
            await in_thread(self._publish, lease, found, choice, weights, texts)
        yield Progress(SUCCESS)

    async def _weights(self, lease: Lease, found: Found, choice: Choice) -> Making:
        """How far the fetching and merging is, and each GGUF file once it is in its place."""
        work = [self._model(lease, found, choice)]
        if choice.projector is not None:
            work.append(self._fetched(lease, found, "projector", choice.projector))
        for one in work:
            async with aclosing(one) as steps:
                async for step in steps:
                    yield step

    def _model(self, lease: Lease, found: Found, choice: Choice) -> Making:
        if len(choice.model) > 1:
            return self._split(lease, found, choice)
        return self._fetched(lease, found, "model", choice.model[0])

    async def _fetched(self, lease: Lease, found: Found, kind: Kind, file: File) -> Making:
        """A model, or what belongs to one, in one file."""
        if file.blob is not None:
            await in_thread(lease.protect, file.blob.digest)
        async with aclosing(self._puller.fetch(found, (file,))) as fetching:
            async for step in fetching:
                yield shown("pulling", step)
        yield await in_thread(self._checked, kind, file, await self._announced(lease, found, file))

    async def _split(self, lease: Lease, found: Found, choice: Choice) -> Making:
        """A model in several files, which become one; nothing is fetched for one that is here already."""
        if (whole := await in_thread(self._merged_before, lease, found, choice)) is not None:
            yield whole
            return
        blobs = [await self._announced(lease, found, file) for file in choice.model]
        interim = await opened(lambda: Interim(self._store, lease, blobs), Interim.close)
        try:
            await in_thread(interim.make_room)
            async with aclosing(self._puller.fetch(found, choice.model)) as fetching:
                async for progress in fetching:
                    yield shown("pulling", progress)
            parts = [
                Part(self._path(blob), await in_thread(self._head, file, blob))
                for file, blob in zip(choice.model, blobs, strict=True)
            ]
            blob_at = {self._path(blob): blob for blob in blobs}
            merging = merge_parts(
                self._store, lease, parts, reserved=True, finished=lambda part: interim.finished(blob_at[part.path])
            )
            try:
                async with aclosing(merging) as steps:
                    async for step in steps:
                        yield Weights("model", step.blob, step.header) if isinstance(step, Merged) else step
            except InvalidRequest as error:  # it is the repository's fault, and nobody's request
                raise Garbled(f"the parts in the repository are no model together: {error.message}") from error
            await in_thread(interim.remove)
        finally:
            await in_thread(interim.close)

    def _merged_before(self, lease: Lease, found: Found, choice: Choice) -> Weights | None:
        """The model that these parts became when they were pulled under this name."""
        data = self._store.read_manifest(found.name)
        if data is None:
            return None
        try:
            manifest = parse_manifest(data)
            [layer] = manifest.of("model")
            lease.protect(*(one.digest for one in manifest.blobs))
            config = self._store.whole(manifest.config.digest, manifest.config.size)
            if config is None or self._store.whole(layer.digest, layer.size) is None:
                return None
            origin = parse_origin(self._path(config).read_bytes())
            if origin is None or origin.parts != digests_of(choice):
                return None
            blob = Blob(layer.digest, layer.size)
            return Weights("model", blob, join([read_part(self._path(blob))]))
        except (ModelDamaged, ValueError, OSError):
            return None

    async def _announced(self, lease: Lease, found: Found, file: File) -> Blob:
        """The blob that a file is, or will be. One that is not in LFS is small, has no digest yet, and is fetched."""
        if file.blob is not None:
            return file.blob
        data = await self._puller.small(found, file, MAX_SMALL)
        return await in_thread(self._store.write, lease, (data,))

    async def _texts(self, lease: Lease, found: Found, choice: Choice) -> list[Layer]:
        """The layers of small files that stand beside the weights."""
        layers = []
        for kind, file in choice.besides:
            data = await self._puller.small(found, file, TEXT_BYTES)
            try:
                parse_parameters(data) if kind == "params" else parse_text(data)
            except ModelDamaged as error:
                raise ModelDamaged(f"{file.path}: {error.message}") from error
            blob = await in_thread(self._store.write, lease, (data,))
            layers.append(Layer(kind, blob.digest, blob.size))
        return layers

    def _publish(
        self, lease: Lease, found: Found, choice: Choice, weights: Sequence[Weights], texts: Sequence[Layer]
    ) -> None:
        layers = [*(Layer(one.kind, one.blob.digest, one.blob.size) for one in weights), *texts]
        origin = Origin(repository_of(found.name), found.repository.commit, digests_of(choice))
        about = write_config(details_of(weights[0].header), [layer.digest for layer in layers], origin=origin)
        config = self._store.write(lease, (about,))
        self._store.publish(lease, found.name, write_manifest(Layer("", config.digest, config.size), layers))

    def _checked(self, kind: Kind, file: File, blob: Blob) -> Weights:
        """A file that is of the right kind, and that the engine can live with."""
        return Weights(kind, blob, expect(kind, join([self._head(file, blob)])))

    def _head(self, file: File, blob: Blob) -> Header:
        """What a file says of itself, under the name that its repository gives it."""
        try:
            return structs.replace(read_part(self._path(blob)), name=file.path)
        except ModelDamaged as error:
            raise ModelDamaged(f"{file.path}: {error.message}") from error

    def _path(self, blob: Blob) -> Path:
        return self._store.layout.blob(blob.digest)


def repository_of(name: ModelName) -> str:
    """A repository as names of models write it."""
    return f"{name.host}/{name.namespace}/{name.name}"


def digests_of(choice: Choice) -> tuple[str, ...]:
    """The model's files by their digests; where one lies in git, by its git id."""
    return tuple(str(Digest(file.sha256)) if file.sha256 else f"git:{file.git_id}" for file in choice.model)


def shown(doing: str, step: BlobProgress) -> Progress:
    """How far a blob is, as Ollama's clients show it."""
    blob = step.blob
    return Progress(f"{doing} {blob.digest.hex[:SHORT]}", str(blob.digest), blob.size, step.completed)
