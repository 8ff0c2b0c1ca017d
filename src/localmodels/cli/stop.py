"""``localmodels stop MODEL``: unloads it, once its answers are done. Ollama's word for ``models unload``.

The rule: where nothing was unloaded, or not all, that is said, with what would do it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from shlex import quote as quoted

from localmodels.cli import outcomes
from localmodels.cli.connect import connect
from localmodels.cli.elsewhere import hinted
from localmodels.cli.flags import host_argument, json_argument, server_argument
from localmodels.cli.tables import write_json
from localmodels.cli.words import printable
from localmodels.cli.world import World
from localmodels.client._sync_calls import Calls
from localmodels.core.catalog import Running
from localmodels.core.errors import CallerError, Forbidden
from localmodels.core.library import PartlyDone

HERE = ("", "local")  # how `ps` calls the server that is asked: nothing where there is no fleet


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it understands."""
    parser.add_argument("model", metavar="MODEL", help="name, as `localmodels ps` prints it")
    server_argument(parser, "unload it", "on the gateway itself; where it is in memory, if that is one other")
    host_argument(parser)
    json_argument(parser)


def run(args: argparse.Namespace, world: World) -> int:
    """Unloads it; one that is not loaded is no failure, one that does not exist is."""
    with connect(args, world) as client:
        if args.server:
            return everywhere(client, args, world)
        before = in_memory(client)
        try:
            client.unload(args.model)
        except CallerError as error:
            raise hinted(error, "stop", args.model) from error
        if args.json:
            write_json({"model": args.model, "status": "stopped"}, world.out)
        elif before is not None:
            world.err.write(printable(told(args.model, before, in_memory(client) or ())))
    return 0


def told(model: str, before: Sequence[Running], after: Sequence[Running]) -> str:
    """What is to be said of it: that nothing was in memory, where else it was, or still is; else nothing."""
    had, left = holders_of(model, before), holders_of(model, after)
    if not had and "/" not in model and states(before) == states(after):
        return f"'{model}' was not in memory; `localmodels ps` lists what is\n"
    was_here = bool(set(HERE) & set(had))
    others = [server for server in left if server not in HERE]
    if others and (was_here or others == had):
        what = "unloaded here; still in memory on" if was_here else "not in memory here; it is on"
        where = quoted(others[0]) if len(others) == 1 else "'*'"
        return f"{what} {', '.join(others)}: `localmodels stop {quoted(model)} --server {where}` unloads it there\n"
    gone = [server for server in had if server not in left]
    return "" if was_here or not gone else f"unloaded '{model}' on {', '.join(map(repr, gone))}\n"


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


def holders_of(model: str, rows: Iterable[Running]) -> list[str]:
    """The servers that have it in memory, each once."""
    return list(dict.fromkeys(row.server for row in rows if is_meant(model, row.model.name)))


def states(rows: Iterable[Running]) -> Mapping[tuple[str, str], str]:
    """How each is, by where it is and its name."""
    return {(row.server, row.model.name): row.status for row in rows}


def is_meant(asked: str, loaded: str) -> bool:
    """May the model in memory be asked for by this name, with its tag or without?"""
    asked, loaded = asked.lower(), loaded.lower()
    return loaded == asked or loaded.startswith(f"{asked}:")
