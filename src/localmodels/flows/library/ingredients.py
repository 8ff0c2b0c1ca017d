"""The files of a model that is being made, as values, and what can be told of them by looking at heads and names. Pure.

The rule: whatever can be told so is told before anything is made, and what is wrong with something that was sent is the
request's fault, named by its field.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from localmodels.artifacts.gguf import join
from localmodels.artifacts.gguf_header import Header
from localmodels.artifacts.gguf_merge import Part
from localmodels.artifacts.lora import misfit
from localmodels.artifacts.model_files import USE_SAFETENSORS, is_adapter, is_gguf, is_pickle, is_safetensors
from localmodels.core.catalog import Blob
from localmodels.core.errors import InvalidRequest, ModelDamaged, Unsupported
from localmodels.core.library import CreateRequest
from localmodels.store.entries import Kind


class Weights(Struct, frozen=True):
    """A GGUF file of a model that is being made: what it is, and the blob that it became; an adapter with its name.

    ``new``: it was made here, and nobody else has asked for it yet.
    """

    kind: Kind
    blob: Blob
    header: Header
    title: str = ""
    new: bool = False


class Split(Struct, frozen=True):
    """A model in several files, which are put together before anything else is done with them."""

    parts: tuple[Part, ...]
    uploaded: bool
    kind: Kind = "model"


class Foreign(Struct, frozen=True):
    """A model in one file that is not in our store, and of which only the quantised weights will be."""

    path: Path
    header: Header
    kind: Kind = "model"


class Raw(Struct, frozen=True):
    """A folder of safetensors, which becomes one file.

    Attributes:
        files: path by name.
        title: what the file calls itself.
        param: the request's field that named it.
    """

    files: Mapping[str, Path]
    title: str
    param: str
    kind: Kind = "model"


Ingredient = Weights | Split | Foreign | Raw


class Found(Struct, frozen=True):
    """The ingredients of one model, which go together as far as their heads tell.

    Attributes:
        others: projector and adapters, in GGUF.
        raw_adapter: an adapter that is still to be converted; with ``merge`` into the weights of the model.
    """

    model: Ingredient
    others: tuple[Weights, ...] = ()
    raw_adapter: Raw | None = None
    merge: bool = False


def is_folder(files: Sequence[tuple[str, str]], param: str) -> bool:
    """Are these the files of a folder of safetensors, and not GGUF?

    Raises:
        InvalidRequest: both, or an adapter's where a model's are due.
    """
    names = [name for name, _ in files]
    if not any(map(is_safetensors, names)):
        return False
    if gguf := next((name for name in names if is_gguf(name)), None):
        what = f"{param}: {gguf[:80]} is GGUF and others are safetensors; a model is made of the one or of the others"
        raise InvalidRequest(what, param=param)
    if param == "files" and is_adapter(names):
        what = "files: these are of an adapter; name them in adapters, and in from the model that it is for"
        raise InvalidRequest(what, param=param)
    return True


def unreadable(name: str, names: Sequence[str], error: ModelDamaged) -> InvalidRequest:
    """Why a file cannot be used that was sent as GGUF; where there are pickles among all of them, it is those."""
    if pickle := next((one for one in names if is_pickle(one)), None):
        return Unsupported(f"{pickle[:80]}: {USE_SAFETENSORS}", param="files")
    return InvalidRequest(f"{name[:80]}: not a sound GGUF file: {error.message}", param="files")


def param_of(request: CreateRequest) -> str:
    """The field of a request that names what the model is made of."""
    return "artifact" if request.artifact else "files"


def require_fit(found: Sequence[Ingredient], model: Ingredient, name: str) -> None:
    """Looks whether the adapters can be used with the model, before anything is made of them.

    Args:
        found: among them the adapters.
        model: the weights.
        name: of the model that is the base; empty where it is a file.

    Raises:
        InvalidRequest: one cannot; names it, the tensor and the model.
    """
    if isinstance(model, Raw):
        return  # has no head yet
    heads = [part.header for part in model.parts] if isinstance(model, Split) else [model.header]
    tensors = [tensor for head in heads for tensor in head.tensors]
    for one in found:
        if isinstance(one, Weights) and one.kind == "adapter":
            wrong = misfit(one.header, heads[0].architecture, tensors)
            if wrong:
                to = f"model '{name}'" if name else "the model file"
                raise InvalidRequest(f"{one.title[:80] or 'the adapter'}: does not fit {to}: {wrong}", param="adapters")


def checked(name: str, blob: Blob, header: Header) -> Weights:
    """A file that is whole, after looking whether the engine can live with it.

    Raises:
        InvalidRequest: it cannot.
    """
    try:
        header = join([header])
    except ModelDamaged as error:
        raise unreadable(name, (name,), error) from error
    kind: Kind = "adapter" if header.is_adapter else "projector" if header.is_projector else "model"
    return Weights(kind, blob, header, name if kind == "adapter" else "")
