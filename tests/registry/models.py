"""Models to pull and push: manifests in Ollama's form over contents drawn from a seed."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable

from msgspec import Struct
from tests.registry.server import DOCKER, Registry

from localmodels.core.catalog import Blob, Digest, ModelName
from localmodels.store.manifests import parse_manifest

TINY = ModelName.parse("tiny")
KINDS = ("model", "template", "params", "license")


class Model(Struct, frozen=True):
    """A manifest and the contents that it names, the config first."""

    manifest: bytes
    contents: tuple[bytes, ...]

    @property
    def blobs(self) -> tuple[Blob, ...]:
        return blobs_of(self.manifest)


def model(*sizes: int, seed: int = 1) -> Model:
    """A model with a layer of each size, and a small config."""
    chance = random.Random(seed)
    contents = [b'{"model_format": "gguf"}', *(chance.randbytes(size) for size in sizes)]
    layers = [
        layer(f"application/vnd.ollama.image.{KINDS[min(i, len(KINDS) - 1)]}", content)
        for i, content in enumerate(contents[1:])
    ]
    config = layer("application/vnd.docker.container.image.v1+json", contents[0])
    wire = {"schemaVersion": 2, "mediaType": DOCKER, "config": config, "layers": layers}
    return Model(json.dumps(wire).encode(), tuple(contents))


def layer(media_type: str, content: bytes) -> dict[str, object]:
    """One entry of a manifest."""
    return {
        "mediaType": media_type,
        "digest": f"sha256:{hashlib.sha256(content).hexdigest()}",
        "size": len(content),
    }


def blobs_of(manifest: bytes) -> tuple[Blob, ...]:
    """What the store makes of a manifest: the reading that pulls get."""
    return tuple(Blob(one.digest, one.size) for one in parse_manifest(manifest).blobs)


def blob_of(content: bytes) -> Blob:
    """Some content's."""
    return Blob(Digest(hashlib.sha256(content).hexdigest()), len(content))


def stock(
    registry: Registry, model: Model, repository: str = "library/tiny", tags: Iterable[str] = ("latest",)
) -> None:
    """Puts a model into a registry of ours."""
    for content in model.contents:
        registry.put(content, repository)
    digest = f"sha256:{hashlib.sha256(model.manifest).hexdigest()}"
    for reference in (*tags, digest):
        registry.manifests[f"{repository}:{reference}"] = (DOCKER, model.manifest)
