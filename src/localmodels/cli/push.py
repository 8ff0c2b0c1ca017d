"""``localmodels push MODEL``: sends a model to its registry."""

from __future__ import annotations

import argparse

from localmodels.cli.connect import connect
from localmodels.cli.elsewhere import hinted
from localmodels.cli.flags import host_argument, json_argument, one_server_argument
from localmodels.cli.progress import follow
from localmodels.cli.world import World
from localmodels.core.errors import LocalModelsError


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it understands."""
    parser.add_argument(
        "model", metavar="MODEL", help="name with its registry or namespace, such as HOST/NAMESPACE/NAME:TAG"
    )
    parser.add_argument("--insecure", action="store_true", help="allow plain HTTP to this registry")
    one_server_argument(parser, "send the one", "the gateway itself")
    host_argument(parser)
    json_argument(parser)


def run(args: argparse.Namespace, world: World) -> int:
    """Sends it, showing how far it is; blobs that the registry has are not sent again."""
    with connect(args, world) as client:
        try:
            return follow(client.push(args.model, insecure=args.insecure, server=args.server), args, world)
        except LocalModelsError as error:
            flags = ("--insecure",) if args.insecure else ()
            raise hinted(error, "push", args.model, *flags, alone=True) from error
