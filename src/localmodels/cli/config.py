"""``localmodels config``: every setting, its value and where it came from."""

from __future__ import annotations

import argparse

from localmodels.cli.flags import add_flags, given, json_argument
from localmodels.cli.tables import write_json, write_table
from localmodels.cli.world import World
from localmodels.config import SETTINGS, load

HEADER = ("OPTION", "VALUE", "WHERE FROM")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``serve``, to see what they would change."""
    add_flags(parser)
    json_argument(parser)


def run(args: argparse.Namespace, world: World) -> int:
    """Prints them in the order of the table, and on stderr what has no effect."""
    settings = load(given(args), world.environ)
    for note in settings.notes:
        world.err.write(f"Note: {note}\n")
    values = [(name, settings.text(name), settings.origins[name]) for name in SETTINGS]
    if args.json:
        write_json([{"option": name, "value": value, "origin": origin} for name, value, origin in values], world.out)
        return 0
    rows = [(name, value if isinstance(value, str) else ", ".join(value), origin) for name, value, origin in values]
    write_table(HEADER, rows, world.out)
    return 0
