"""``localmodels models list|set|unload|forget``: the models of a fleet, each on its server.

A model goes by its name where one server alone has it, by ``SERVER/MODEL``, by its name and ``--server``, or by its id.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct, to_builtins

from localmodels.cli import words
from localmodels.cli.connect import reach
from localmodels.cli.flags import action_of, host_argument, json_argument, server_argument
from localmodels.cli.misuse import Misuse
from localmodels.cli.server_flags import listed
from localmodels.cli.tables import write_json, write_table
from localmodels.cli.watching import shown, watch_argument
from localmodels.cli.words import complaint, printable
from localmodels.cli.world import World
from localmodels.client._sync_fleet_calls import FleetCalls
from localmodels.client.roster import meant
from localmodels.core.errors import InvalidRequest, LocalModelsError, NotFound
from localmodels.core.fleet import ModelChange
from localmodels.core.library import EVERY
from localmodels.dialects.servers import ShownModel, ShownServer

HEADER = ("NAME", "SERVER", "STATE", "IN MEMORY", "SIZE", "CONTEXT", "PRIORITY", "CAPABILITIES", "DIGEST")
SPARE = ("PRIORITY", "CONTEXT", "DIGEST", "CAPABILITIES", "SIZE", "IN MEMORY")
IN_MEMORY = {True: "yes", False: "no", None: "?"}
DIGITS = slice(7, 19)  # of a digest
LATEST = ":latest"


class Copy(Struct, frozen=True):
    """A model on a server."""

    server: ShownServer
    model: ShownModel

    @property
    def name(self) -> str:
        """By which it can be asked for, there alone."""
        return f"{self.server.prefix}/{self.model.model}"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it understands."""
    parser.add_argument(
        "action",
        metavar="ACTION",
        type=action_of(ACTIONS),
        choices=tuple(ACTIONS),
        nargs="?",
        default="list",
        help="list: all of them (default), or those whose names begin so, SERVER/ for those of a server; set: change "
        "what is said of one; unload: take one out of memory, as stop does; forget: take one off the list that its "
        "server has no more",
    )
    parser.add_argument(
        "model", metavar="MODEL", nargs="?", default="", help="its name, SERVER/MODEL, or its id, as list prints them"
    )
    server_argument(parser, "only those", "on every one")
    parser.add_argument("--active", action="store_true", default=None, help="set: it may be asked")
    parser.add_argument("--inactive", dest="active", action="store_false", help="set: it is kept, and not asked")
    parser.add_argument("--priority", metavar="N", type=int, help="set: this copy before others of the same model")
    parser.add_argument(
        "--capability",
        metavar="WORD",
        action="append",
        help="set: what it can do, in place of what its server tells; repeatable, an empty word gives that back",
    )
    parser.add_argument("--rename", metavar="NAME", help="set: its name for people")
    parser.add_argument("--from-gpu", action="store_true", help="unload: off the graphics cards; tells what that frees")
    parser.add_argument(
        "--keep-on-cpu", action="store_true", help="unload: the same, and go on with it on the processor"
    )
    watch_argument(parser)
    host_argument(parser)
    json_argument(parser)


def run(args: argparse.Namespace, world: World) -> int:
    """Does it."""
    if args.action != "list" and not args.model:
        raise Misuse(f"say which: localmodels models {args.action} MODEL")
    if args.watch and args.action != "list":
        raise Misuse("--watch goes with list alone")
    if args.action == "set" and not given(args):
        what = "--priority 10 or --inactive; `localmodels models --help` lists all"
        raise Misuse(f"say what shall be another, such as {what}")
    with FleetCalls(reach(args, world)) as client:
        return ACTIONS[args.action](client, args, world)


def show(client: FleetCalls, args: argparse.Namespace, world: World) -> int:
    """Lists them, server by server."""
    wanted = args.model.lower()

    def draw(copies: Sequence[Copy]) -> None:
        found = [one for one in copies if begins_with(one, wanted)]
        if args.json:
            write_json([one.model for one in found], world.out)
        else:
            write_table(HEADER, list(map(row, found)), world.out, SPARE)

    return shown(lambda: copies_of(client, args.server), draw, args, world)


def begins_with(copy: Copy, wanted: str) -> bool:
    """Does its name begin so? With a slash that may be the name with its server, ``SERVER/MODEL``."""
    names = (copy.model.model, copy.name) if "/" in wanted else (copy.model.model,)
    return any(name.lower().startswith(wanted) for name in names)


def copies_of(client: FleetCalls, named: Sequence[str]) -> list[Copy]:
    """What was found on these servers; on all where none is named."""
    servers = client.servers()
    some = servers if not named or EVERY in named else [meant(word, servers) for word in named]
    return [Copy(server, model) for server in some for model in client.server_models(server.id)]


def row(copy: Copy) -> tuple[str, ...]:
    """A line of the list."""
    model = copy.model
    return (
        model.model,
        copy.server.name,
        state(copy),
        IN_MEMORY[model.is_loaded],
        words.size(model.size) if model.size else "",
        str(model.context_length or ""),
        str(model.priority),
        ", ".join(model.capabilities),
        (model.digest or "")[DIGITS],
    )


def state(copy: Copy) -> str:
    """May it be asked, and if not, why not?"""
    if copy.model.available:
        return "up"
    if not copy.model.is_active:
        return "inactive"
    return "gone" if copy.server.available else f"server {copy.server.state}"


def given(args: argparse.Namespace) -> dict[str, Any]:
    """What is said of a model, by the fields of :class:`ModelChange`."""
    every = {
        "is_active": args.active,
        "priority": args.priority,
        "name": args.rename,
        "capabilities": None if args.capability is None else listed(args.capability),
    }
    return {field: value for field, value in every.items() if value is not None}


def change(client: FleetCalls, args: argparse.Namespace, world: World) -> int:
    """Changes what is said of it."""
    said = ModelChange(**given(args))

    def changed(copy: Copy) -> None:
        model = client.change_model(copy.model.id, said)
        if args.json:
            write_json(model, world.out)
        else:
            world.err.write(printable(f"changed '{copy.model.model}' on '{copy.server.name}'\n"))

    return each(meant_by(args, copies_of(client, args.server)), changed, world)


def unload(client: FleetCalls, args: argparse.Namespace, world: World) -> int:
    """Takes it out of memory, or off the graphics cards."""

    def unloaded(copy: Copy) -> None:
        done = (
            client.unload_from_gpu(copy.model.id, keep_on_cpu=args.keep_on_cpu)
            if args.from_gpu or args.keep_on_cpu
            else client.unload_model(copy.model.id)
        )
        if args.json:
            write_json({"id": copy.model.id, "server": copy.server.name, **to_builtins(done)}, world.out)
            return
        freed = getattr(done, "freed_bytes", 0)
        more = f"; {words.size(freed)} of graphics memory are free" if freed else ""
        said = f"'{copy.model.model}' {BECAME[done.status]} '{copy.server.name}'{more}\n"
        world.err.write(printable(said))

    copies = copies_of(client, args.server)
    there = [one for one in copies if one.model.available]
    return each(meant_by(args, rather(there, copies, args.model)), unloaded, world)


def forget(client: FleetCalls, args: argparse.Namespace, world: World) -> int:
    """Takes it off the list."""

    def forgotten(copy: Copy) -> None:
        model = client.forget_model(copy.model.id)
        if args.json:
            write_json(
                {"id": model.id, "server": copy.server.name, "model": model.model, "status": "forgotten"}, world.out
            )
        else:
            world.err.write(printable(f"forgot '{model.model}' of '{copy.server.name}'\n"))

    copies = copies_of(client, args.server)
    gone = [one for one in copies if not one.model.available]
    return each(meant_by(args, rather(gone, copies, args.model)), forgotten, world)


def rather(some: Sequence[Copy], copies: Sequence[Copy], word: str) -> Sequence[Copy]:
    """Some of the copies, if one of them can be meant; else all."""
    return some if any(is_called(one, word) for one in some) else copies


def each(copies: Iterable[Copy], work: Callable[[Copy], None], world: World) -> int:
    """Does it for every copy; one that fails does not keep the others."""
    failed = False
    for copy in copies:
        try:
            work(copy)
        except LocalModelsError as error:
            failed = True
            world.err.write(complaint(error))
    return int(failed)


def meant_by(args: argparse.Namespace, copies: Iterable[Copy]) -> list[Copy]:
    """The copies that are meant; more than one only where servers were named.

    Raises:
        NotFound: there is none.
        InvalidRequest: it is not said on which of several servers.
    """
    found = [one for one in copies if is_called(one, args.model)]
    if not found:
        raise NotFound(f"no server has a model '{args.model[:80]}'; `localmodels models list` lists them")
    if len(found) > 1 and not args.server:
        there = ", ".join(one.server.name for one in found)
        raise InvalidRequest(f"'{args.model[:80]}' is on {there}: say on which by --server, or --server '*' for all")
    return found


def is_called(copy: Copy, word: str) -> bool:
    """Is it the one of this name, with its tag and its server or without, or of this id?"""
    names = {word.lower(), word.lower() + LATEST}
    return copy.model.id == word or bool(names & {copy.name.lower(), copy.model.model.lower()})


Action = Callable[[FleetCalls, argparse.Namespace, World], int]
ACTIONS: Mapping[str, Action] = {"list": show, "set": change, "unload": unload, "forget": forget}
BECAME: Mapping[str, str] = {
    "unloaded": "is out of the memory of",
    "moved": "goes on without a graphics card on",
    "not_loaded": "was not in the memory of",
}
