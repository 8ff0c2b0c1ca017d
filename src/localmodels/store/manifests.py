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
from localmodels.core.options import NO_OPTIONS, Options, parse_options

MANIFEST_BYTES = 4 * 2**20
MAX_LAYERS = 1024
# A template, a system prompt, a licence: the longest licences seen are below 100 KiB.
TEXT_BYTES = 2**20

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
MEDIA_TYPES = frozenset({"", MANIFEST_TYPE, "application/vnd.oci.image.manifest.v1+json"})
_IMAGE = "application/vnd.ollama.image."

T = TypeVar("T")
_ENCODER = msgspec.json.Encoder()


class Layer(Struct, frozen=True):
    """One blob of a model: what it is for (``model``, ``template`` …; empty when unknown to us) and its bytes."""

    kind: str
    digest: Digest
    size: int


class Manifest(Struct, frozen=True):
    """A manifest's meaning. ``digest`` is the SHA-256 of its own bytes, in hexadecimal digits."""

    config: Layer
    layers: tuple[Layer, ...]
    digest: str

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
    remote_model: str = ""


class Parameters(Struct, frozen=True):
    """The ``params`` blob: what our option table knows, and the rest as it was written."""

    options: Options = NO_OPTIONS
    others: tuple[tuple[str, Any], ...] = ()


class _WireLayer(Struct, rename="camel"):
    media_type: str
    digest: str
    size: int


class _WireManifest(Struct, rename="camel", omit_defaults=True):
    schema_version: int
    config: _WireLayer
    layers: list[_WireLayer]
    media_type: str = ""
    manifests: list[Any] = []


class _WireMessage(Struct):
    role: str
    content: str = ""


def parse_manifest(data: bytes) -> Manifest:
    """Reads a manifest.

    Raises:
        ModelDamaged: it is not one, or could be read in two ways.
    """
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
    )
    if len(manifest.of("model")) > 1:
        raise ModelDamaged(f"the manifest has {len(manifest.of('model'))} model layers")
    return manifest


def parse_config(data: bytes) -> Config:
    """Reads the config blob.

    Raises:
        ModelDamaged: it is not one.
    """
    return _convert("config", data, Config)


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


def write_config(details: Details, digests: Iterable[Digest], *, requires: str = "") -> bytes:
    """The config blob of a model: what a list shows of it, in Ollama's fields."""
    return _ENCODER.encode(
        {
            "model_format": details.format,
            "model_family": details.family,
            "model_families": list(details.families),
            "model_type": details.parameter_size,
            "file_type": details.quantization_level,
            **({"requires": requires} if requires else {}),
            "architecture": "amd64",  # of the image, as Docker means it; every Ollama writes this
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [str(digest) for digest in digests]},
        }
    )


def write_parameters(parameters: Mapping[str, Any]) -> bytes:
    """The ``params`` blob."""
    return _ENCODER.encode(parameters)


def write_messages(messages: Iterable[tuple[str, str]]) -> bytes:
    """The ``messages`` blob."""
    return _ENCODER.encode([{"role": role, "content": content} for role, content in messages])


def _wire(layer: Layer, media_type: str) -> _WireLayer:
    return _WireLayer(media_type, str(layer.digest), layer.size)


def _layer(wire: _WireLayer) -> Layer:
    try:
        digest = Digest.parse(wire.digest)
    except InvalidValue as error:
        raise ModelDamaged(f"the manifest has an {error.message}") from error
    if wire.size < 0:
        raise ModelDamaged("the manifest has a layer of negative size")
    kind = wire.media_type.partition(";")[0]
    return Layer(kind.removeprefix(_IMAGE) if kind.startswith(_IMAGE) else "", digest, wire.size)


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
