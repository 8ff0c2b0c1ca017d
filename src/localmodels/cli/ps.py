"""``localmodels ps``: the models in memory."""

from __future__ import annotations

import argparse

from localmodels.cli import words
from localmodels.cli.connect import connect
from localmodels.cli.flags import host_argument, json_argument, server_argument
from localmodels.cli.tables import write_json, write_table
from localmodels.cli.words import complaint
from localmodels.cli.world import World

HEADER = ("NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL")
SPARE = ("ID", "CONTEXT", "SIZE", "PROCESSOR")


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it understands."""
    server_argument(parser, "ask what is in memory", "all of them, as they told last")
    host_argument(parser)
    json_argument(parser)


def run(args: argparse.Namespace, world: World) -> int:
    """Prints them."""
    with connect(args, world) as client:
        running, silent = client.running_on(args.server) if args.server else (client.ps(), ())
    for one in silent:
        world.err.write(complaint(f"the server '{one.server}': {one.failure}"))
    if args.json:
        write_json(running, world.out)
        return int(bool(silent))
    now = world.now()
    rows = [
        (
            row.model.name,
            words.digest(row.model.digest),
            words.known_size(row.size),
            words.processor(row),
            str(row.context_length),
            words.state(row, now),
        )
        for row in running
    ]
    if any(row.server for row in running):
        with_servers = [(*cells, row.server) for cells, row in zip(rows, running, strict=True)]
        write_table((*HEADER, "SERVER"), with_servers, world.out, SPARE)
    else:
        write_table(HEADER, rows, world.out, SPARE)
    return int(bool(silent))
