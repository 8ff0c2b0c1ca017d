"""``localmodels version``: this program's and, where one answers, the server's."""

from __future__ import annotations

import argparse

import localmodels
from localmodels.cli.connect import find
from localmodels.cli.flags import host_argument, json_argument
from localmodels.cli.tables import write_json
from localmodels.cli.words import printable
from localmodels.cli.world import World
from localmodels.core.errors import LocalModelsError


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it understands."""
    host_argument(parser)
    json_argument(parser)


def run(args: argparse.Namespace, world: World) -> int:
    """Prints them; no server is no failure."""
    server = server_version(args.host, world)
    if args.json:
        write_json({"version": localmodels.__version__, "server": server}, world.out)
        return 0
    world.out.write(f"localmodels {localmodels.__version__}\n")
    world.out.write(f"server {printable(server)}\n" if server else "no server answers\n")
    return 0


def server_version(host: str | None, world: World) -> str | None:
    """The server's version; None when none answers."""
    client = find(host, world)
    if client is None:
        return None
    with client:
        try:
            return client.version()
        except LocalModelsError:  # there is none, or it is something else
            return None
