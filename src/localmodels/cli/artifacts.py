"""``localmodels artifacts list|upload|rm``: what was uploaded to become models."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from functools import partial

from localmodels.cli import words
from localmodels.cli.connect import reach
from localmodels.cli.flags import action_of, host_argument, json_argument
from localmodels.cli.materials import expanded
from localmodels.cli.misuse import Misuse
from localmodels.cli.steps import follow
from localmodels.cli.tables import write_json, write_table
from localmodels.cli.words import complaint, printable
from localmodels.cli.world import World
from localmodels.client._sync_task_calls import TaskCalls
from localmodels.core.errors import InvalidRequest, LocalModelsError
from localmodels.core.moment import rfc3339

HEADER = ("NAME", "KIND", "ARCHITECTURE", "TYPE", "SIZE", "BASE", "UPLOADED")


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it understands."""
    parser.add_argument(
        "action",
        metavar="ACTION",
        type=action_of(ACTIONS),
        choices=tuple(ACTIONS),
        nargs="?",
        default="list",
        help="list: all of them (default), or those whose names begin so; upload: folders, archives or GGUF files; "
        "rm: takes some away, models that were made of them stay",
    )
    parser.add_argument("names", metavar="PATH", nargs="*", help="upload: what; rm: names, as list prints them")
    host_argument(parser)
    json_argument(parser)


def run(args: argparse.Namespace, world: World) -> int:
    """Does it."""
    if args.action != "list" and not args.names:
        raise Misuse(f"say which: localmodels artifacts {args.action} {NEEDS[args.action]}")
    if args.action == "upload":
        for name in args.names:
            if not expanded(name).exists():
                raise InvalidRequest(f"there is no file or folder {name!r}")
    with TaskCalls(reach(args, world)) as client:
        return ACTIONS[args.action](client, args, world)


def show(client: TaskCalls, args: argparse.Namespace, world: World) -> int:
    """Lists them, the newest first."""
    found = [one for one in client.artifacts() if not args.names or one.name.startswith(tuple(args.names))]
    if args.json:
        write_json(found, world.out)
        return 0
    now = world.now()
    rows = [
        (
            one.name,
            one.kind,
            one.architecture,
            one.dtype,
            words.size(one.size),
            one.base,
            words.ago(rfc3339(one.created_at), now),
        )
        for one in found
    ]
    write_table(HEADER, rows, world.out)
    return 0


def upload(client: TaskCalls, args: argparse.Namespace, world: World) -> int:
    """Uploads one after the other."""
    for name in args.names:
        last = follow(partial(client.upload_artifact, expanded(name)), args, world)
        if last is not None and not args.json:
            made = printable(str(last.details.get("artifact", name)))
            world.err.write(f"'{made}' is uploaded; make a model of it: localmodels deploy --uploaded {made} NAME\n")
    return 0


def remove(client: TaskCalls, args: argparse.Namespace, world: World) -> int:
    """Takes one after the other away; one that cannot be does not keep the others."""
    failed = False
    for name in args.names:
        try:
            client.run_task(client.delete_artifact(name))
        except LocalModelsError as error:
            failed = True
            world.err.write(complaint(error))
            continue
        if args.json:
            write_json({"artifact": name, "status": "deleted"}, world.out)
        else:
            world.err.write(f"deleted '{name}'\n")
    return int(failed)


Action = Callable[[TaskCalls, argparse.Namespace, World], int]
ACTIONS: Mapping[str, Action] = {"list": show, "upload": upload, "rm": remove}
NEEDS: Mapping[str, str] = {"upload": "PATH", "rm": "NAME"}
