"""How lists and descriptions of models look on the wire: Ollama's ``tags``, ``show`` and ``ps``, OpenAI's ``models``.

Both roles, like every codec: what ``write_*`` writes, ``read_*`` reads back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, Struct, UnsetType

from localmodels.core.catalog import Description, Details, Model, Running, TensorInfo
from localmodels.core.errors import Garbled
from localmodels.core.library import Described, Outcome
from localmodels.core.options import Options

T = TypeVar("T")
_ENCODER = msgspec.json.Encoder()
_NO_DIGEST = "0" * 12


class _Tag(Struct, frozen=True):
    """A row.

    Three fields are said of a fleet alone: who has it, and what it is on each where that differs; ``gateways`` is told
    to gateways alone, and says through which it is had, the one that tells it as the first.
    """

    name: str
    model: str = ""
    modified_at: str = ""
    size: int = 0
    digest: str = ""
    details: Details = Details()
    capabilities: tuple[str, ...] = ()
    context_length: int = 0
    embedding_length: int = 0
    servers: tuple[str, ...] | UnsetType = UNSET
    digests: dict[str, str] | UnsetType = UNSET
    conflict: bool | UnsetType = UNSET
    gateways: tuple[str, ...] | UnsetType = UNSET


class Tags(Struct, frozen=True):
    """``GET /api/tags``."""

    models: tuple[_Tag, ...] = ()


class _Process(Struct, frozen=True):
    """``/api/ps`` has two lists: ``models`` for Ollama's clients, ``running`` as seed 004 wants it."""

    name: str
    model: str = ""
    size: int = 0
    digest: str = ""
    details: Details = Details()
    expires_at: str | UnsetType = UNSET  # no text, where it is not known: clients read it as a moment
    size_vram: int = 0
    context_length: int = 0
    status: str = "running"
    pid: int = 0
    parallel: int = 1
    busy: int = 0
    queued: int = 0
    server: str | UnsetType = UNSET
    gateways: tuple[str, ...] | UnsetType = UNSET


class _Short(Struct, frozen=True):
    name: str
    status: str
    pid: int
    server: str | UnsetType = UNSET


class Processes(Struct, frozen=True):
    """``GET /api/ps``: in Ollama's words, and in those of seed 004; then those servers that did not tell in time.

    Last the bytes that another model could take in the memory of this machine, by which gateways in front of it choose.
    """

    models: tuple[_Process, ...] = ()
    running: tuple[_Short, ...] = ()
    failures: tuple[Outcome, ...] | UnsetType = UNSET
    memory_free: int | UnsetType = UNSET


class _Message(Struct, frozen=True):
    role: str
    content: str


class _Adapter(Struct, frozen=True):
    id: int
    name: str


class Show(Struct, frozen=True):
    """Ollama's answer, then the flat fields of seed 004, then ours."""

    license: str = ""
    modelfile: str = ""
    parameters: str = ""
    template: str = ""
    system: str = ""
    details: Details = Details()
    messages: tuple[_Message, ...] = ()
    model_info: dict[str, Any] = {}
    tensors: tuple[TensorInfo, ...] = ()
    capabilities: tuple[str, ...] = ()
    modified_at: str = ""
    name: str = ""
    size: int = 0
    digest: str = ""
    format: str = ""
    family: str = ""
    parameter_size: str = ""
    quantization_level: str = ""
    model_file: str = ""
    adapters: tuple[_Adapter, ...] = ()
    servers: tuple[Described, ...] | UnsetType = UNSET  # where several were asked: the first of them tells the above


class OpenAIModel(Struct, frozen=True):
    """One model, as OpenAI lists it."""

    id: str
    created: int
    object: str = "model"
    owned_by: str = "library"
    context_length: int = 0
    capabilities: tuple[str, ...] = ()
    servers: tuple[str, ...] | UnsetType = UNSET
    digests: dict[str, str] | UnsetType = UNSET
    conflict: bool | UnsetType = UNSET
    gateways: tuple[str, ...] | UnsetType = UNSET


class OpenAIModels(Struct, frozen=True):
    """``GET /v1/models``."""

    data: tuple[OpenAIModel, ...]
    object: str = "list"


def stand_in(model: str) -> str:
    """A digest for a model whose server tells none, since clients of Ollama cut every digest short and compare it.

    It shows what it is: the twelve zeros that these clients show are no file's; the rest is made of the name.
    """
    return _NO_DIGEST + sha256(model.encode()).hexdigest()[len(_NO_DIGEST) :]


def is_stand_in(digest: str, model: str) -> bool:
    """Is this what :func:`stand_in` makes of the name under which a model is listed, with or without its server's?"""
    return digest.startswith(_NO_DIGEST) and digest in {stand_in(model), stand_in(model.partition("/")[2])}


def write_tags(models: Iterable[Model]) -> bytes:
    """``/api/tags`` and ``/models``."""
    return _ENCODER.encode(Tags(tuple(_tag(model) for model in models)))


def read_tags(body: bytes) -> tuple[Model, ...]:
    """The models of a ``tags`` answer."""
    return tuple(_model(tag) for tag in _decode(body, Tags).models)


def write_ps(running: Iterable[Running], failures: Sequence[Outcome] = (), *, memory_free: int | None = None) -> bytes:
    """``/api/ps``; what is free goes unsaid where it is not known."""
    rows = tuple(_process(row) for row in running)
    short = tuple(_Short(row.name, row.status, row.pid, row.server) for row in rows)
    free = UNSET if memory_free is None else memory_free
    return _ENCODER.encode(Processes(rows, short, tuple(failures) or UNSET, free))


def read_silent(body: bytes) -> tuple[Outcome, ...]:
    """Those servers that did not tell in time, of a ``ps`` answer."""
    return _decode(body, Processes).failures or ()


def write_show(description: Description, servers: Sequence[Described] = ()) -> bytes:
    """``/api/show``, and what became of each server where several were asked."""
    model = description.model
    return _ENCODER.encode(
        Show(
            license=description.license,
            modelfile=description.modelfile,
            parameters=description.parameters or write_parameters(description.options),
            template=description.template,
            system=description.system,
            details=model.details,
            messages=tuple(_Message(role, content) for role, content in description.messages),
            model_info=description.info,
            tensors=description.tensors,
            capabilities=model.capabilities,
            modified_at=model.modified_at,
            name=model.name,
            size=model.size,
            digest=model.digest,
            format=model.details.format,
            family=model.details.family,
            parameter_size=model.details.parameter_size,
            quantization_level=model.details.quantization_level,
            model_file=description.path,
            adapters=tuple(_Adapter(place, name) for place, name in enumerate(description.adapters)),
            servers=tuple(servers) or UNSET,
        )
    )


def read_show(body: bytes) -> tuple[Description, str, tuple[Described, ...]]:
    """The description, its parameters as text (which a foreign server may have beyond our table), and who was asked.

    The last is empty where one server alone was asked.
    """
    shown = _decode(body, Show)
    model = Model(
        shown.name,
        shown.size,
        shown.digest,
        shown.modified_at,
        shown.details,
        tuple(word for word in shown.capabilities if word in _CAPABILITIES),  # type: ignore[misc]
    )
    description = Description(
        model=model,
        path=shown.model_file,
        template=shown.template,
        system=shown.system,
        license=shown.license,
        modelfile=shown.modelfile,
        adapters=tuple(adapter.name for adapter in shown.adapters),
        messages=tuple((message.role, message.content) for message in shown.messages),
        info=shown.model_info,
        tensors=shown.tensors,
        parameters=shown.parameters,
    )
    return description, shown.parameters, () if shown.servers is UNSET else shown.servers


_CAPABILITIES = frozenset({"completion", "tools", "thinking", "vision", "embedding", "insert"})


def write_parameters(options: Options) -> str:
    """Options as Ollama shows them: a line each, the name padded, texts quoted."""
    lines = []
    for name in options.__struct_fields__:
        value = getattr(options, name)
        if value is None or name in {"ignored", "logit_bias"}:
            continue
        for item in value if isinstance(value, tuple) else (value,):
            shown = (
                msgspec.json.encode(item).decode()
                if isinstance(item, str)
                else f"{item:g}"
                if isinstance(item, float)
                else item
            )
            lines.append(f"{name:<30} {shown}")
    return "\n".join(lines)


def write_openai_models(models: Iterable[Model], created: Mapping[str, int]) -> bytes:
    """``/v1/models``; ``created`` are seconds since 1970 by name."""
    return _ENCODER.encode(OpenAIModels(tuple(_openai(model, created) for model in models)))


def write_openai_model(model: Model, created: Mapping[str, int]) -> bytes:
    """``/v1/models/{id}``."""
    return _ENCODER.encode(_openai(model, created))


def _openai(model: Model, created: Mapping[str, int]) -> OpenAIModel:
    return OpenAIModel(
        id=model.name,
        created=created.get(model.name, 0),
        owned_by=model.server or "library",
        context_length=model.context_length,
        capabilities=model.capabilities,
        servers=model.servers or UNSET,
        digests=dict(model.digests) or UNSET,
        conflict=bool(model.digests) or UNSET,
        gateways=model.gateways or UNSET,
    )


def _tag(model: Model) -> _Tag:
    return _Tag(
        name=model.name,
        model=model.name,
        modified_at=model.modified_at,
        size=model.size,
        digest=model.digest,
        details=model.details,
        capabilities=model.capabilities,
        context_length=model.context_length,
        embedding_length=model.embedding_length,
        servers=model.servers or UNSET,
        digests=dict(model.digests) or UNSET,
        conflict=bool(model.digests) or UNSET,
        gateways=model.gateways or UNSET,
    )


def _model(tag: _Tag) -> Model:
    return Model(
        name=tag.name or tag.model,
        size=tag.size,
        digest=tag.digest,
        modified_at=tag.modified_at,
        details=tag.details,
        capabilities=tuple(word for word in tag.capabilities if word in _CAPABILITIES),  # type: ignore[misc]
        context_length=tag.context_length,
        embedding_length=tag.embedding_length,
        servers=tag.servers or (),
        digests=tag.digests or {},
        gateways=tag.gateways or (),
    )


def _process(row: Running) -> _Process:
    return _Process(
        name=row.model.name,
        model=row.model.name,
        size=row.size,
        digest=row.model.digest,
        details=row.model.details,
        expires_at=row.expires_at or UNSET,
        size_vram=row.size_vram,
        context_length=row.context_length,
        status=row.status,
        pid=row.pid,
        parallel=row.parallel,
        busy=row.busy,
        queued=row.queued,
        server=row.server or UNSET,
        gateways=row.model.gateways or UNSET,
    )


def _decode(body: bytes, shape: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Garbled(f"the server's answer is not what it should be: {error}") from error
