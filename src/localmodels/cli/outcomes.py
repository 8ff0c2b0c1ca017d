"""What became of an operation on each of several servers. Where one failed, an error names it instead."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping

from msgspec import to_builtins

from localmodels.cli.tables import write_json
from localmodels.cli.words import printable
from localmodels.cli.world import World
from localmodels.core.library import ABSENT, SKIPPED, Outcome


def tell(
    outcomes: Iterable[Outcome], done: str, names: Mapping[str, str], args: argparse.Namespace, world: World
) -> None:
    """Tells it server by server: people in words, programs an object a line.

    Args:
        outcomes: of each server.
        done: what was done where it succeeded: ``deleted 'm'``.
        names: what it was done to, for programs.
        args: with ``json``.
        world: where it is told.
    """
    for one in outcomes:
        if args.json:
            write_json({**names, **to_builtins(one)}, world.out)
        else:
            world.err.write(printable(f"{words(one, done)}\n"))


def words(one: Outcome, done: str) -> str:
    """What became of it on one server."""
    if one.status == ABSENT:
        return f"'{one.server}' has no such model"
    if one.status == SKIPPED:
        return f"'{one.server}' was not asked: {one.failure}"
    return f"{done} on '{one.server}'"
