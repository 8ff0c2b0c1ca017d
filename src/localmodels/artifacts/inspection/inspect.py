"""What the files of an upload are: a whole model, an adapter, a GGUF file, or nothing of use.

The rule: what can never become a model is refused; what only this program cannot convert is noted, since another
version, or another server, may know it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from math import prod
from pathlib import Path

import msgspec
from msgspec import Struct

from localmodels.artifacts.convert.config import FILE
from localmodels.artifacts.convert.folder import Folder
from localmodels.artifacts.convert.lora import read_adapter
from localmodels.artifacts.convert.plan import architecture_of, stored_as, text_values
from localmodels.artifacts.convert.vocab.document import NAME as DOCUMENT
from localmodels.artifacts.convert.vocab.files import decoded
from localmodels.artifacts.convert.vocab.pieces import NAME as PIECES
from localmodels.artifacts.gguf import parts, read_header
from localmodels.artifacts.gguf_header import Header
from localmodels.artifacts.inspection.job import Findings
from localmodels.artifacts.model_files import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    is_adapter,
    is_gguf,
    of_adapter,
    of_model,
)
from localmodels.core.artifacts import ArtifactKind
from localmodels.core.errors import InvalidRequest, ModelDamaged, Unsupported

MOST_SHOWN = 5

_DOCUMENTS: Mapping[str, str] = {"BPE": "bpe", "WordPiece": "wordpiece", "Unigram": "unigram"}
_VOCABULARIES: Mapping[str, str] = {"gpt2": "bpe", "llama": "sentencepiece", "bert": "wordpiece", "t5": "unigram"}


class _Tokenizer(Struct):
    """What matters of ``tokenizer.json``; the vocabulary is stepped over."""

    class Model(Struct):
        type: str = ""

    model: Model | None = None


_TOKENIZER = msgspec.json.Decoder(_Tokenizer)


def inspect(folder: Folder, files: Mapping[str, Path]) -> Findings:
    """What the files are.

    Args:
        folder: of them.
        files: their paths by name; GGUF files that belong together lie beside each other.

    Raises:
        InvalidRequest: they are nothing that can become a model, or more than one thing.
        ModelDamaged: one is not sound, or one is missing.
        Unsupported: one is something else than its name says.
    """
    return _READERS[kind_of(files)](folder, files)


def kind_of(names: Mapping[str, object]) -> ArtifactKind:
    """What files of these names are; a model, if they are nothing.

    Raises:
        InvalidRequest: they are a model and an adapter.
    """
    if is_adapter(names):
        return "adapter"
    weights, adapters = of_model(names), of_adapter(names)
    if weights and adapters:
        raise InvalidRequest(f"this is a model ({weights[0]}) and an adapter ({adapters[0]}); upload them one by one")
    return "gguf" if not weights and any(map(is_gguf, names)) else "model"


def _model(folder: Folder, _files: Mapping[str, Path]) -> Findings:
    dtype, parameters = _weights(folder)
    if not folder.has(FILE):
        raise InvalidRequest(f"{FILE} is missing: without it nobody knows what the weights are; upload it beside them")
    config = folder.read_object(FILE)
    classes = config.get("architectures")
    first = classes[0] if isinstance(classes, list) and classes else ""
    context = text_values(config).get("max_position_embeddings")
    return Findings(
        "model",
        architecture=first if isinstance(first, str) else "",
        dtype=dtype,
        parameters=parameters,
        context=context if type(context) is int and context > 0 else 0,
        tokenizer=_tokenizer(folder),
        notes=tuple(_doubts(folder, config)),
    )


def _adapter(folder: Folder, _files: Mapping[str, Path]) -> Findings:
    for name, why in (
        (ADAPTER_CONFIG, "it says of what rank and for which model it is"),
        (ADAPTER_WEIGHTS, "they are it"),
    ):
        if not folder.has(name):
            raise InvalidRequest(f"{name} is missing in the adapter: {why}; upload the folder that PEFT saved")
    dtype, parameters = _weights(folder)
    base = folder.read_object(ADAPTER_CONFIG).get("base_model_name_or_path")
    return Findings(
        "adapter",
        dtype=dtype,
        parameters=parameters,
        tokenizer=_tokenizer(folder),
        base=base if isinstance(base, str) else "",
        notes=tuple(_hindrances(folder)),
    )


def _gguf(_folder: Folder, files: Mapping[str, Path]) -> Findings:
    found = {name: read_header(files[name]) for name in _beginnings(files)}
    projectors = [name for name, header in found.items() if header.is_projector]
    others = [name for name in found if name not in projectors]
    if len(others) != 1 or len(projectors) > 1:
        raise InvalidRequest(
            f"{len(found)} GGUF files that do not belong together ({', '.join(list(found)[:MOST_SHOWN])}): upload one "
            "model, with its projector if it has one"
        )
    header = found[others[0]]
    return Findings(
        "gguf",
        architecture=header.architecture,
        dtype=header.quantization_level,
        parameters=header.parameter_count,
        context=header.context_length,
        tokenizer=_VOCABULARIES.get(header.text("tokenizer.ggml.model"), ""),
        base=header.text("general.base_model.0.name") if header.is_adapter else "",
        notes=tuple(_remarks(header, projectors)),
    )


_READERS: Mapping[ArtifactKind, Callable[[Folder, Mapping[str, Path]], Findings]] = {
    "model": _model,
    "adapter": _adapter,
    "gguf": _gguf,
}


def _weights(folder: Folder) -> tuple[str, int]:
    """What most weights are stored as, and how many there are; all shards are there and sound then."""
    sizes: Counter[str] = Counter()
    for stored in folder.tensors().values():
        sizes[stored.dtype] += stored.size
    return sizes.most_common(1)[0][0], sum(prod(stored.shape) for stored in folder.tensors().values())


def _tokenizer(folder: Folder) -> str:
    if folder.has(PIECES):
        return "sentencepiece"
    if not folder.has(DOCUMENT):
        return ""
    model = decoded(folder, DOCUMENT, _TOKENIZER).model
    return _DOCUMENTS.get(model.type, "") if model else ""


def _doubts(folder: Folder, config: Mapping[str, object]) -> Iterator[str]:
    """Why a model may not be convertible."""
    try:
        architecture_of(config)
        stored_as(folder)
    except (ModelDamaged, Unsupported) as error:
        yield f"this model cannot be converted here: {error.message}"
    if not folder.has(DOCUMENT) and not folder.has(PIECES):
        yield f"there is neither {DOCUMENT} nor {PIECES}: save the tokenizer beside the model before you make one of it"
    unused = [name for name in folder.names if is_gguf(name)]
    if unused:
        yield f"{', '.join(unused[:MOST_SHOWN])}: passed over, the safetensors are the model"


def _hindrances(folder: Folder) -> Iterator[str]:
    """What stands in an adapter's way."""
    try:
        why = read_adapter(folder).needs_merging()
    except Unsupported as error:
        yield f"this adapter cannot be used here: {error.message}"
        return
    if why:
        yield f"this adapter can only be merged into an uploaded base model, not loaded beside one: {why}"


def _beginnings(files: Mapping[str, Path]) -> Iterator[str]:
    """The GGUF files, of one in parts the first."""
    later: set[Path] = set()
    for name, path in sorted(files.items()):
        if is_gguf(name) and path not in later:
            later.update(parts(path)[1:])
            yield name


def _remarks(header: Header, projectors: list[str]) -> Iterator[str]:
    if header.is_adapter:
        yield "this is a LoRA adapter as GGUF: it is used with the model that it was made for"
    if projectors:
        yield f"{projectors[0]} is the model's projector"


__all__ = ["inspect", "kind_of"]
