"""Names and descriptions of models, as types that are parsed once at the edge.

A model name is ``[HOST/][NAMESPACE/]NAME[:TAG]``, in Ollama's grammar; what is left out is ``registry.ollama.ai``,
``library`` and ``latest``. A digest is ``sha256:`` and 64 lower-case hexadecimal digits. Nothing else ever becomes part
of a path (threats V-01 and V-02).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct

from localmodels.core.errors import InvalidValue
from localmodels.core.options import NO_OPTIONS, Options

DEFAULT_HOST = "registry.ollama.ai"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"
VALID_NAME = "a name is [HOST/][NAMESPACE/]NAME[:TAG] of letters, digits, '.', '_' and '-'"

# Ollama's types/model/name.go: a part starts with a letter, digit or underscore; at most 80 characters (host: 350).
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,349}(:[0-9]{1,5})?")
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_\-]{0,79}")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,79}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")

Capability = Literal["completion", "tools", "thinking", "vision", "embedding", "insert", "rerank"]


class ModelName(Struct, frozen=True, order=True):
    """A whole model name; ``str()`` gives the short form that people write."""

    host: str
    namespace: str
    name: str
    tag: str

    @classmethod
    def parse(cls, text: str) -> ModelName:
        """Reads any of the accepted forms.

        Raises:
            InvalidValue: the text is not a model name.
        """
        rest, tag = text, DEFAULT_TAG
        slash = text.rfind("/")
        colon = text.rfind(":")
        if colon > slash:
            rest, tag = text[:colon], text[colon + 1 :]
        parts = rest.split("/")
        host, namespace = DEFAULT_HOST, DEFAULT_NAMESPACE
        if len(parts) == 2:
            namespace = parts[0]
        elif len(parts) == 3:
            host, namespace = parts[0], parts[1]
        name = parts[-1]
        valid = (
            len(parts) <= 3
            and _HOST.fullmatch(host)
            and _NAMESPACE.fullmatch(namespace)
            and _NAME.fullmatch(name)
            and _NAME.fullmatch(tag)
            and ".." not in text
        )
        if not valid:
            raise InvalidValue(f"invalid model name {text[:80]!r}; {VALID_NAME}", param="model")
        return cls(host, namespace, name, tag)

    def __str__(self) -> str:
        short = f"{self.name}:{self.tag}"
        if self.host != DEFAULT_HOST:
            return f"{self.host}/{self.namespace}/{short}"
        return short if self.namespace == DEFAULT_NAMESPACE else f"{self.namespace}/{short}"


class Digest(Struct, frozen=True, order=True):
    """The SHA-256 of some bytes. ``str()`` is ``sha256:…``."""

    hex: str

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Reads ``sha256:`` and 64 lower-case digits, and nothing else.

        Raises:
            InvalidValue: any other text.
        """
        if not _DIGEST.fullmatch(text):
            raise InvalidValue(f"invalid digest {text[:80]!r}", param="digest")
        return cls(text.removeprefix("sha256:"))

    def __str__(self) -> str:
        return f"sha256:{self.hex}"


class Blob(Struct, frozen=True):
    """Some content: its digest, and its size in bytes."""

    digest: Digest
    size: int


class Details(Struct, frozen=True):
    """What a list says about a model, in Ollama's fields."""

    format: str = "gguf"
    family: str = ""
    families: tuple[str, ...] = ()
    parameter_size: str = ""
    quantization_level: str = ""
    parent_model: str = ""


class Model(Struct, frozen=True):
    """A model that can be asked.

    Attributes:
        name: the short form under which it is listed.
        size: bytes on disk, all its files.
        digest: SHA-256 of its manifest (of its file, where there is no manifest), 64 hexadecimal digits.
        modified_at: RFC 3339 with offset.
        server: the other server that has it; empty for this one.
        servers: of a fleet, the names of those that have a model of this name; empty where there is no fleet.
        digests: what the name stands for on each of them that tells it, by their names; empty unless they differ.
        gateways: through which it is had, the nearest first (``core.via``).
    """

    name: str
    size: int
    digest: str
    modified_at: str
    details: Details = Details()
    capabilities: tuple[Capability, ...] = ()
    context_length: int = 0
    embedding_length: int = 0
    server: str = ""
    servers: tuple[str, ...] = ()
    digests: Mapping[str, str] = {}
    gateways: tuple[str, ...] = ()


class TensorInfo(Struct, frozen=True):
    """One tensor of a model file."""

    name: str
    type: str
    shape: tuple[int, ...]


class Description(Struct, frozen=True):
    """Everything that ``show`` tells about a model.

    Attributes:
        path: of its GGUF file, on the machine that has it.
        adapters: names of its LoRA adapters, by which requests switch them.
        parameters: what its author set, as another server shows it; empty where that is ours to write, of ``options``.
    """

    model: Model
    path: str = ""
    template: str = ""
    system: str = ""
    license: str = ""
    modelfile: str = ""
    adapters: tuple[str, ...] = ()
    options: Options = NO_OPTIONS
    messages: tuple[tuple[str, str], ...] = ()
    info: dict[str, Any] = {}
    tensors: tuple[TensorInfo, ...] = ()
    parameters: str = ""


Status = Literal["loading", "running", "stopping"]


class Running(Struct, frozen=True):
    """A model in memory now.

    Attributes:
        status: ``loading``, ``running`` or ``stopping``.
        pid: of the runner, 0 before it has one.
        size: bytes it is planned to take, of which ``size_vram`` on GPUs.
        expires_at: RFC 3339; when it is unloaded if nobody asks.
        context_length: tokens of one request.
        parallel: requests answered at once; ``busy`` of them now.
        server: of a fleet, who has it in memory; empty where there is no fleet.
    """

    model: Model
    status: Status
    pid: int
    size: int
    size_vram: int
    expires_at: str
    context_length: int
    parallel: int = 1
    busy: int = 0
    queued: int = 0
    server: str = ""
