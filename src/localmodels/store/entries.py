"""A model as a shelf holds it, and what is told about it.

An :class:`Entry` is everything that is needed to run a model: its files, its header, and what its maker set beside
them. What it tells (:func:`to_model`, :func:`describe`) is worked out from that value alone, so nothing here touches
the disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args

from msgspec import Struct

from localmodels.artifacts.gguf_header import Array, Header
from localmodels.artifacts.modelfile import Modelfile, write_modelfile
from localmodels.core.catalog import Capability, Description, Details, Digest, Model, ModelName, TensorInfo
from localmodels.core.errors import ModelDamaged
from localmodels.core.options import NO_OPTIONS, OPTIONS, Options
from localmodels.store.templates import NONE, Template

Source = Literal["home", "ollama", "file", "builtin"]
Kind = Literal["model", "projector", "adapter"]

MOST_NAME = 120  # characters of an adapter's name

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
        adapter_names: by which a request switches each of ``adapter_paths``; they have ``adapter_bytes`` together.
        template: Go template, where the maker gave one; the model's own Jinja template is in ``header``.
        answers_by: the Go template with which it answers; without one it is the Jinja template.
        renderer, parser, requires, template_by: what its config says besides, kept for the models made of it.
        options: the maker's defaults, of those that we know; ``other_options`` are kept to be shown.
        messages: role and text of the turns that every conversation begins with.
        store: the directory of the store that it lies in; empty where its files have no digests.
        blobs: everything that its manifest names.
        stamp: another number when one of its files is another, by what the file system says of it; texts do not count.
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
    adapter_names: tuple[str, ...] = ()
    adapter_bytes: int = 0
    template: str = ""
    answers_by: Template = NONE
    renderer: str = ""
    parser: str = ""
    requires: str = ""
    template_by: str = ""
    system: str = ""
    options: Options = NO_OPTIONS
    other_options: tuple[tuple[str, Any], ...] = ()
    messages: tuple[tuple[str, str], ...] = ()
    license: tuple[str, ...] = ()
    store: str = ""
    blobs: tuple[Digest, ...] = ()
    stamp: int = 0


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


def names_of(titles: Iterable[str]) -> tuple[str, ...]:
    """A name for each adapter, made of its file's; ``adapter-1`` where it has none, or the name of an earlier one."""
    names: list[str] = []
    for place, title in enumerate(titles):
        name = title.removesuffix(".gguf")[:MOST_NAME]
        names.append(name if name.isprintable() and name and name not in names else f"adapter-{place}")
    return tuple(names)


def details_of(header: Header) -> Details:
    """What the file itself says, in Ollama's fields."""
    return Details(
        family=header.architecture,
        families=(header.architecture,),
        parameter_size=header.parameter_size,
        quantization_level=header.quantization_level,
    )


def capabilities(entry: Entry) -> tuple[Capability, ...]:
    """What the model can do, with its projector, and by the template with which it answers."""
    found = entry.header.capabilities(projector=entry.projector)
    template = entry.answers_by.chat
    if template is None or "completion" not in found:
        return found
    shown = {*template.capabilities, *(one for one in found if one not in {"tools", "thinking"})}
    return tuple(one for one in get_args(Capability) if one in shown)


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
        adapters=entry.adapter_names,
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
        renderer=entry.renderer,
        parser=entry.parser,
        requires=entry.requires,
        system=entry.system,
        parameters=(*((name, value) for name, value in set_here if value is not None), *entry.other_options),
        license=entry.license,
        messages=entry.messages,
    )


def _info(header: Header, read: Callable[[Array], Any]) -> dict[str, Any]:
    told = {key: read(value) if isinstance(value, Array) else value for key, value in header.metadata.items()}
    told["general.parameter_count"] = header.parameter_count
    return {key: value for key, value in sorted(told.items()) if key not in _NOT_TOLD}
