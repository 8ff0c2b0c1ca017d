"""What the tests of the write side share: a model's parts as bytes, names, and a picture of a whole directory."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

from localmodels.core.catalog import Blob, Digest, ModelName
from localmodels.store.model_store import ModelStore

NAME = ModelName.parse("tiny:1b")
OTHER = ModelName.parse("hf.co/me/Tiny:q4")
WEIGHTS = b"weights " * 1000
CONFIG = b'{"model_format":"gguf","model_family":"llama"}'
TEMPLATE = b"{{ .Prompt }}"


def digest(data: bytes) -> Digest:
    return Digest(hashlib.sha256(data).hexdigest())


def blob(data: bytes) -> Blob:
    return Blob(digest(data), len(data))


def manifest(*layers: bytes, config: bytes = CONFIG) -> bytes:
    """A manifest of a model and, if given, its template."""

    def layer(kind: str, data: bytes) -> dict[str, object]:
        return {"mediaType": kind, "digest": str(digest(data)), "size": len(data)}

    kinds = ("application/vnd.ollama.image.model", "application/vnd.ollama.image.template")
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": layer("application/vnd.docker.container.image.v1+json", config),
            "layers": [layer(kind, one) for kind, one in zip(kinds, layers, strict=False)],
        }
    ).encode()


MANIFEST = manifest(WEIGHTS, TEMPLATE)


def create(store: ModelStore, name: ModelName = NAME, *layers: bytes) -> bytes:
    """Makes a whole model; its manifest."""
    parts = layers or (WEIGHTS, TEMPLATE)
    with store.lease("create") as lease:
        for data in (*parts, CONFIG):
            store.write(lease, [data])
        store.publish(lease, name, manifest(*parts))
    return manifest(*parts)


def age(store: ModelStore, seconds: float = 86_400.0) -> None:
    """Makes every file of the store so old."""
    then = time.time() - seconds
    for path in store.layout.root.rglob("*"):
        os.utime(path, (then, then), follow_symlinks=False)


def picture(directory: Path) -> dict[str, tuple[int, str]]:
    """Every path below a directory, with its kind and mode, and its content or what it points to."""
    result = {}
    for path in sorted(directory.rglob("*")):
        if path.is_symlink():
            shown = str(path.readlink())
        else:
            shown = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        result[str(path.relative_to(directory))] = (path.lstat().st_mode, shown)
    return result


def leftovers(store: ModelStore) -> list[str]:
    """Unfinished files; what is only remembered is none."""
    own = store.layout.root / ".localmodels"
    files = (path.relative_to(own) for path in sorted(own.rglob("*")) if path.is_file() and path.name != "lock")
    return [str(path) for path in files if path.parts[0] not in {"verified", "published"} or path.suffix == ".new"]


def blobs(store: ModelStore) -> set[str]:
    return {path.name for path in (store.layout.root / "blobs").iterdir()}
