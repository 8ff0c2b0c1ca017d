"""``localmodels stop MODEL``: unloads it, once its answers are done. Ollama's word for ``models unload``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping

from localmodels.cli import outcomes
from localmodels.cli.connect import connect
from localmodels.cli.flags import host_argument, json_argument, server_argument
from localmodels.cli.tables import write_json
from localmodels.cli.world import World
from localmodels.client._sync_calls import Calls
from localmodels.core.errors import Forbidden
from localmodels.core.library import PartlyDone


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it understands."""
    parser.add_argument("model", metavar="MODEL", help="name, as `localmodels ps` prints it")
    server_argument(parser, "unload it", "where it is, if that is one server")
    host_argument(parser)
    json_argument(parser)


def run(args: argparse.Namespace, world: World) -> int:
    """Unloads it; one that is not loaded is no failure, one that does not exist is."""
    with connect(args, world) as client:
        if args.server:
            return everywhere(client, args, world)
        before = in_memory(client)
        client.unload(args.model)
        idle = before is not None and not meant(args.model, before) and in_memory(client) == before
    if args.json:
        write_json({"model": args.model, "status": "stopped"}, world.out)
    elif idle:
        world.err.write(f"'{args.model}' was not in memory; `localmodels ps` lists what is\n")
    return 0


def everywhere(client: Calls, args: argparse.Namespace, world: World) -> int:
    """The same on the servers that were named."""
    done, names = f"unloaded '{args.model}'", {"model": args.model}
    try:
        outcomes.tell(client.unload(args.model, server=args.server), done, names, args, world)
    except PartlyDone as error:
        return outcomes.failed(error, done, names, args, world)
    return 0


def in_memory(client: Calls) -> Mapping[str, str] | None:
    """How each model in memory is, by its name; None if this caller may not know."""
    try:
        return {row.model.name: row.status for row in client.ps()}
    except Forbidden:
        return None


def meant(name: str, loaded: Iterable[str]) -> bool:
    """May one of these models be asked for by this name, with its tag or without? Of SERVER/MODEL nobody knows here."""
    asked = name.lower()
    return "/" in asked or any(one.lower() == asked or one.lower().startswith(f"{asked}:") for one in loaded)
