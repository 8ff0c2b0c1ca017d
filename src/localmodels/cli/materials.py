"""What FROM and ADAPTER of a Modelfile mean on this machine: files, folders of files, or the name of a model.

The rule, which is Ollama's: what exists is a file, relative to the Modelfile; anything else is the name of a model. But
what nobody would call a model (``./weights``, ``weights.gguf``) is a missing file, and is said so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from localmodels.artifacts.gguf import parts, read_part
from localmodels.artifacts.modelfile import Command
from localmodels.artifacts.recipe import Material, looks_like_path, named, said, uploaded
from localmodels.core.errors import InvalidRequest, ModelDamaged, Unsupported

GGUF, SAFETENSORS = ".gguf", ".safetensors"
MAGIC = b"GGUF"
SOME = 3  # files that are named of many
Found = Sequence[Path] | Material


def find(line: Command, folder: Path) -> Found:
    """The files that a line means, or what it stands for on the server.

    Args:
        line: FROM or ADAPTER.
        folder: of the Modelfile.

    Raises:
        InvalidRequest: there is no such file, or no model in the folder; names the line.
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


def _whole(line: Command, path: Path) -> Sequence[Path]:
    """The file, and of a split model all."""
    _convertible(line, path.name, [path])
    if not path.is_file():
        raise InvalidRequest(said(line, f"{line.value!r} is neither a file nor a folder"))
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise InvalidRequest(said(line, f"{line.value!r} is not a GGUF file"))
    try:
        return parts(path)
    except ModelDamaged as error:
        raise InvalidRequest(said(line, error.message)) from error


def _in_folder(line: Command, folder: Path) -> Sequence[Path]:
    inside = sorted(path for path in folder.iterdir() if path.is_file())
    found = [path for path in inside if path.suffix.lower() == GGUF]
    if not found:
        _convertible(line, line.value, inside)
        hint = "" if looks_like_path(line.value) else f"; if a model is meant, write {line.value}:latest"
        raise InvalidRequest(said(line, f"the folder {line.value!r} has no GGUF files{hint}"))
    if line.command == "from":
        _require_one(line, found)
    return found


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


def _convertible(line: Command, where: str, files: Iterable[Path]) -> None:
    if any(path.suffix.lower() == SAFETENSORS for path in files):
        what = f"{where} is in safetensors, which cannot be converted here yet; give a GGUF file"
        raise Unsupported(said(line, what))
