"""From a Modelfile to the request that makes its model: one function for the command line and for the server.

The rule: what FROM and ADAPTER name is looked up by whoever knows the place, the command line among its user's files
and the server among what was uploaded (:func:`uploaded`, never a path of its own disk); all else is decided here, and
what is wrong is told with its line.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from localmodels.artifacts.modelfile import Command, Modelfile, assembled, read_commands
from localmodels.core.catalog import Digest, ModelName
from localmodels.core.errors import InvalidRequest, InvalidValue, LocalModelsError, Unsupported
from localmodels.core.library import KEPT_PARAMETERS, CreateRequest, unknown_parameter
from localmodels.core.options import OPTIONS

_DIGEST = re.compile(r"@?(sha256:[0-9a-f]{64})")
# What nobody calls a model: the beginnings of paths, and the ends of files that models come in.
_PATH = re.compile(r"[./~].*|[A-Za-z]:\\.*|.*\.(gguf|safetensors|bin|pth|pt)", re.DOTALL)
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_REAL = re.compile(r"[+-]?[0-9]*\.?[0-9]+([eE][+-]?[0-9]{1,3})?")


class Recipe(Struct, frozen=True):
    """A Modelfile, and the lines of it that say what the model is made of."""

    modelfile: Modelfile
    models: tuple[Command, ...]
    adapters: tuple[Command, ...] = ()


class Material(Struct, frozen=True):
    """What such a line stands for: the name of a model of the server's, or names and digests of files that it has."""

    base: str = ""
    files: tuple[tuple[str, str], ...] = ()


def read_recipe(source: bytes | str) -> Recipe:
    """Reads a Modelfile.

    Raises:
        InvalidRequest: not a Modelfile, or one that asks for what is not here; names the line.
        InvalidValue: a parameter that nobody knows, or a value out of its range; names the line.
    """
    commands = read_commands(source)
    for one in commands:
        if one.command == "draft":
            raise Unsupported(said(one, "DRAFT: a second model that guesses ahead is not here yet"), param="modelfile")
        if one.command == "parameter" and one.word not in OPTIONS and one.word not in KEPT_PARAMETERS:
            raise InvalidValue(said(one, unknown_parameter(one.word)), param="modelfile")
    return Recipe(
        assembled(commands),
        tuple(one for one in commands if one.command == "from"),
        tuple(one for one in commands if one.command == "adapter"),
    )


def said(line: Command, what: str) -> str:
    """What is wrong, with the place."""
    return f"Modelfile, line {line.line}: {what}"


def looks_like_path(text: str) -> bool:
    """Would nobody call a model so?"""
    return _PATH.fullmatch(text) is not None


def create_request(model: str, recipe: Recipe, material: Callable[[Command], Material]) -> CreateRequest:
    """The request that makes a model by a recipe.

    Args:
        model: its name.
        recipe: as it was read.
        material: what a FROM or an ADAPTER line stands for; may raise.

    Raises:
        InvalidRequest: FROM names a model and files, or several models; two files have one name.
    """
    models, adapters = [material(one) for one in recipe.models], [material(one) for one in recipe.adapters]
    bases = [line for line, one in zip(recipe.models, models, strict=True) if one.base]
    if bases and len(models) > 1:
        raise InvalidRequest(said(bases[-1], "FROM names a model beside others; name one, or files"), param="modelfile")
    for line, one in zip(recipe.adapters, adapters, strict=True):
        if one.base:
            raise InvalidRequest(said(line, f"ADAPTER {line.value[:80]!r} is no file"), param="modelfile")
    made = recipe.modelfile
    return CreateRequest(
        model=model,
        base=models[0].base if models else "",
        files=_named_once(models),
        adapters=_named_once(adapters),
        template=made.template or None,
        system=made.system or None,
        parameters=tuple((name, value if name in OPTIONS else _plain(value)) for name, value in made.parameters),
        messages=made.messages or None,
        license=made.license or None,
        renderer=made.renderer,
        parser=made.parser,
        requires=made.requires,
    )


def uploaded(line: Command) -> Material:
    """What a line of a Modelfile stands for that was sent to a server: a model, or a blob that was uploaded before.

    Raises:
        InvalidRequest: it is a path, or no name.
    """
    if (match := _DIGEST.fullmatch(line.value)) is not None:
        digest = Digest.parse(match[1])
        return Material(files=((f"{digest.hex[:12]}.gguf", str(digest)),))
    if line.command == "adapter" or looks_like_path(line.value):
        word = line.command.upper()
        what = f"{word} {line.value[:80]!r} is no uploaded file"
        hint = f"POST it to /api/blobs/sha256:…, then write {word} @sha256:…"
        raise InvalidRequest(said(line, f"{what}; {hint}"), param="modelfile")
    return named(line)


def named(line: Command) -> Material:
    """The model that a line names.

    Raises:
        InvalidRequest: it is no name of a model.
    """
    try:
        ModelName.parse(line.value)
    except LocalModelsError as error:
        raise InvalidRequest(said(line, error.message), param="modelfile") from error
    return Material(base=line.value)


def expanded(request: CreateRequest) -> CreateRequest:
    """The request with its Modelfile read into the fields that it leaves open; what it says itself counts more.

    Raises:
        InvalidRequest: the Modelfile cannot be used; names the line.
    """
    if not request.modelfile:
        return request
    recipe = read_recipe(request.modelfile)
    own = bool(request.base or request.files or request.artifact)
    left = replace(
        recipe,
        models=() if own else recipe.models,
        adapters=() if request.adapters else recipe.adapters,
    )
    read = create_request(request.model, left, uploaded)
    return CreateRequest(
        model=request.model,
        base=request.base if own else read.base,
        files=request.files if own else read.files,
        adapters=request.adapters or read.adapters,
        template=read.template if request.template is None else request.template,
        system=read.system if request.system is None else request.system,
        parameters=tuple((dict(read.parameters) | dict(request.parameters)).items()),
        messages=read.messages if request.messages is None else request.messages,
        license=read.license if request.license is None else request.license,
        quantize=request.quantize,
        renderer=request.renderer or read.renderer,
        parser=request.parser or read.parser,
        requires=request.requires or read.requires,
        stream=request.stream,
        artifact=request.artifact,
    )


def _named_once(materials: Iterable[Material]) -> tuple[tuple[str, str], ...]:
    files = tuple(file for one in materials for file in one.files)
    for name, count in Counter(name for name, _ in files).items():
        if count > 1:
            raise InvalidRequest(f"{count} files are called {name[:80]!r}; their names tell them apart", param="files")
    return files


def _plain(value: Any) -> Any:
    """The value of a parameter that we have no use for, in the type that Ollama would keep it in."""
    if isinstance(value, tuple):
        return _plain(value[-1])
    if value in {"true", "false"}:
        return value == "true"
    if _WHOLE.fullmatch(value):
        return int(value)
    return float(value) if _REAL.fullmatch(value) else value
