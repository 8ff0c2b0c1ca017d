"""``localmodels cp SOURCE DESTINATION``: a second name for a model."""

from __future__ import annotations

import argparse

from localmodels.cli.connect import connect
from localmodels.cli.flags import host_argument, json_argument, server_argument
from localmodels.cli.outcomes import tell
from localmodels.cli.tables import write_json
from localmodels.cli.world import World


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it understands."""
    parser.add_argument("source", metavar="SOURCE", help="name of the model")
    parser.add_argument("destination", metavar="DESTINATION", help="its other name")
    server_argument(parser, "do it")
    host_argument(parser)
    json_argument(parser)


def run(args: argparse.Namespace, world: World) -> int:
    """Copies the name; the weights are shared."""
    with connect(args, world) as client:
        outcomes = client.copy(args.source, args.destination, server=args.server)
    if outcomes:
        names = {"source": args.source, "destination": args.destination}
        tell(outcomes, f"copied '{args.source}' to '{args.destination}'", names, args, world)
    elif args.json:
        write_json({"source": args.source, "destination": args.destination, "status": "copied"}, world.out)
    else:
        world.err.write(f"copied '{args.source}' to '{args.destination}'\n")
    return 0
