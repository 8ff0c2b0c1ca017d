"""Ollama's manifests: which blobs a model is made of, and what the small ones among them say; read and written.

The rule: a manifest has one meaning or none (threat V-03). Bounded in length and layers, no key twice, one model layer,
every blob there with the size that the manifest gives; anything else is :class:`ModelDamaged` with the reason. Content
is not hashed here: that is done when a model is fetched, and by the store's own check.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from localmodels.core.catalog import Details, Digest
from localmodels.core.errors import InvalidValue, ModelDamaged
from localmodels.core.options import NO_OPTIONS, OPTIONS, Options, parse_options
from localmodels.dialects.strict_json import parsed

MANIFEST_BYTES = 4 * 2**20
MAX_LAYERS = 1024
# Values in a manifest: 1,024 layers of three, and room for annotations. 4 MiB of nothing but empty objects would take a
# second and 100 MB to read.
MAX_VALUES = 100_000
# 16 TiB: ext4 has no larger files, and no model comes near. Sums of them stay far below 2^63.
MAX_BLOB = 2**44
# A template, a system prompt, a licence: the longest licences seen are below 100 KiB.
TEXT_BYTES = 2**20

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
MEDIA_TYPES = frozenset({"", MANIFEST_TYPE, "application/vnd.oci.image.manifest.v1+json"})
_IMAGE = "application/vnd.ollama.image."
_TITLE = "org.opencontainers.image.title"

# What Ollama's own structs of a manifest have (its `server/manifest.go` and `layer.go`).
_KEPT = frozenset({"schemaVersion", "mediaType", "config", "layers"})
_KEPT_OF_LAYER = frozenset({"mediaType", "digest", "size"})

T = TypeVar("T")
_ENCODER = msgspec.json.Encoder()


class Layer(Struct, frozen=True):
    """One blob of a model: what it is for (``model``, ``template`` …; empty when unknown to us) and its bytes.

    ``title`` is the name of the file that it was made of, as OCI annotates it; Ollama reads over it.
    """

    kind: str
    digest: Digest
    size: int
    title: str = ""


class Manifest(Struct, frozen=True):
    """A manifest's meaning.

    Attributes:
        digest: SHA-256 of its own bytes, in hexadecimal digits.
        document: the same of the document that it is, whatever its spaces and the order of its keys.
        kept: the same of what Ollama keeps of the document when it writes it anew.
    """

    config: Layer
    layers: tuple[Layer, ...]
    digest: str
    document: str = ""
    kept: str = ""

    def of(self, *kinds: str) -> tuple[Layer, ...]:
        """The layers of these kinds, in the manifest's order."""
        return tuple(layer for layer in self.layers if layer.kind in kinds)

    @property
    def blobs(self) -> tuple[Layer, ...]:
        """All that must be there."""
        return (self.config, *self.layers)

    @property
    def size(self) -> int:
        """Bytes on disk, each blob counted once."""
        return sum({layer.digest: layer.size for layer in self.blobs}.values())


class Config(Struct, frozen=True):
    """What the config blob says about a model, in Ollama's fields."""

    model_format: str = "gguf"
    model_family: str = ""
    model_families: tuple[str, ...] | None = None
    model_type: str = ""
    file_type: str = ""
    renderer: str = ""
    parser: str = ""
    requires: str = ""
    template_by: str = ""
    remote_model: str = ""


class Origin(Struct, frozen=True):
    """What a model was made of that is not kept itself: a repository at a commit, and the digests of its files."""

    repository: str
    commit: str
    parts: tuple[str, ...] = ()


class Parameters(Struct, frozen=True):
    """The ``params`` blob: what our option table knows, and the rest as it was written."""

    options: Options = NO_OPTIONS
    others: tuple[tuple[str, Any], ...] = ()


class _WireLayer(Struct, rename="camel", omit_defaults=True):
    media_type: str
    digest: str
    size: int
    annotations: Any = None


class _WireManifest(Struct, rename="camel", omit_defaults=True):
    schema_version: int
    config: _WireLayer
    layers: list[_WireLayer]
    media_type: str = ""
    manifests: list[Any] = []


class _WireOrigin(Struct):
    localmodels: Origin | None = None


class _WireMessage(Struct):
    role: str
    content: str = ""


def parse_manifest(data: bytes) -> Manifest:
    """Reads a manifest.

    Raises:
        ModelDamaged: it is not one, or could be read in two ways.
    """
    if sum(map(data.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise ModelDamaged(f"the manifest has more than {MAX_VALUES} values")
    wire = _convert("manifest", data, _WireManifest)
    if wire.schema_version != 2:
        raise ModelDamaged(f"the manifest has schemaVersion {wire.schema_version}, not 2")
    if wire.media_type not in MEDIA_TYPES or wire.manifests:
        raise ModelDamaged("the manifest is a list of manifests, or of an unknown kind")
    if len(wire.layers) > MAX_LAYERS:
        raise ModelDamaged(f"the manifest has {len(wire.layers)} layers, more than {MAX_LAYERS}")
    manifest = Manifest(
        config=_layer(wire.config),
        layers=tuple(_layer(layer) for layer in wire.layers),
        digest=hashlib.sha256(data).hexdigest(),
        **_documents(data),
    )
    if len(manifest.of("model")) > 1:
        raise ModelDamaged(f"the manifest has {len(manifest.of('model'))} model layers")
    return manifest


def _documents(data: bytes) -> dict[str, str]:
    """Digests of a manifest that was read already: of all of it, and of what Ollama's structs of it have."""
    whole: dict[str, Any] = msgspec.json.decode(data)
    kept = {name: whole[name] for name in _KEPT & whole.keys()}
    kept["config"] = _kept_layer(whole["config"])
    kept["layers"] = [_kept_layer(layer) for layer in whole["layers"]]
    return {"document": _digest_of(whole), "kept": _digest_of(kept)}


def _kept_layer(layer: dict[str, Any]) -> dict[str, Any]:
    return {name: layer[name] for name in _KEPT_OF_LAYER & layer.keys()}


def _digest_of(document: dict[str, Any]) -> str:
    return hashlib.sha256(msgspec.json.encode(document, order="sorted")).hexdigest()


def parse_config(data: bytes) -> Config:
    """Reads the config blob.

    Raises:
        ModelDamaged: it is not one.
    """
    return _convert("config", data, Config)


def parse_origin(data: bytes) -> Origin | None:
    """What the config blob says of a model's origin; None where it says nothing that we wrote."""
    try:
        wire: _WireOrigin = parsed(data, _WireOrigin)
        return wire.localmodels
    except ValueError:
        return None


def parse_parameters(data: bytes) -> Parameters:
    """Reads the ``params`` blob; values that our table refuses are kept aside like unknown names, never applied.

    Raises:
        ModelDamaged: it is not a JSON object.
    """
    known: dict[str, Any] = {}
    others: list[tuple[str, Any]] = []
    for name, value in _convert("params", data, dict[str, Any]).items():
        try:
            accepted = not parse_options({name: value}).ignored
        except InvalidValue:
            accepted = False
        if accepted:
            known[name] = value
        else:
            others.append((name, value))
    return Parameters(parse_options(known), tuple(others))


def parse_messages(data: bytes) -> tuple[tuple[str, str], ...]:
    """Reads the ``messages`` blob: role and text of each.

    Raises:
        ModelDamaged: it is not a list of messages.
    """
    return tuple((message.role, message.content) for message in _convert("messages", data, list[_WireMessage]))


def parse_text(data: bytes) -> str:
    """Reads a text blob.

    Raises:
        ModelDamaged: it is not UTF-8.
    """
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ModelDamaged("a text layer is not UTF-8") from error


def write_manifest(config: Layer, layers: Iterable[Layer]) -> bytes:
    """A manifest of these layers, which :func:`parse_manifest` reads and Ollama does."""
    return _ENCODER.encode(
        _WireManifest(
            2, _wire(config, CONFIG_TYPE), [_wire(layer, _IMAGE + layer.kind) for layer in layers], MANIFEST_TYPE
        )
    )


def write_config(
    details: Details, digests: Iterable[Digest], kept: Mapping[str, str] = {}, *, origin: Origin | None = None
) -> bytes:
    """The config blob of a model: what a list shows of it, in Ollama's fields, and its origin, which Ollama reads over.

    ``kept`` are ``renderer``, ``parser`` and ``requires``, which are Ollama's, and ``template_by``, which is ours (see
    :mod:`.templates`); empty ones are left out.
    """
    return _ENCODER.encode(
        {
            "model_format": details.format,
            "model_family": details.family,
            "model_families": list(details.families),
            "model_type": details.parameter_size,
            "file_type": details.quantization_level,
            **{name: value for name, value in kept.items() if value},
            **({"localmodels": origin} if origin else {}),
            "architecture": "amd64",  # of the image, as Docker means it; every Ollama writes this
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [str(digest) for digest in digests]},
        }
    )


def write_parameters(parameters: Mapping[str, Any]) -> bytes:
    """The ``params`` blob, as :func:`parse_parameters` reads it."""
    return _ENCODER.encode({name: _written(name, value) for name, value in parameters.items()})


def _written(name: str, value: Any) -> Any:
    """A value as JSON has it: ours has pairs where JSON has an object."""
    is_bias = name in OPTIONS and OPTIONS[name].kind == "bias" and isinstance(value, tuple)
    return {str(token): bias for token, bias in value} if is_bias else value


def write_messages(messages: Iterable[tuple[str, str]]) -> bytes:
    """The ``messages`` blob."""
    return _ENCODER.encode([{"role": role, "content": content} for role, content in messages])


def _wire(layer: Layer, media_type: str) -> _WireLayer:
    return _WireLayer(media_type, str(layer.digest), layer.size, {_TITLE: layer.title} if layer.title else None)


def _layer(wire: _WireLayer) -> Layer:
    try:
        digest = Digest.parse(wire.digest)
    except InvalidValue as error:
        raise ModelDamaged(f"the manifest has an {error.message}") from error
    if not 0 <= wire.size <= MAX_BLOB:
        raise ModelDamaged(f"the manifest has a layer of the size {wire.size}; it must be 0 to {MAX_BLOB}")
    kind = wire.media_type.partition(";")[0]
    title = wire.annotations.get(_TITLE) if isinstance(wire.annotations, dict) else None
    return Layer(
        kind.removeprefix(_IMAGE) if kind.startswith(_IMAGE) else "",
        digest,
        wire.size,
        title if isinstance(title, str) else "",
    )


def _convert(what: str, data: bytes, shape: type[T]) -> T:
    """JSON of one meaning in the given shape.

    msgspec refuses what is not strictly JSON, but lets the last of two equal keys win, so those are looked for first.
    """
    try:
        json.loads(data.decode(), object_pairs_hook=_unique)
        return msgspec.json.decode(data, type=shape)
    except (ValueError, RecursionError) as error:  # all of json's, msgspec's and UTF-8's complaints are ValueErrors
        raise ModelDamaged(f"the {what} cannot be read: {str(error)[:200]}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key stands there twice")
    return result
