"""``localmodels deploy PATH NAME``: a folder of fine-tuned weights becomes a model that answers.

The rule: what exists is a path, anything else the name of an artifact; what nobody would call an artifact is a missing
file, and is said so before the server is asked.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from localmodels.artifacts.model_files import is_safetensors
from localmodels.artifacts.quantize import read_file_type
from localmodels.cli import outcomes
from localmodels.cli.connect import reach
from localmodels.cli.flags import host_argument, json_argument, server_argument
from localmodels.cli.materials import expanded
from localmodels.cli.misuse import Misuse
from localmodels.cli.steps import Events, follow
from localmodels.cli.words import printable
from localmodels.cli.world import World
from localmodels.client._sync_task_calls import TaskCalls
from localmodels.client.parcels import Contents, contents, placed
from localmodels.core.artifact_names import ARCHIVES, GGUF, checked_name
from localmodels.core.catalog import ModelName
from localmodels.core.deploys import Deployment
from localmodels.core.errors import InvalidRequest
from localmodels.core.library import EVERY, CreateRequest, PartlyDone, Watcher
from localmodels.core.options import OPTIONS
from localmodels.dialects.ollama.library import read_parameters
from localmodels.dialects.strict_json import parsed

SOME = 5  # names that are left out, told one by one


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it understands."""
    parser.add_argument(
        "path",
        metavar="PATH",
        help="folder that a training left, .zip, .tar, .tar.gz, .tar.zst or .gguf; or the name of an artifact that was "
        "uploaded before",
    )
    parser.add_argument("model", metavar="NAME", help="name that the model gets")
    parser.add_argument("-q", "--quantize", metavar="TYPE", default="", help="type of the weights: Q4_K_M, Q8_0, F16 …")
    parser.add_argument("--base", metavar="MODEL", default="", help="for an adapter: the model or artifact it is for")
    server_argument(parser, "make it")
    parser.add_argument("--system", metavar="TEXT", help="system prompt")
    parser.add_argument("--template", metavar="FILE", help="file with a prompt template, instead of the folder's")
    parser.add_argument(
        "-p", "--parameter", metavar="NAME=VALUE", action="append", help="default of a parameter; repeatable"
    )
    parser.add_argument(
        "--uploaded", action="store_true", help="PATH is the name of an artifact, also if there is a file of that name"
    )
    host_argument(parser)
    json_argument(parser)


def run(args: argparse.Namespace, world: World) -> int:
    """Uploads, converts, verifies and publishes it, showing how far it is."""
    wanted = wanted_of(args)
    path = None if args.uploaded else found(args.path)
    if path is None:
        checked_name(args.path)
    elif path.is_dir() and not args.json:
        tell_left_out(contents(path), world)
    with TaskCalls(reach(args, world)) as client:
        if path is None:
            require_artifact(client, args)
        try:
            follow(lambda show: begun(client, path, wanted, show), args, world)
        except PartlyDone as error:
            return outcomes.followed(error, f"made '{args.model}'", args, world)
    if not args.json:
        world.err.write(ready(args.model, args.server))
    return 0


def ready(model: str, servers: Sequence[str]) -> str:
    """The last line: what to ask for now. A name that several servers have is asked for without theirs."""
    name = f"{servers[0]}/{model}" if len(servers) == 1 and EVERY not in servers else model
    return f"'{name}' is ready; try: localmodels run {name}\n"


def begun(client: TaskCalls, path: Path | None, wanted: Deployment, show: Watcher) -> Events:
    """The task: an upload and a creation, or the creation alone of an artifact that is there."""
    return client.create_from_artifact(wanted) if path is None else client.deploy(path, wanted, show)


def found(text: str) -> Path | None:
    """The file or folder that is meant; None if it is the name of an artifact.

    Raises:
        InvalidRequest: it is a path, and there is nothing, or too little.
    """
    path = expanded(text)
    if path.is_file() and is_safetensors(path.name):
        what = f"the configuration and the tokenizer go with them: give their folder, {str(placed(path).parent)!r}"
        raise InvalidRequest(f"{text!r} are weights alone; {what}")
    if path.exists():
        return path
    if "/" in text or text.startswith((".", "~")) or text.lower().endswith((*ARCHIVES, GGUF)):
        raise InvalidRequest(f"there is no file or folder {text!r}")
    return None


def require_artifact(client: TaskCalls, args: argparse.Namespace) -> None:
    """Looks for the artifact before a task is begun that would fail without it.

    Raises:
        InvalidRequest: there is none of this name.
    """
    if args.path not in {one.name for one in client.artifacts()}:
        nothing = "there is no" if args.uploaded else f"there is no file or folder {args.path!r}, and no"
        name = f"{args.path!r}" if args.uploaded else "of that name"
        raise InvalidRequest(f"{nothing} artifact {name}; `localmodels artifacts` lists them")


def wanted_of(args: argparse.Namespace) -> Deployment:
    """What is asked of the server.

    Raises:
        InvalidRequest, InvalidValue: an argument that cannot be what it should be.
    """
    ModelName.parse(args.model)
    if args.quantize:
        read_file_type(args.quantize)
    create = CreateRequest(
        model=args.model,
        artifact=args.path,
        base=args.base,
        quantize=args.quantize,
        system=args.system,
        template=template_of(args.template),
        parameters=read_parameters(parameters_of(args.parameter or ()), "--parameter "),
    )
    return Deployment(create, ",".join(args.server))


def template_of(file: str | None) -> str | None:
    """The text of a template.

    Raises:
        InvalidRequest: the file cannot be read.
    """
    try:
        return None if file is None else expanded(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{file}: cannot be read as a text: {error}") from error


def parameters_of(given: Iterable[str]) -> dict[str, Any]:
    """What ``NAME=VALUE`` say; texts to stop at are collected, of anything else the last one counts.

    Raises:
        Misuse: there is no ``=``.
    """
    values: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise Misuse(f"--parameter is NAME=VALUE, such as temperature=0.2, not {text!r}")
        option = OPTIONS.get(name)
        if option is not None and option.kind == "strings":
            values[name] = [*values.get(name, []), value]
        else:
            values[name] = scalar(value)
    return values


def scalar(text: str) -> object:
    """A number or switch where it is one."""
    try:
        value: object = parsed(text)
    except ValueError:
        return text
    return value if isinstance(value, bool | int | float) else text


def tell_left_out(inside: Contents, world: World) -> None:
    """Says which files and folders of a folder stay here."""
    names = left_out(inside)
    if names:
        some = ", ".join(names[:SOME]) + (f" and {len(names) - SOME} more" if len(names) > SOME else "")
        them = "it" if len(names) == 1 else "them"
        world.err.write(f"not sent, since no model needs {them}: {printable(some)}\n")


def left_out(inside: Contents) -> list[str]:
    """What stays, folders first; of a folder from which nothing is sent its name alone, with a slash."""
    sent = {file.name.partition("/")[0] for file in inside.files}
    tops = (name if name.partition("/")[0] in sent else _top(name) for name in inside.left_out)
    return sorted(dict.fromkeys(tops), key=lambda name: (not name.endswith("/"), name))


def _top(name: str) -> str:
    first, slash, _ = name.partition("/")
    return f"{first}{slash}"
