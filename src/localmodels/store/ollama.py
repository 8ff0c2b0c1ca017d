"""The shelf that is a store in Ollama's layout: our own home's, or Ollama's.

The rule: a listing looks at the state of every file that a model is made of, each time, and takes from memory only what
that state still vouches for. So nothing that was deleted or cut short is served from a cache, and a listing of two
hundred models costs two thousand looks at the file system and no reading.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from msgspec import Struct

from localmodels.artifacts.gguf_header import Header
from localmodels.core.catalog import Details, ModelName
from localmodels.core.errors import ModelDamaged
from localmodels.core.moment import rfc3339
from localmodels.store import manifests
from localmodels.store.entries import Damaged, Entry, Kind, Source, details_of, expect, names_of
from localmodels.store.headers import Headers, Latest
from localmodels.store.layout import Layout
from localmodels.store.manifests import Config, Layer, Manifest
from localmodels.store.published import require_published
from localmodels.store.templates import MADE_HERE, Templates

# Kinds of layers that are read and hashed for every entry: in memory is what they said, wherever they lie now.
_TEXTS = frozenset({"template", "prompt", "system", "params", "messages", "license"})
REMEMBERED = 512
REMEMBERED_BYTES = 64 * 1024  # Ollama's own manifests have about 1 KiB


class OllamaShelf:
    """A store in Ollama's layout, read only."""

    def __init__(self, root: Path, *, source: Source = "ollama", headers: Headers | None = None) -> None:
        self._layout = Layout(root)
        self._source: Source = source
        self._headers = headers or Headers()
        self._templates = Templates()
        # What is sound stays so; what is not is looked at anew each time.
        self._manifests: Latest[ModelName, Manifest] = Latest(REMEMBERED)
        self._entries: Latest[ModelName, Entry] = Latest(REMEMBERED)

    @property
    def source(self) -> Source:
        return self._source

    def list(self) -> tuple[Entry | Damaged, ...]:
        names = tuple(self._layout.names())
        there = [found for found in names if isinstance(found, ModelName)]
        self._manifests.keep(there)
        self._entries.keep(there)
        return tuple(map(self._listed, names))

    def find(self, name: ModelName) -> Entry | None:
        if self._layout.has(name):
            return self._entry(name)
        self._manifests.forget(name)
        self._entries.forget(name)
        return None

    def unpublished(self, name: ModelName, data: bytes) -> Entry:
        """The model that these bytes of a manifest would be under this name, whatever has the name now.

        Its blobs are there, and whoever asks keeps them there. To the engine it is the model that is found once these
        bytes are published: what was loaded of it stays loaded then.

        Raises:
            ModelDamaged: it could not be used.
        """
        manifest = manifests.parse_manifest(data)
        return self._assembled(name, manifest, time.time_ns(), self._check(manifest))

    def _listed(self, found: ModelName | tuple[str, str]) -> Entry | Damaged:
        if isinstance(found, tuple):
            return Damaged(*found, self._source)
        try:
            return self._entry(found)
        except ModelDamaged as error:
            return Damaged(str(found), error.message, self._source)

    def _entry(self, name: ModelName) -> Entry:
        data, written = self._layout.read_manifest(name, manifests.MANIFEST_BYTES)
        # What is usual is remembered; a manifest that was blown up to 4 MiB is not worth the room.
        usual = len(data) <= REMEMBERED_BYTES
        manifest = self._manifests.of(name, data, lambda: self._parsed(data)) if usual else self._parsed(data)
        changed, moment = self._check(manifest), written.st_mtime_ns
        stamp = manifest, moment, changed
        return self._entries.of(name, stamp, lambda: self._assembled(name, manifest, moment, changed))

    def _parsed(self, data: bytes) -> Manifest:
        manifest = manifests.parse_manifest(data)
        if self._source == "home":
            require_published(self._layout, manifest)
        return manifest

    def _check(self, manifest: Manifest) -> tuple[int, ...]:
        """For each blob a number that is another when its file is; all are there, and of the right size."""
        status = self._layout.blob_status(layer.digest for layer in manifest.blobs)
        for layer in manifest.blobs:
            size = status[layer.digest].st_size
            if size != layer.size:
                raise ModelDamaged(f"sha256-{layer.digest.hex}: {size} bytes long, not {layer.size}")
        return tuple(_stamp(status[layer.digest]) for layer in manifest.blobs)

    def _assembled(self, name: ModelName, manifest: Manifest, written: int, changed: tuple[int, ...]) -> Entry:
        blobs = _Blobs(self._layout, self._headers, manifest, dict(zip(manifest.blobs, changed, strict=True)))
        config = manifests.parse_config(blobs.read(manifest.config))
        if not manifest.of("model"):
            raise ModelDamaged(_no_model(config))
        [(path, header)] = blobs.files("model")
        projector_path, projector = next(blobs.files("projector"), ("", None))
        adapters = tuple(blobs.files("adapter"))
        parameters = manifests.parse_parameters(blobs.last("params") or b"{}")
        template = manifests.parse_text(blobs.last("template", "prompt"))
        return Entry(
            name=name,
            source=self._source,
            model_path=path,
            parts=(path,),
            header=header,
            size=manifest.size,
            digest=manifest.digest,
            modified_at=rfc3339(written),
            details=_details(config, details_of(header)),
            projector_path=projector_path,
            projector=projector,
            adapter_paths=tuple(path for path, _ in adapters),
            adapter_names=names_of(layer.title for layer in manifest.of("adapter")),
            adapter_bytes=sum(header.file_size for _, header in adapters),
            template=template,
            answers_by=self._templates.chosen(
                template,
                header,
                made_here=config.template_by == MADE_HERE,
                rendered=bool(config.renderer or config.parser),
            ),
            renderer=config.renderer,
            parser=config.parser,
            requires=config.requires,
            template_by=config.template_by,
            system=manifests.parse_text(blobs.last("system")),
            options=parameters.options,
            other_options=parameters.others,
            messages=manifests.parse_messages(blobs.last("messages") or b"[]"),
            license=tuple(map(manifests.parse_text, blobs.each("license"))),
            store=str(self._layout.root),
            blobs=tuple(dict.fromkeys(layer.digest for layer in manifest.blobs)),
            stamp=hash(tuple(number for layer, number in blobs.changed.items() if layer.kind not in _TEXTS)),
        )


class _Blobs(Struct, frozen=True):
    """The blobs of one manifest, and for each a number that is another when its file is."""

    layout: Layout
    headers: Headers
    manifest: Manifest
    changed: Mapping[Layer, int]

    def files(self, kind: Kind) -> Iterator[tuple[str, Header]]:
        """Path and header of each GGUF file of a kind. The engine gets no file that was not read here (V-15)."""
        for layer in self.manifest.of(kind):
            path = str(self.layout.blob(layer.digest))
            yield path, expect(kind, self.headers.of(path, self.changed[layer], layer.size))

    def read(self, layer: Layer) -> bytes:
        data = self.layout.read_blob(layer.digest, manifests.TEXT_BYTES)
        if hashlib.sha256(data).hexdigest() != layer.digest.hex:
            raise ModelDamaged(f"sha256-{layer.digest.hex}: damaged, its content is not what its name says")
        return data

    def each(self, kind: str) -> Iterator[bytes]:
        layers = self.manifest.of(kind)
        if sum(layer.size for layer in layers) > manifests.TEXT_BYTES:
            raise ModelDamaged(f"more than {manifests.TEXT_BYTES} bytes of {kind}")
        return map(self.read, layers)

    def last(self, *kinds: str) -> bytes:
        """Of several layers of a kind the last counts, as in Ollama; empty if there is none."""
        return b"".join(map(self.read, self.manifest.of(*kinds)[-1:]))


def _stamp(status: os.stat_result) -> int:
    """Of a file that replaced another, also one of the same time (rsync -t), and of one that was written to."""
    return hash((status.st_dev, status.st_ino, status.st_mtime_ns))


def _details(config: Config, own: Details) -> Details:
    """The manifest's own words where it has them, since Ollama's users compare; else what the file says."""
    family = config.model_family or own.family
    return Details(
        family=family,
        families=config.model_families or (family,),
        parameter_size=config.model_type or own.parameter_size,
        quantization_level=config.file_type or own.quantization_level,
    )


def _no_model(config: Config) -> str:
    if config.remote_model:
        return "runs on somebody else's server, not here"
    return f"has no GGUF file (its format is {config.model_format[:40]!r})"
