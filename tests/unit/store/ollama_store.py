"""Makes stores in Ollama's layout, and GGUF files small enough to make by the hundred."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFWriter

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG: Mapping[str, Any] = {
    "model_format": "gguf",
    "model_family": "llama",
    "model_families": ["llama"],
    "model_type": "1.5B",
    "file_type": "Q4_0",
    "architecture": "amd64",
    "os": "linux",
}
TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"


def write_gguf(path: Path, *, architecture: str = "llama", seed: int = 0, split: tuple[int, int] = (0, 0)) -> Path:
    """A sound GGUF file of about 1 KB. Another ``seed`` gives other weights of the same size.

    ``split`` makes it a part of a split model: its number, from 0, and the count of parts.
    """
    number, count = split
    writer = GGUFWriter(path, architecture)
    if count:
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", count)
    writer.add_name("tiny")
    writer.add_block_count(1)
    writer.add_context_length(4096)
    writer.add_embedding_length(8)
    writer.add_head_count(2)
    writer.add_file_type(0)
    writer.add_token_list(["<s>", "a", "b"])
    writer.add_chat_template(TEMPLATE)
    tensor = f"blk.{number}.attn_q.weight" if number else "token_embd.weight"
    writer.add_tensor(tensor, np.full((3, 8), seed, dtype=np.float32))
    return _written(writer, path)


def write_projector(path: Path) -> Path:
    """A sound vision projector."""
    writer = GGUFWriter(path, "clip")
    writer.add_bool("clip.has_vision_encoder", True)
    for key, value in (("patch_size", 14), ("image_size", 224), ("embedding_length", 8), ("attention.head_count", 2)):
        writer.add_uint32(f"clip.vision.{key}", value)
    writer.add_tensor("v.patch_embd.weight", np.zeros((8, 8), dtype=np.float32))
    return _written(writer, path)


def write_adapter(path: Path) -> Path:
    """A sound LoRA adapter."""
    writer = GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_tensor("blk.0.attn_q.weight.lora_a", np.zeros((2, 8), dtype=np.float32))
    return _written(writer, path)


def _written(writer: GGUFWriter, path: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


class OllamaStore:
    """A store to put models into, whole or damaged."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.blobs = root / "blobs"
        self.manifests = root / "manifests"
        self.blobs.mkdir(parents=True)
        self.manifests.mkdir()

    def blob(self, data: bytes) -> str:
        """Keeps the bytes; their digest."""
        digest = hashlib.sha256(data).hexdigest()
        (self.blobs / f"sha256-{digest}").write_bytes(data)
        return f"sha256:{digest}"

    def blob_path(self, digest: str) -> Path:
        return self.blobs / digest.replace(":", "-")

    def layer(self, kind: str, data: bytes) -> dict[str, Any]:
        return {"mediaType": f"application/vnd.ollama.image.{kind}", "digest": self.blob(data), "size": len(data)}

    def config(self, values: Mapping[str, Any] = CONFIG) -> dict[str, Any]:
        data = json.dumps(values).encode()
        return {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            "digest": self.blob(data),
            "size": len(data),
        }

    def document(self, layers: Sequence[dict[str, Any]], config: dict[str, Any] | None = None) -> dict[str, Any]:
        return {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": config or self.config(),
            "layers": list(layers),
        }

    def write(self, place: str, data: bytes | dict[str, Any], *, mtime_ns: int | None = None) -> Path:
        """Puts a manifest at ``HOST/NAMESPACE/NAME/TAG``."""
        path = self.manifests / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())
        if mtime_ns is not None:
            os.utime(path, ns=(mtime_ns, mtime_ns))
        return path

    def add(self, name: str, weights: bytes, *more: tuple[str, bytes], mtime_ns: int | None = None) -> Path:
        """A whole model ``NAME:TAG`` in the default namespace; its manifest."""
        layers = [self.layer("model", weights), *(self.layer(kind, data) for kind, data in more)]
        place = "registry.ollama.ai/library/" + name.replace(":", "/")
        return self.write(place, self.document(layers), mtime_ns=mtime_ns)
