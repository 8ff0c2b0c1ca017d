"""A model as a shelf holds it, and what is told about it.

An :class:`Entry` is everything that is needed to run a model: its files, its header, and what its maker set beside
them. What it tells (:func:`to_model`, :func:`describe`) is worked out from that value alone, so nothing here touches
the disk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from msgspec import Struct

from localmodels.artifacts.gguf_header import Array, Header
from localmodels.artifacts.modelfile import Modelfile, write_modelfile
from localmodels.core.catalog import Capability, Description, Details, Model, ModelName, TensorInfo
from localmodels.core.errors import ModelDamaged
from localmodels.core.options import NO_OPTIONS, OPTIONS, Options

Source = Literal["home", "ollama", "file", "builtin"]
Kind = Literal["model", "projector", "adapter"]

# Ollama leaves these two out of `model_info`: the one is the name again, the other stands in `template`.
_NOT_TOLD = frozenset({"general.name", "tokenizer.chat_template"})


class Entry(Struct, frozen=True):
    """A model that can be run.

    Attributes:
        source: the kind of shelf that it stands on.
        model_path: the GGUF file, of a split model the first.
        parts: all files of the model, in order; ``header`` tells about all of them.
        size: bytes on disk, all its files.
        digest: SHA-256 of its manifest; where there is none, see :func:`localmodels.store.shelves.identity`.
        modified_at: RFC 3339, UTC, always with nanoseconds, so that the texts sort as the times do.
        template: Go template, where the maker gave one; the model's own Jinja template is in ``header``.
        options: the maker's defaults, of those that we know; ``other_options`` are kept to be shown.
        messages: role and text of the turns that every conversation begins with.
    """

    name: ModelName
    source: Source
    model_path: str
    parts: tuple[str, ...]
    header: Header
    size: int
    digest: str
    modified_at: str
    details: Details = Details()
    projector_path: str = ""
    projector: Header | None = None
    adapter_paths: tuple[str, ...] = ()
    template: str = ""
    system: str = ""
    options: Options = NO_OPTIONS
    other_options: tuple[tuple[str, Any], ...] = ()
    messages: tuple[tuple[str, str], ...] = ()
    license: tuple[str, ...] = ()


class Damaged(Struct, frozen=True):
    """What stands in a model's place and cannot be used. ``name`` is as much of a name as could be read."""

    name: str
    why: str
    source: Source


def expect(kind: Kind, header: Header) -> Header:
    """The header, if it is of a file of this kind.

    Raises:
        ModelDamaged: the engine would be given one kind of file for another.
    """
    found: Kind = "adapter" if header.is_adapter else "projector" if header.is_projector else "model"
    if found != kind:
        raise ModelDamaged(f"{header.name}: the file is of the kind {found!r}, not {kind!r}")
    return header


def details_of(header: Header) -> Details:
    """What the file itself says, in Ollama's fields."""
    return Details(
        family=header.architecture,
        families=(header.architecture,),
        parameter_size=header.parameter_size,
        quantization_level=header.quantization_level,
    )


def capabilities(entry: Entry) -> tuple[Capability, ...]:
    """What the model can do, with its projector."""
    return entry.header.capabilities(projector=entry.projector)


def to_model(entry: Entry) -> Model:
    """The entry as a list shows it."""
    return Model(
        name=str(entry.name),
        size=entry.size,
        digest=entry.digest,
        modified_at=entry.modified_at,
        details=entry.details,
        capabilities=capabilities(entry),
        context_length=entry.header.context_length,
        embedding_length=entry.header.embedding_length,
    )


def untold(_array: Array) -> None:
    """Leaves an array in its file."""


def describe(entry: Entry, *, read: Callable[[Array], Any] = untold) -> Description:
    """Everything about the entry.

    Arrays that stayed in the file (token texts, scores) are what ``read`` makes of them: null, unless told otherwise.
    """
    header = entry.header
    return Description(
        model=to_model(entry),
        path=entry.model_path,
        template=entry.template or header.chat_template,
        system=entry.system,
        license="\n".join(entry.license),
        modelfile=write_modelfile(to_modelfile(entry)),
        options=entry.options,
        messages=entry.messages,
        info=_info(header, read),
        tensors=tuple(TensorInfo(tensor.name, tensor.type.name, tensor.shape) for tensor in header.tensors),
    )


def to_modelfile(entry: Entry) -> Modelfile:
    """The entry as a Modelfile that would make it again."""
    set_here = ((name, getattr(entry.options, name)) for name in OPTIONS)
    return Modelfile(
        name=str(entry.name),
        models=(*entry.parts, *((entry.projector_path,) if entry.projector_path else ())),
        adapters=entry.adapter_paths,
        template=entry.template,
        system=entry.system,
        parameters=(*((name, value) for name, value in set_here if value is not None), *entry.other_options),
        license=entry.license,
        messages=entry.messages,
    )


def _info(header: Header, read: Callable[[Array], Any]) -> dict[str, Any]:
    told = {key: read(value) if isinstance(value, Array) else value for key, value in header.metadata.items()}
    told["general.parameter_count"] = header.parameter_count
    return {key: value for key, value in sorted(told.items()) if key not in _NOT_TOLD}
