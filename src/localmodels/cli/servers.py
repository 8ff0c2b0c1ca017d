"""``localmodels servers list|add|rm|set|discover|check``: the servers behind the one that is asked.

A server goes by its name or its id. Its key is never part of a command line, which everybody on the machine could read
(:mod:`~localmodels.cli.server_flags`). What was asked for (a list, what a check or a look has found) goes to standard
output; what became of a change, to standard error.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from shlex import quote as quoted

from msgspec import Struct, to_builtins

from localmodels.cli.connect import reach
from localmodels.cli.flags import action_of, host_argument, json_argument
from localmodels.cli.misuse import Misuse
from localmodels.cli.server_flags import add_flags, key_of, said_of
from localmodels.cli.tables import write_json, write_table
from localmodels.cli.watching import shown, watch_argument
from localmodels.cli.words import complaint, printable
from localmodels.cli.world import World
from localmodels.client._sync_fleet_calls import FleetCalls
from localmodels.client.roster import NOTHING, meant
from localmodels.core.errors import Conflict, LocalModelsError
from localmodels.core.fleet import ServerChange
from localmodels.core.secrets import Secret
from localmodels.core.servers import AnyKind, prefix_of
from localmodels.dialects.servers import ShownServer

HEADER = ("NAME", "STATE", "BUSY", "MODELS", "KIND", "URL", "NOTE")
SPARE = ("KIND", "MODELS", "URL", "BUSY")
# What the kind says: the API that is spoken, whatever program speaks it.
ANSWERS: Mapping[AnyKind, str] = {
    "local": "as this server's own engine",
    "ollama": "by Ollama's API",
    "llamacpp": "by llama-server's API",
    "openai": "by OpenAI's API",
    "anthropic": "by Anthropic's API",
}
# Kinds of which a model can be brought to an empty server from here.
MANAGED = frozenset({"local", "ollama"})
MANY = 1_000


class Said(Struct, frozen=True):
    """What a command line says of a server: its fields, and its key; an empty key is none, None says nothing of it."""

    change: ServerChange = NOTHING
    key: Secret | None = None

    @property
    def text(self) -> str | None:
        """The key itself."""
        return None if self.key is None else self.key.reveal()


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it understands."""
    parser.add_argument(
        "action",
        metavar="ACTION",
        type=action_of(ACTIONS),
        choices=tuple(ACTIONS),
        nargs="?",
        default="list",
        help="list: all of them, as they were when they were asked last (default); add NAME URL: register one; rm: "
        "forget some; set: change what is said of one; discover: ask some, or all, which models they have; check: ask "
        "some, or all, how they are, and say in words what is wrong",
    )
    parser.add_argument(
        "servers", metavar="SERVER", nargs="*", help="names or ids, as list prints them; add: a NAME and a URL"
    )
    add_flags(parser)
    watch_argument(parser)
    host_argument(parser)
    json_argument(parser)


def run(args: argparse.Namespace, world: World) -> int:
    """Does it."""
    counts, form = NEEDS[args.action]
    if len(args.servers) not in counts:
        raise Misuse(f"say it so: localmodels servers {args.action} {form}".rstrip())
    if args.watch and args.action != "list":
        raise Misuse("--watch goes with list alone")
    said = Said(said_of(args), key_of(args, world))
    if args.action == "set" and said == Said():
        raise Misuse(
            "say what shall be another, such as --priority 10 or --inactive; `localmodels servers --help` lists all"
        )
    with FleetCalls(reach(args, world)) as client:
        return ACTIONS[args.action](client, args, said, world)


def show(client: FleetCalls, args: argparse.Namespace, said: Said, world: World) -> int:
    """Lists them."""

    def draw(servers: Sequence[ShownServer]) -> None:
        if args.json:
            write_json(servers, world.out)
        else:
            write_table(HEADER, list(map(row, servers)), world.out, SPARE)

    return shown(client.servers, draw, args, world)


def row(server: ShownServer) -> tuple[str, ...]:
    """A line of the list."""
    return (
        server.name,
        server.state,
        f"{server.in_flight}/{server.max_concurrent}" if server.max_concurrent else str(server.in_flight),
        str(len(server.models)),
        server.kind,
        server.url,
        note(server),
    )


def note(server: ShownServer) -> str:
    """What else is worth knowing: why it does not answer, or what is not as with all servers."""
    if server.failure:
        return " ".join(server.failure.split())
    told = (
        "the default" if server.is_default else "",
        f"priority {server.priority}" if server.priority else "",
        f"weight {server.weight:g}" if server.weight != 1 else "",
        f"capabilities {', '.join(server.capabilities)}" if server.capabilities else "",
        "was down; the next request proves it" if server.state == "trying" else "",
        SOURCES[server.source],
    )
    return "; ".join(filter(None, told))


def add(client: FleetCalls, args: argparse.Namespace, said: Said, world: World) -> int:
    """Registers one; it stays registered if it does not answer.

    Raises:
        Conflict: there is one of this name, or at this address; says how to change that one.
    """
    name, url = args.servers
    try:
        server = client.add_server(name, url, said.change, key=said.text)
    except Conflict as error:
        there = next((one for one in client.servers() if one.prefix == prefix_of(name)), None)
        if there is None or there.source != "api":
            raise
        what = f"`localmodels servers set {quoted(there.name)} --url {quoted(url)}`"
        raise error.reworded(f"{error.message}; change it with {what}", error.param) from error
    if args.json:
        write_json(server, world.out)
    else:
        world.err.write(printable(f"registered '{server.name}'; it {verdict(server)}\n"))
    return 0


def change(client: FleetCalls, args: argparse.Namespace, said: Said, world: World) -> int:
    """Changes what is said of one."""
    server = client.change_server(client.server(args.servers[0]).id, said.change, key=said.text)
    if args.json:
        write_json(server, world.out)
    else:
        world.err.write(printable(f"changed '{server.name}'; it {verdict(server)}\n"))
    return 0


def remove(client: FleetCalls, args: argparse.Namespace, said: Said, world: World) -> int:
    """Forgets them; one that cannot be forgotten does not keep the others."""

    def forget(server: ShownServer) -> None:
        gone = client.remove_server(server.id)
        if args.json:
            write_json({"id": gone.id, "name": gone.name, "status": "removed"}, world.out)
        else:
            world.err.write(printable(f"forgot '{gone.name}'; answers that it has begun come to their end\n"))

    return each(args.servers, client.servers, forget, world)  # asked anew for each: the one before is gone by then


def discover(client: FleetCalls, args: argparse.Namespace, said: Said, world: World) -> int:
    """Has them asked for their models."""

    def ask(server: ShownServer) -> None:
        seen = client.discover(server.id)
        if args.json:
            write_json({"id": server.id, "name": server.name, **to_builtins(seen)}, world.out)
        else:
            changes = f"{seen.models_added} new, {seen.models_updated} changed, {seen.models_deactivated} gone"
            models = counted(seen.models_found, "model")
            world.out.write(printable(f"'{server.name}' has {models}: {changes}\n"))

    servers = client.servers()
    return each(args.servers or [one.id for one in servers if one.is_active], lambda: servers, ask, world)


def check(client: FleetCalls, args: argparse.Namespace, said: Said, world: World) -> int:
    """Has them asked how they are; is there one that should answer, and does not?"""
    if args.servers:
        known = client.servers()
        named = [meant(word, known) for word in args.servers]
        servers = [client.look_at(one.url) if one.is_active else one for one in named]
    else:
        servers = list(client.live_servers())
    if args.json:
        write_json(servers, world.out)
    else:
        world.out.writelines(printable(f"'{server.name}' {verdict(server)}\n") for server in servers)
    return int(any(server.is_active and not server.available for server in servers))


def verdict(server: ShownServer) -> str:
    """How a server is, in words, and what can be done about it."""
    name = quoted(server.name)
    if not server.is_active:
        return f"is switched off; `localmodels servers set {name} --active` has it asked again"
    if not server.available:
        return f"does not answer: {' '.join(server.failure.split()) or 'it was not asked yet'}"
    how = ", version ".join(filter(None, (ANSWERS[server.kind], server.version)))
    busy = f", {server.in_flight} of {server.max_concurrent} busy" if server.max_concurrent else ""
    empty = f"; bring it one: `localmodels pull MODEL --server {name}`"
    more = empty if not server.models and server.kind in MANAGED else ""
    more += "; it was down, and one request may prove it now" if server.state == "trying" else ""
    return f"answers {how}: {counted(len(server.models), 'model')}{busy}{more}"


def counted(count: int, thing: str) -> str:
    """``1 model``, ``3 models``."""
    return f"{count} {thing}{'' if count == 1 else 's'}"


def each(
    words: Iterable[str],
    servers: Callable[[], Sequence[ShownServer]],
    work: Callable[[ShownServer], None],
    world: World,
) -> int:
    """Does it for one after the other; one that fails does not keep the others."""
    failed = False
    for word in words:
        try:
            work(meant(word, servers()))
        except LocalModelsError as error:
            failed = True
            world.err.write(complaint(error))
    return int(failed)


Action = Callable[[FleetCalls, argparse.Namespace, Said, World], int]
ACTIONS: Mapping[str, Action] = {
    "list": show,
    "add": add,
    "rm": remove,
    "set": change,
    "discover": discover,
    "check": check,
}
# How many servers each takes, and how it is written.
NEEDS: Mapping[str, tuple[range, str]] = {
    "list": (range(1), ""),
    "add": (range(2, 3), "NAME URL"),
    "rm": (range(1, MANY), "SERVER …"),
    "set": (range(1, 2), "SERVER --…"),
    "discover": (range(MANY), "[SERVER …]"),
    "check": (range(MANY), "[SERVER …]"),
}
SOURCES: Mapping[str, str] = {"api": "", "file": "of the server's file", "local": "this server's own engine"}
