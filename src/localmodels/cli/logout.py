"""``localmodels logout [REGISTRY]``: forgets the login of a registry."""

from __future__ import annotations

import argparse

from localmodels.cli.flags import home_argument, home_config, json_argument
from localmodels.cli.registries import place_of, registry_argument
from localmodels.cli.tables import write_json
from localmodels.cli.world import World
from localmodels.registry.credentials import FileCredentials


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it understands."""
    registry_argument(parser)
    home_argument(parser)
    json_argument(parser)


def run(args: argparse.Namespace, world: World) -> int:
    """Forgets it; none that was kept is no failure."""
    config = home_config(args, world)
    kept = FileCredentials(config.home)
    # One that was logged in to by plain HTTP is meant too where that is not said.
    both = [place_of(args.registry, config, insecure=plain).origin for plain in (args.insecure, True)]
    there = next((origin for origin in both if kept.remove(origin)), None)
    origin = there or both[0]
    if args.json:
        write_json({"registry": str(origin), "status": "logged out" if there else "was not logged in"}, world.out)
    else:
        world.err.write(f"logged out of {origin}\n" if there else f"there was no login of {origin}\n")
    return 0
