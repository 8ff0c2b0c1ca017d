"""``localmodels cp SOURCE DESTINATION``: a second name for a model."""

from __future__ import annotations

import argparse

from localmodels.cli import outcomes
from localmodels.cli.connect import connect
from localmodels.cli.elsewhere import hinted
from localmodels.cli.flags import host_argument, json_argument, server_argument
from localmodels.cli.tables import write_json
from localmodels.cli.world import World
from localmodels.core.errors import Conflict
from localmodels.core.library import PartlyDone


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it understands."""
    parser.add_argument("source", metavar="SOURCE", help="name of the model")
    parser.add_argument("destination", metavar="DESTINATION", help="its other name")
    server_argument(parser, "do it")
    host_argument(parser)
    json_argument(parser)


def run(args: argparse.Namespace, world: World) -> int:
    """Copies the name; the weights are shared."""
    done = f"copied '{args.source}' to '{args.destination}'"
    names = {"source": args.source, "destination": args.destination}
    try:
        with connect(args, world) as client:
            told = client.copy(args.source, args.destination, server=args.server)
    except Conflict as error:
        raise hinted(error, "cp", args.source, args.destination) from error
    except PartlyDone as error:
        return outcomes.failed(error, done, names, args, world)
    if told:
        outcomes.tell(told, done, names, args, world)
    elif args.json:
        write_json({**names, "status": "copied"}, world.out)
    else:
        world.err.write(f"{done}\n")
    return 0
