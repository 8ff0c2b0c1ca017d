"""``localmodels ps``: the models in memory."""

from __future__ import annotations

import argparse

from localmodels.cli import words
from localmodels.cli.connect import connect
from localmodels.cli.flags import host_argument, json_argument
from localmodels.cli.tables import write_json, write_table
from localmodels.cli.world import World

HEADER = ("NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL")


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it understands."""
    host_argument(parser)
    json_argument(parser)


def run(args: argparse.Namespace, world: World) -> int:
    """Prints them."""
    with connect(args, world) as client:
        running = client.ps()
    if args.json:
        write_json(running, world.out)
        return 0
    now = world.now()
    rows = [
        (
            row.model.name,
            row.model.digest[:12],
            words.size(row.size),
            words.processor(row),
            str(row.context_length),
            words.state(row, now),
        )
        for row in running
    ]
    write_table(HEADER, rows, world.out)
    return 0
