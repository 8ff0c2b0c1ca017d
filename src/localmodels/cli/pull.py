"""``localmodels pull MODEL``: fetches a model from its registry."""

from __future__ import annotations

import argparse

from localmodels.cli import outcomes
from localmodels.cli.connect import connect
from localmodels.cli.flags import host_argument, json_argument, server_argument
from localmodels.cli.progress import follow
from localmodels.cli.world import World
from localmodels.core.library import PartlyDone


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it understands."""
    parser.add_argument(
        "model", metavar="MODEL", help="name, such as qwen3:0.6b, hf.co/OWNER/REPO:QUANT or HOST/NAMESPACE/NAME:TAG"
    )
    parser.add_argument("--insecure", action="store_true", help="allow plain HTTP to this registry")
    server_argument(parser, "fetch it")
    host_argument(parser)
    json_argument(parser)


def run(args: argparse.Namespace, world: World) -> int:
    """Fetches it, showing how far it is; what came stays when it is broken off, and the next pull goes on with it."""
    with connect(args, world) as client:
        try:
            return follow(client.pull(args.model, insecure=args.insecure, server=args.server), args, world)
        except PartlyDone as error:
            return outcomes.followed(error, f"pulled '{args.model}'", args, world)
