"""Shows how far a long operation is: bars for people, lines for pipes and logs, JSON for programs.

It goes to the error stream, as with curl, so that what a verb prints stays clean; only JSON is the verb's own output.
"""

from __future__ import annotations

import argparse
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from typing import Protocol, TextIO, cast

from localmodels.cli import lazy
from localmodels.cli.tables import write_json
from localmodels.cli.world import World
from localmodels.core.library import Progress

Steps = Generator[Progress, None, None]


class Shower(Protocol):
    """What the modules in ``SHOWERS`` have."""

    def show(self, steps: Iterator[Progress], out: TextIO) -> None:
        """Shows the steps until they end."""
        ...


# By the answer to: is there a terminal? rich is imported only for one.
SHOWERS: Mapping[bool, str] = {True: "bars", False: "lines"}


def follow(steps: Steps, args: argparse.Namespace, world: World) -> int:
    """Shows the steps until they end; leaving early, by Ctrl-C for instance, tells the server."""
    with closing(steps):
        if args.json:
            for step in steps:
                write_json(step, world.out)
                world.out.flush()
        else:
            cast("Shower", lazy.module(SHOWERS[world.err.isatty()])).show(steps, world.err)
    return 0
