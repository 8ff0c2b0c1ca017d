"""The stores that operations are tried on, and what each operation makes of them.

A scene is written by plain writes of files, never by the code under test.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

DAY = 86_400.0
JOB = "job.gguf"
PART = 65_536

# Names as paths below ``manifests``, and the bytes that lie there.
Models = Mapping[str, bytes]


def content(seed: str, size: int) -> bytes:
    """Bytes that look like nothing, the same each time."""
    return hashlib.shake_128(seed.encode()).digest(size)


def digest(data: bytes) -> str:
    """64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def gguf(seed: str, size: int) -> bytes:
    """A sound GGUF file of about so many bytes: a head, and one tensor of anything."""

    def text(words: str) -> bytes:
        return struct.pack("<Q", len(words)) + words.encode()

    def pair(key: str, kind: int, value: bytes) -> bytes:
        return text(key) + struct.pack("<I", kind) + value

    number, string, array = 4, 8, 9  # of GGUF's types of values
    width, most = 8, size // 32
    pairs = [
        pair("general.architecture", string, text("llama")),
        *(
            pair(f"llama.{key}", number, struct.pack("<I", value))
            for key, value in (("block_count", 1), ("context_length", 512), ("embedding_length", width))
        ),
        pair("llama.attention.head_count", number, struct.pack("<I", 2)),
        pair("tokenizer.ggml.tokens", array, struct.pack("<IQ", string, 2) + text("a") + text("b")),
    ]
    rows = most - 16
    tensor = text("blk.0.ffn_up.weight") + struct.pack("<I2QIQ", 2, width, rows, 0, 0)
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(pairs)) + b"".join(pairs) + tensor
    return head + bytes(-len(head) % 32) + content(seed, 4 * width * rows)


WEIGHTS = gguf("weights", 5 * PART // 2)
CONFIG = b'{"model_format":"gguf","model_family":"llama"}'
TEMPLATE = b"{{ .Prompt }}"
OTHER = gguf("other", 30_000)
ORPHANS = (content("orphan 1", 5_000), content("orphan 2", 70_000))


def _layer(kind: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "digest": f"sha256:{digest(data)}", "size": len(data)}


def manifest(*layers: bytes, config: bytes = CONFIG) -> bytes:
    """A manifest whose first layer is the model."""
    kinds = ("model", "template")
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": _layer("application/vnd.docker.container.image.v1+json", config),
            "layers": [
                _layer(f"application/vnd.ollama.image.{kind}", one) for kind, one in zip(kinds, layers, strict=False)
            ],
        }
    ).encode()


HOST = "registry.ollama.ai/library"
KEPT, NEW, COPIED = f"{HOST}/kept/1", f"{HOST}/new/1", "hf.co/me/copied/q4"
BAD = f"{HOST}/bad/1"
KEPT_MANIFEST = manifest(OTHER, TEMPLATE)
NEW_MANIFEST = manifest(WEIGHTS, TEMPLATE)
# It is damaged and a bystander: it must hinder nothing, and stay as it is.
BAD_MANIFEST = b'{"schemaVersion": 1}'


class Scene(Struct, frozen=True):
    """What lies there before an operation, and which models there are after it.

    Attributes:
        before: by their places; ``after`` likewise.
        orphans: blobs lie there that no model names.
        litter: a writer has died there.
        job: a finished file lies beside the store.
        there: blobs that lie there beside those of the models.
        brings: blobs that must be there once it is done.
    """

    before: Models
    after: Models
    orphans: bool = False
    litter: bool = False
    job: bool = False
    there: tuple[bytes, ...] = ()
    brings: tuple[bytes, ...] = ()


_KEPT: Models = {KEPT: KEPT_MANIFEST}
# A row an operation; its name is the method of a stock that does it.
SCENES: Mapping[str, Scene] = {
    "create": Scene(_KEPT, {**_KEPT, NEW: NEW_MANIFEST}),
    "replace": Scene(_KEPT, {KEPT: NEW_MANIFEST}),
    "adopt": Scene(_KEPT, {**_KEPT, NEW: NEW_MANIFEST}, job=True),
    "pull": Scene(_KEPT, {**_KEPT, NEW: NEW_MANIFEST}),
    "copy": Scene(_KEPT, {**_KEPT, COPIED: KEPT_MANIFEST}),
    "delete": Scene({**_KEPT, NEW: NEW_MANIFEST}, _KEPT),
    "collect": Scene(_KEPT, _KEPT, orphans=True),
    "recover": Scene(_KEPT, _KEPT, litter=True),
}


def write_scene(root: Path, scene: Scene) -> None:
    """Puts a scene there; all of it a day old."""
    (root / "blobs").mkdir(parents=True)
    data = {CONFIG, TEMPLATE, OTHER, *scene.there} | (set(ORPHANS) if scene.orphans else set())
    if NEW in scene.before:
        data.add(WEIGHTS)
    files = {root / "blobs" / f"sha256-{digest(one)}": one for one in data}
    if scene.job:
        files[root.parent / JOB] = WEIGHTS
    files |= {root / "manifests" / place: text for place, text in {**scene.before, BAD: BAD_MANIFEST}.items()}
    then = time.time() - DAY
    for path, one in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(one)
        os.utime(path, (then, then))
