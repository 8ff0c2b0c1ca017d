"""Seed 001's requests about artifacts, as JSON and as the fields of a form, in both roles.

The rule: a form says what the JSON says, under the same names; only the file goes beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from localmodels.core.artifact_names import FIELD
from localmodels.core.artifacts import Artifact
from localmodels.core.deploys import Deployment, Removal
from localmodels.core.errors import Garbled, InvalidRequest
from localmodels.core.library import CreateRequest
from localmodels.dialects import asked, strict_json
from localmodels.dialects.ollama.library import read_parameters
from localmodels.dialects.strict_json import encode
from localmodels.dialects.tasks import read_event

FILES = frozenset({FIELD, "model", "file"})
"""Under any of these names the file may come."""

NAME = "model_name_on_ollama"


class Create(Struct, omit_defaults=True):
    """``POST /models/create/``; in a form without ``model``, which is the file.

    Attributes:
        model: name of the artifact.
        model_name_on_ollama: name that the model gets.
        base: for an adapter, the model of the library or the artifact that it is for.
        quantize: type that the weights get, in llama.cpp's words.
        server: id or name of the server on which it is made, several with commas between or as a list, ``*`` for every
            one; empty for this one.
    """

    model: str = ""
    model_name_on_ollama: str = ""
    base: str | None = None
    quantize: str | None = None
    server: str | list[str] | None = None
    template: str | None = None
    system: str | None = None
    parameters: dict[str, Any] | None = None


class UploadForm(Struct, rename={"file": FIELD}):
    """``POST /models/upload/``; the name of the file says how it is packed."""

    file: bytes


class DeployForm(Struct, omit_defaults=True, rename={"file": FIELD}):
    """``POST /models/deploy/``: the file, and beside it what :class:`Create` has; ``parameters`` as JSON."""

    file: bytes
    model_name_on_ollama: str
    base: str = ""
    quantize: str = ""
    server: str = ""
    template: str = ""
    system: str = ""
    parameters: str = ""


class Delete(Struct):
    """``DELETE /models/``."""

    model: str = ""


_CREATE = msgspec.json.Decoder(Create)
_DELETE = msgspec.json.Decoder(Delete)
_FIELDS = frozenset(Create.__struct_fields__) - {"model"}


def read_create(body: bytes) -> Deployment:
    """``POST /models/create/``.

    Raises:
        InvalidRequest: a name is missing.
        InvalidValue: a field has another type, or a parameter that nobody knows.
    """
    sent = strict_json.read(body, _CREATE)
    return _deployment(sent, asked.required(sent.model, "model"))


def write_create(wanted: Deployment) -> bytes:
    """The same, as a client."""
    return encode(_sent(wanted, wanted.create.artifact))


def read_form(fields: Mapping[str, str], artifact: str) -> Deployment:
    """The fields of ``POST /models/deploy/``, all but the file.

    Args:
        fields: by name; ``parameters`` holds JSON.
        artifact: name of what the file becomes.

    Raises:
        InvalidRequest: the name is missing, or a field that nobody knows.
        InvalidValue: as :func:`read_create`.
    """
    unknown = sorted(set(fields) - _FIELDS)
    if unknown:
        known = ", ".join(sorted(_FIELDS))
        raise InvalidRequest(
            f"unknown field '{unknown[0][:60]}'; the form has {FIELD} (the file), {known}", param=unknown[0][:60]
        )
    texts: dict[str, Any] = dict(fields)
    if parameters := texts.pop("parameters", ""):
        texts["parameters"] = _parameters(parameters)
    return _deployment(strict_json.read(encode(texts), _CREATE), artifact)


def write_form(wanted: Deployment) -> dict[str, str]:
    """The same, as a client."""
    sent = msgspec.to_builtins(_sent(wanted, ""))
    return {name: value if isinstance(value, str) else encode(value).decode() for name, value in sent.items()}


def read_delete(body: bytes) -> Removal:
    """``DELETE /models/``.

    Raises:
        InvalidRequest: the name is missing.
    """
    return Removal(asked.required(strict_json.read(body, _DELETE).model, "model"))


def write_delete(wanted: Removal) -> bytes:
    """The same, as a client."""
    return encode(Delete(wanted.artifact))


def read_artifacts(body: bytes) -> tuple[Artifact, ...]:
    """``GET /models/``, as a client.

    Raises:
        Garbled: it is no such list.
    """
    try:
        return tuple(msgspec.convert(dict(read_event(line)[1].details), Artifact) for line in body.splitlines() if line)
    except msgspec.ValidationError as error:
        raise Garbled(f"the server's list of artifacts is not what it should be: {error}") from error


def _parameters(text: str) -> msgspec.Raw:
    """The field's JSON, if it is some by itself: nothing in it ends it and goes on with other fields."""
    try:
        read: msgspec.Raw = strict_json.parsed(text, msgspec.Raw)
    except ValueError as error:
        raise InvalidRequest(f"parameters is not JSON: {error}", param="parameters") from error
    return read


def _deployment(sent: Create, artifact: str) -> Deployment:
    create = CreateRequest(
        model=asked.required(sent.model_name_on_ollama, NAME),
        artifact=artifact,
        base=sent.base or "",
        quantize=sent.quantize or "",
        template=sent.template,
        system=sent.system,
        parameters=read_parameters(sent.parameters or {}, "parameters."),
    )
    return Deployment(create, sent.server if isinstance(sent.server, str) else ",".join(sent.server or ()))


def _sent(wanted: Deployment, artifact: str) -> Create:
    create = wanted.create
    return Create(
        model=artifact,
        model_name_on_ollama=create.model,
        base=create.base or None,
        quantize=create.quantize or None,
        server=wanted.server or None,
        template=create.template,
        system=create.system,
        parameters=dict(create.parameters) or None,
    )
