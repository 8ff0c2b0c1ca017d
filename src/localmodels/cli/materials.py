"""What FROM and ADAPTER of a Modelfile mean on this machine: files, folders of files, or the name of a model.

The rule, which is Ollama's: what exists is a file, relative to the Modelfile; anything else is the name of a model. But
what nobody would call a model (``./weights``, ``weights.gguf``) is a missing file, and is said so. Of a folder of
safetensors the same files are sent as by Ollama, and of links only what lies in the folder: nobody can make others send
their own files by giving them a folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from localmodels.artifacts.gguf import parts, read_part
from localmodels.artifacts.model_files import (
    ADAPTER_CONFIG,
    USE_SAFETENSORS,
    is_adapter,
    is_gguf,
    is_pickle,
    is_program,
    is_safetensors,
    is_sent,
    lies_in,
)
from localmodels.artifacts.modelfile import Command
from localmodels.artifacts.recipe import Material, looks_like_path, named, said, uploaded
from localmodels.core.errors import InvalidRequest, ModelDamaged, Unsupported

MAGIC = b"GGUF"
SOME = 3  # files that are named of many

# Weights, the first pattern that finds some: all that is beside them would be another form of the same model.
_WEIGHTS: Mapping[str, Sequence[str]] = {
    "from": ("model*.safetensors", "consolidated*.safetensors", "*.safetensors"),
    "adapter": ("adapter_model*.safetensors", "adapters.safetensors", "*.safetensors"),
}
# What is sent besides; of nested folders, what sentence-transformers keeps there.
_BESIDE = ("*.json", "*/*.json", "chat_template.jinja", "tokenizer.model")
_NESTED = "*/model*.safetensors"


class Local(Struct, frozen=True):
    """Files of this machine.

    Attributes:
        files: path by the name under which the server is to know it.
        left: names of programs and pickles beside them, which nobody is sent.
    """

    files: Mapping[str, Path]
    left: tuple[str, ...] = ()


Found = Local | Material


def find(line: Command, folder: Path) -> Found:
    """The files that a line means, or what it stands for on the server.

    Args:
        line: FROM or ADAPTER.
        folder: of the Modelfile.

    Raises:
        InvalidRequest: there is no such file, or no model in the folder; names the line.
        Unsupported: the folder's weights are pickles.
    """
    path = folder / expanded(line.value)
    if path.is_dir():
        return _in_folder(line, path)
    if path.exists():
        return _whole(line, path)
    if line.value.lstrip("@").startswith("sha256:"):
        return uploaded(line)
    if line.command == "adapter" or looks_like_path(line.value):
        raise InvalidRequest(said(line, f"there is no file {line.value!r} in {folder}"))
    return named(line)


def expanded(text: str) -> Path:
    """A path as it was typed, ``~`` for the home; a home that is not known stays as it is written."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def _whole(line: Command, path: Path) -> Local:
    """The file, and of a split model all."""
    if is_safetensors(path.name):
        what = f"{line.value!r} are weights alone; name the folder, which has the configuration and the tokenizer too"
        raise InvalidRequest(said(line, what))
    if not path.is_file():
        raise InvalidRequest(said(line, f"{line.value!r} is neither a file nor a folder"))
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            why = f": {USE_SAFETENSORS}" if is_pickle(path.name) else ""
            raise InvalidRequest(said(line, f"{line.value!r} is not a GGUF file{why}"))
    try:
        return _by_name(parts(path))
    except ModelDamaged as error:
        raise InvalidRequest(said(line, error.message)) from error


def _by_name(files: Iterable[Path]) -> Local:
    return Local({file.name: file for file in files})


def _in_folder(line: Command, folder: Path) -> Local:
    weights = next((found for found in (_matching(folder, one) for one in _WEIGHTS[line.command]) if found), [])
    if weights:
        return _convertible(line, folder, weights)
    inside = sorted(path for path in folder.iterdir() if path.is_file())
    found = [path for path in inside if is_gguf(path.name)]
    if not found:
        if pickle := next((path.name for path in inside if is_pickle(path.name)), None):
            raise Unsupported(said(line, f"{pickle}: {USE_SAFETENSORS}"))
        hint = "" if looks_like_path(line.value) else f"; if a model is meant, write {line.value}:latest"
        raise InvalidRequest(said(line, f"the folder {line.value!r} has no GGUF files and no safetensors{hint}"))
    if line.command == "from":
        _require_one(line, found)
    return _by_name(found)


def _convertible(line: Command, folder: Path, weights: Sequence[Path]) -> Local:
    """The files of a folder of safetensors that are sent, by their names in it."""
    nested = _matching(folder, _NESTED) if line.command == "from" else []
    chosen = [*weights, *nested, *(path for pattern in _BESIDE for path in _matching(folder, pattern))]
    files = {path.relative_to(folder).as_posix(): path for path in chosen}
    if line.command == "from" and is_adapter(files):
        what = f"{line.value!r} is an adapter: write ADAPTER {line.value}, and the model that it is for after FROM"
        raise InvalidRequest(said(line, what))
    if line.command == "adapter" and ADAPTER_CONFIG not in files:
        raise InvalidRequest(said(line, f"{line.value!r} has no {ADAPTER_CONFIG}, so it is no adapter"))
    for name, path in files.items():
        if not lies_in(folder.resolve(), path.resolve()):
            what = f"{name} is a link that leads out of the folder {line.value!r}; copy the file"
            raise InvalidRequest(said(line, what))
    left = sorted(path.name for path in folder.iterdir() if path.is_file() and is_program(path.name))
    return Local(files, tuple(left))


def _matching(folder: Path, pattern: str) -> list[Path]:
    found = (path for path in sorted(folder.glob(pattern)) if path.is_file())
    return [path for path in found if is_sent(path.relative_to(folder).as_posix())]


def _require_one(line: Command, files: Sequence[Path]) -> None:
    """Looks whether a folder has one model, which may be in parts; projectors and adapters go with it."""
    models: list[str] = []
    in_parts = False
    for file in files:
        try:
            header = read_part(file)
        except ModelDamaged:
            continue  # the server says what is wrong with it
        if header.is_adapter or header.is_projector or (header.split is not None and in_parts):
            continue
        in_parts = in_parts or header.split is not None
        models.append(file.name)
    if len(models) > 1:
        some = ", ".join(models[:SOME]) + (" …" if len(models) > SOME else "")
        what = f"the folder {line.value!r} has {len(models)} models: {some}; name one of them"
        raise InvalidRequest(said(line, what))
