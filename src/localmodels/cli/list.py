"""``localmodels list``: the models that can be asked."""

from __future__ import annotations

import argparse

from localmodels.cli import words
from localmodels.cli.connect import connect
from localmodels.cli.flags import host_argument, json_argument
from localmodels.cli.tables import write_json, write_table
from localmodels.cli.world import World
from localmodels.core.catalog import Model

HEADER = ("NAME", "ID", "SIZE", "MODIFIED")
SPARE = ("MODIFIED", "ID", "SIZE")


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it understands."""
    parser.add_argument("prefix", nargs="?", default="", metavar="PREFIX", help="only names that begin so")
    host_argument(parser)
    json_argument(parser)


def run(args: argparse.Namespace, world: World) -> int:
    """Prints them, as the server orders them."""
    with connect(args, world) as client:
        models = [model for model in client.list() if model.name.lower().startswith(args.prefix.lower())]
    if args.json:
        write_json(models, world.out)
        return 0
    now = world.now()
    rows = [
        (model.name, words.digest(model.digest), words.known_size(model.size), words.ago(model.modified_at, now))
        for model in models
    ]
    if any(model.servers for model in models):
        with_servers = [(*cells, where(model)) for cells, model in zip(rows, models, strict=True)]
        write_table((*HEADER, "SERVERS"), with_servers, world.out, SPARE)
    else:
        write_table(HEADER, rows, world.out, SPARE)
    return 0


def where(model: Model) -> str:
    """Which servers of a fleet have it, each with its digest where they differ."""
    return ", ".join(
        f"{server} ({model.digests[server][:12]})" if server in model.digests else server for server in model.servers
    )
