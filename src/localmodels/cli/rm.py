"""``localmodels rm MODEL…``: takes names away, and with a model's last name the model."""

from __future__ import annotations

import argparse

from localmodels.cli import outcomes
from localmodels.cli.connect import connect
from localmodels.cli.flags import host_argument, json_argument, server_argument
from localmodels.cli.tables import write_json
from localmodels.cli.words import complaint
from localmodels.cli.world import World
from localmodels.core.errors import LocalModelsError, ModelNotFound
from localmodels.core.library import PartlyDone

# A pull that was broken off has no name yet, and keeps what came for the next one.
UNFINISHED = "; what an unfinished pull has brought is removed by `localmodels store gc --partial`"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it understands."""
    parser.add_argument("models", metavar="MODEL", nargs="+", help="names, as `localmodels list` prints them")
    server_argument(parser, "delete them")
    host_argument(parser)
    json_argument(parser)


def run(args: argparse.Namespace, world: World) -> int:
    """Deletes one after the other; one that cannot be deleted does not keep the others."""
    failed = False
    with connect(args, world) as client:
        for model in args.models:
            try:
                told = client.delete(model, server=args.server)
            except PartlyDone as error:
                failed = True
                outcomes.failed(error, f"deleted '{model}'", {"model": model}, args, world)
                continue
            except LocalModelsError as error:
                failed = True
                world.err.write(complaint(f"{error}{UNFINISHED}" if isinstance(error, ModelNotFound) else error))
                continue
            if told:
                outcomes.tell(told, f"deleted '{model}'", {"model": model}, args, world)
            elif args.json:
                write_json({"model": model, "status": "deleted"}, world.out)
            else:
                world.err.write(f"deleted '{model}'\n")
    return int(failed)
