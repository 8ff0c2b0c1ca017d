"""What became of an operation on each of several servers, told whether all of them did it or not.

The rule: what is done is told also where something failed, and so is how the rest is done: who is done already is done
again without harm.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from shlex import quote as quoted

from msgspec import to_builtins

from localmodels.cli.tables import write_json, write_table
from localmodels.cli.words import complaint, printable
from localmodels.cli.world import World
from localmodels.core.library import ABSENT, FAILED, SKIPPED, SUCCESS, Outcome, PartlyDone

HEADER = ("SERVER", "WHAT BECAME OF IT", "WHY")
BARE = 2  # columns, where there is nothing to explain
LOCAL = "local"
FATES: Mapping[str, str] = {ABSENT: "no such model", SKIPPED: "not asked", FAILED: "failed"}


def tell(
    outcomes: Sequence[Outcome], done: str, names: Mapping[str, str], args: argparse.Namespace, world: World
) -> None:
    """Tells it server by server: people in words, programs an object a line.

    Args:
        outcomes: of each server.
        done: what was done where it succeeded: ``deleted 'm'``.
        names: what it was done to, for programs.
        args: with ``json``.
        world: where it is told.
    """
    if args.json:
        for one in outcomes:
            write_json({**names, **to_builtins(one)}, world.out)
    elif len(outcomes) == 1:
        world.err.write(printable(f"{words(outcomes[0], done)}\n"))
    else:
        show(outcomes, done, world)


def show(outcomes: Sequence[Outcome], done: str, world: World) -> None:
    """The same as a table, for people, with why a server did not do it where one did not."""
    reasons = any(one.failure for one in outcomes)
    _table(HEADER if reasons else HEADER[:BARE], outcomes, done, world)


def _table(header: Sequence[str], outcomes: Sequence[Outcome], done: str, world: World) -> None:
    """Our own machine first, as in every list of servers."""
    fates = {SUCCESS: done, **FATES}
    rows = [
        (one.server, fates.get(one.status, one.status), " ".join(one.failure.split()))
        for one in sorted(outcomes, key=lambda one: one.server != LOCAL)
    ]
    write_table(header, [row[: len(header)] for row in rows], world.err)


def words(one: Outcome, done: str) -> str:
    """What became of it on one server."""
    if one.status == ABSENT:
        return f"'{one.server}' has no such model"
    if one.status == SKIPPED:
        return f"'{one.server}' was not asked: {one.failure}"
    return f"{done} on '{one.server}'"


def failed(error: PartlyDone, done: str, names: Mapping[str, str], args: argparse.Namespace, world: World) -> int:
    """Tells what became of it where some have failed, and how it is repeated; the exit code."""
    tell(error.outcomes, done, names, args, world)
    world.err.write(complaint(again(error.outcomes)))
    return 1


def followed(error: PartlyDone, done: str, args: argparse.Namespace, world: World) -> int:
    """The same of what was followed step by step: programs have read every row by now, and people every reason."""
    if not args.json:
        ordered = sorted(error.outcomes, key=lambda one: one.server)  # not by who ended first
        _table(HEADER[:BARE], ordered, done, world)
    world.err.write(complaint(again(error.outcomes)))
    return 1


def again(outcomes: Sequence[Outcome]) -> str:
    """That some have failed, and how it is repeated.

    >>> again([Outcome("a", "success"), Outcome("b", "error", "no room")])
    '1 of 2 servers failed; repeat it as it is (what is done stays done), or with --server b alone'
    """
    lost = [one.server for one in outcomes if one.status == FAILED]
    if len(lost) == len(outcomes):
        return f"all {len(lost)} servers failed; it can be repeated as it is"
    flags = " ".join(f"--server {quoted(server)}" for server in lost)
    counts = f"{len(lost)} of {len(outcomes)} servers failed"
    return f"{counts}; repeat it as it is (what is done stays done), or with {flags} alone"
