"""``localmodels tasks list|follow|cancel|retry``: uploads, creations and deployments of the server."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import to_builtins

from localmodels.cli import words
from localmodels.cli.connect import reach
from localmodels.cli.flags import action_of, host_argument, json_argument
from localmodels.cli.misuse import Misuse
from localmodels.cli.steps import follow
from localmodels.cli.tables import write_json, write_table
from localmodels.cli.words import printable
from localmodels.cli.world import World
from localmodels.client._sync_task_calls import TaskCalls
from localmodels.core.errors import NotFound
from localmodels.core.moment import rfc3339
from localmodels.core.tasks import ENDED, Task

HEADER = ("ID", "KIND", "MODEL", "STATE", "DONE", "STEP", "BEGUN")
SHORT = 8  # characters of an id: enough to tell apart those that people look at
LEAST = 4
WHOLE = 36  # characters of a UUID
WIDEST = 60  # characters of a step in the list: every row is as wide as the longest


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it understands."""
    parser.add_argument(
        "action",
        metavar="ACTION",
        type=action_of(ACTIONS),
        choices=tuple(ACTIONS),
        nargs="?",
        default="list",
        help="list: all of them (default); follow: tells how far one is, until it ends; cancel: ends one, or forgets "
        "one that has ended; retry: repeats one that did not succeed, from its last whole step",
    )
    parser.add_argument("id", metavar="ID", nargs="?", default="", help="of the task, or how it begins")
    host_argument(parser)
    json_argument(parser)


def run(args: argparse.Namespace, world: World) -> int:
    """Does it."""
    if args.action == "list" and args.id:
        raise Misuse(f"list takes no ID; how far one is: localmodels tasks follow {args.id}")
    if args.action != "list" and len(args.id) < LEAST:
        raise Misuse(f"say which: localmodels tasks {args.action} ID, or its first {LEAST} characters at least")
    with TaskCalls(reach(args, world)) as client:
        return ACTIONS[args.action](client, args, world)


def show(client: TaskCalls, args: argparse.Namespace, world: World) -> int:
    """Lists them, the newest first."""
    tasks = client.tasks()
    if args.json:
        write_json(list(map(fields, tasks)), world.out)
        return 0
    now = world.now()
    rows = [
        (
            task.id[:SHORT],
            task.kind,
            task.subject,
            task.state,
            f"{task.ratio:.0%}",
            step(task),
            words.ago(rfc3339(task.created_at), now),
        )
        for task in tasks
    ]
    write_table(HEADER, rows, world.out)
    return 0


def step(task: Task) -> str:
    """What it does, or why it failed, in one line that fits a table; ``follow`` and ``--json`` tell all."""
    words = " ".join((task.failure.message if task.failure else task.action.removesuffix(".")).split())
    return words if len(words) <= WIDEST else f"{words[: WIDEST - 1].rstrip()}…"


def watch(client: TaskCalls, args: argparse.Namespace, world: World) -> int:
    """Tells how far one is."""
    task = found(client, args.id)
    follow(lambda _: client.follow(task.id), args, world)
    return 0


def cancel(client: TaskCalls, args: argparse.Namespace, world: World) -> int:
    """Ends one, or forgets one that has ended."""
    before = found(client, args.id)
    task = client.cancel_task(before.id)
    if args.json:
        write_json(fields(task), world.out)
        return 0
    what = f"the {task.kind} of '{printable(task.subject)}'"
    done = f"forgot {what}, which had {HAD[task.state]}" if before.state in ENDED else f"{what} {BECAME[task.state]}"
    world.err.write(f"{done}\n")
    return 0


def retry(client: TaskCalls, args: argparse.Namespace, world: World) -> int:
    """Repeats one."""
    task = found(client, args.id)
    follow(lambda _: client.retry_task(task.id), args, world)
    return 0


def fields(task: Task) -> dict[str, Any]:
    """All that is known here; what was asked, the server alone knows."""
    return {name: value for name, value in to_builtins(task).items() if name != "request"}


Action = Callable[[TaskCalls, argparse.Namespace, World], int]
ACTIONS: Mapping[str, Action] = {"list": show, "follow": watch, "cancel": cancel, "retry": retry}

# What is said of one that had ended, and of one that was to be ended: it may have been past its last moment.
HAD: Mapping[str, str] = {
    "succeeded": "succeeded",
    "failed": "failed",
    "cancelled": "been cancelled",
    "interrupted": "been interrupted",
}
BECAME: Mapping[str, str] = {
    "succeeded": "had succeeded before it could be cancelled",
    "failed": "had failed before it could be cancelled",
    "cancelled": "is cancelled",
    "interrupted": "was interrupted by the end of the server",
}


def found(client: TaskCalls, beginning: str) -> Task:
    """The task whose id begins so.

    Raises:
        NotFound: there is none, or more than one.
    """
    if len(beginning) == WHOLE:
        return client.task(beginning.lower())  # which may be older than those that are listed
    tasks = [task for task in client.tasks() if task.id.startswith(beginning.lower())]
    if len(tasks) != 1:
        there = "no task" if not tasks else "more than one task"
        raise NotFound(f"there is {there} whose id begins with '{beginning}'; `localmodels tasks` lists them")
    return tasks[0]
