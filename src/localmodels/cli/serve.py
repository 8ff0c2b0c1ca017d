"""``localmodels serve``: answers requests until it is stopped."""

from __future__ import annotations

import argparse
from functools import partial

from localmodels.cli.flags import add_flags, given, json_argument
from localmodels.cli.world import World
from localmodels.config import load
from localmodels.server.system import serve


def arguments(parser: argparse.ArgumentParser) -> None:
    """Every setting is a flag."""
    add_flags(parser)
    json_argument(parser)


def run(args: argparse.Namespace, world: World) -> int:
    """Serves; the exit code is the server's."""
    settings = partial(load, given(args), world.environ)
    return serve(settings, world.environ, out=world.out, as_json=args.json, terminal=world.stdin.isatty())
