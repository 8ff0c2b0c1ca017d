"""Shows how far a long operation is: bars for people, lines for pipes and logs, JSON for programs.

It goes to the error stream, as with curl, so that what a verb prints stays clean; only JSON is the verb's own output.
"""

from __future__ import annotations

import argparse
from collections.abc import Generator, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Protocol, TextIO, cast

from localmodels.cli import lazy
from localmodels.cli.tables import write_json
from localmodels.cli.world import World
from localmodels.core.library import Progress, Watcher

Steps = Generator[Progress, None, None]


class Showing(Protocol):
    """What the modules in ``SHOWERS`` have."""

    def shower(self, out: TextIO) -> AbstractContextManager[Watcher]:
        """Gives a function that shows steps on ``out``."""
        ...


# By the answer to: is there a terminal? rich is imported only for one.
SHOWERS: Mapping[bool, str] = {True: "bars", False: "lines"}


def shower(args: argparse.Namespace, world: World) -> AbstractContextManager[Watcher]:
    """Gives a function that shows steps, in the form that was asked for."""
    return _json(world.out) if args.json else people(world)


def people(world: World) -> AbstractContextManager[Watcher]:
    """Gives a function that shows steps to people, whatever a verb prints."""
    return cast("Showing", lazy.module(SHOWERS[world.err.isatty()])).shower(world.err)


def follow(steps: Steps, args: argparse.Namespace, world: World) -> int:
    """Shows the steps until they end; leaving early, by Ctrl-C for instance, tells the server."""
    with closing(steps), shower(args, world) as show:
        for step in steps:
            show(step)
    return 0


@contextmanager
def _json(out: TextIO) -> Iterator[Watcher]:
    def show(step: Progress) -> None:
        write_json(step, out)
        out.flush()

    yield show
