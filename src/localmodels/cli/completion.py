"""``localmodels completion SHELL``: a script with which a shell completes verbs, options and names of models."""

from __future__ import annotations

import argparse

from localmodels.cli.completable import verbs
from localmodels.cli.flags import json_argument
from localmodels.cli.shells import SHELLS
from localmodels.cli.tables import write_json
from localmodels.cli.world import World


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it understands."""
    parser.add_argument("shell", metavar="SHELL", choices=tuple(SHELLS), help=f"one of {', '.join(SHELLS)}")
    json_argument(parser)


def run(args: argparse.Namespace, world: World) -> int:
    """Prints it."""
    script = SHELLS[args.shell](verbs())
    if args.json:
        write_json({"shell": args.shell, "script": script}, world.out)
    else:
        world.out.write(script)
    return 0
