"""``localmodels stop MODEL``: out of memory with it, once its answers are done."""

from __future__ import annotations

import argparse

from localmodels.cli.connect import connect
from localmodels.cli.flags import host_argument, json_argument
from localmodels.cli.tables import write_json
from localmodels.cli.world import World


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it understands."""
    parser.add_argument("model", metavar="MODEL", help="name, as `localmodels ps` prints it")
    host_argument(parser)
    json_argument(parser)


def run(args: argparse.Namespace, world: World) -> int:
    """Unloads it; one that is not loaded is no failure, one that does not exist is."""
    with connect(args, world) as client:
        client.unload(args.model)
    if args.json:
        write_json({"model": args.model, "status": "stopped"}, world.out)
    return 0
