"""``localmodels create MODEL``: makes a model by a Modelfile. Files that it names are uploaded.

The rule: all that the Modelfile says is looked at before the first byte is sent; what the server has is not sent again.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

from msgspec.structs import replace

from localmodels.artifacts.modelfile import Command
from localmodels.artifacts.quantize import read_file_type
from localmodels.artifacts.recipe import Material, Recipe, create_request, read_recipe
from localmodels.cli import materials, outcomes
from localmodels.cli.connect import connect
from localmodels.cli.flags import host_argument, json_argument, server_argument
from localmodels.cli.materials import Found, Local
from localmodels.cli.progress import shower
from localmodels.cli.world import World
from localmodels.core.catalog import ModelName
from localmodels.core.errors import InvalidRequest
from localmodels.core.library import CreateRequest, PartlyDone


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it understands."""
    parser.add_argument("model", metavar="MODEL", help="name of the model that is made")
    parser.add_argument(
        "-f", "--file", metavar="FILE", default="Modelfile", help="the Modelfile, or - to read it from a pipe"
    )
    parser.add_argument(
        "-q", "--quantize", metavar="TYPE", default="", help="quantize F32, F16 or BF16 weights to this type: Q4_K_M …"
    )
    server_argument(parser, "make it")
    host_argument(parser)
    json_argument(parser)


def run(args: argparse.Namespace, world: World) -> int:
    """Makes it, showing how far it is."""
    ModelName.parse(args.model)
    if args.quantize:
        read_file_type(args.quantize)
    source, folder = read(args.file, world)
    recipe = read_recipe(source)
    found = {line: materials.find(line, folder) for line in (*recipe.models, *recipe.adapters)}
    request(args, recipe, {line: material(one, lambda file: "") for line, one in found.items()})
    for line, one in found.items():
        if isinstance(one, Local) and one.left:
            print(f"{line.value}: not sent, since they are programs or pickles: {', '.join(one.left)}", file=world.err)
    try:
        with connect(args, world) as client, shower(args, world) as show:
            known = {line: material(one, lambda file: client.upload(file, show)) for line, one in found.items()}
            client.finish(client.create(request(args, recipe, known)), show)
    except PartlyDone as error:
        return outcomes.followed(error, f"made '{args.model}'", args, world)
    return 0


def read(file: str, world: World) -> tuple[bytes | str, Path]:
    """A Modelfile, and the folder that its paths start from.

    Raises:
        InvalidRequest: it cannot be read.
    """
    if file == "-":
        return world.stdin.read(), Path.cwd()
    path = materials.expanded(file)
    try:
        return path.read_bytes(), path.absolute().parent
    except OSError as error:
        raise InvalidRequest(f"{path}: {error.strerror}; name a Modelfile with -f") from error


def material(found: Found, digest: Callable[[Path], str]) -> Material:
    """What a line stands for, its files by their digests."""
    if isinstance(found, Material):
        return found
    return Material(files=tuple((name, digest(path)) for name, path in found.files.items()))


def request(args: argparse.Namespace, recipe: Recipe, known: Mapping[Command, Material]) -> CreateRequest:
    """What is asked of the server.

    Raises:
        InvalidRequest: the lines do not go together.
    """
    request = create_request(args.model, recipe, known.__getitem__)
    return replace(request, quantize=args.quantize, servers=tuple(args.server))
