"""``localmodels stop MODEL``: unloads it, once its answers are done. Ollama's word for ``models unload``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from shlex import quote as quoted

from localmodels.cli import outcomes
from localmodels.cli.connect import connect
from localmodels.cli.flags import host_argument, json_argument, server_argument
from localmodels.cli.tables import write_json
from localmodels.cli.words import printable
from localmodels.cli.world import World
from localmodels.client._sync_calls import Calls
from localmodels.core.catalog import Running
from localmodels.core.errors import Forbidden
from localmodels.core.library import PartlyDone

HERE = ("", "local")  # how `ps` calls the server that is asked: nothing where there is no fleet


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
        if args.json:
            write_json({"model": args.model, "status": "stopped"}, world.out)
        elif before is not None:
            world.err.write(printable(told(args.model, before, in_memory(client) or ())))
    return 0


def told(model: str, before: Sequence[Running], after: Sequence[Running]) -> str:
    """What is to be said of it: that nothing was in memory, or that it still is on other servers; else nothing."""
    had = [row for row in before if is_meant(model, row.model.name)]
    if not had and "/" not in model and states(before) == states(after):
        return f"'{model}' was not in memory; `localmodels ps` lists what is\n"
    others = dict.fromkeys(row.server for row in after if row.server not in HERE and is_meant(model, row.model.name))
    if not others or not any(row.server in HERE for row in had):
        return ""
    everywhere = f"`localmodels stop {quoted(model)} --server '*'` unloads it there too"
    return f"unloaded here; still in memory on {', '.join(others)}: {everywhere}\n"


def everywhere(client: Calls, args: argparse.Namespace, world: World) -> int:
    """The same on the servers that were named."""
    done, names = f"unloaded '{args.model}'", {"model": args.model}
    try:
        outcomes.tell(client.unload(args.model, server=args.server), done, names, args, world)
    except PartlyDone as error:
        return outcomes.failed(error, done, names, args, world)
    return 0


def in_memory(client: Calls) -> Sequence[Running] | None:
    """The models in memory; None if this caller may not know."""
    try:
        return client.ps()
    except Forbidden:
        return None


def states(rows: Iterable[Running]) -> Mapping[tuple[str, str], str]:
    """How each is, by where it is and its name."""
    return {(row.server, row.model.name): row.status for row in rows}


def is_meant(asked: str, loaded: str) -> bool:
    """May the model in memory be asked for by this name, with its tag or without?"""
    asked, loaded = asked.lower(), loaded.lower()
    return loaded == asked or loaded.startswith(f"{asked}:")
