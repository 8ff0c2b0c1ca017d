"""``localmodels keys add|list|rm``: who may ask the server of a home, whether it runs or not.

No server is asked: the keys are in a file of the home, or in its database, and a server that runs looks there twice a
second. So the rule is that this looks where the home's server looks, which has written down where that is. A new key is
printed alone on standard output, for the only time; all else goes to standard error, and says where the keys are kept.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime

from localmodels.cli.flags import action_of, home_argument, home_settings, json_argument, read_span
from localmodels.cli.misuse import Misuse
from localmodels.cli.tables import write_json, write_table
from localmodels.cli.words import ago, printable, until
from localmodels.cli.world import World
from localmodels.config import Config, ConfigError, Settings
from localmodels.core.access import GRANTS, USUAL, Allowance, Key, Wish
from localmodels.core.errors import NotFound
from localmodels.dialects.management import shown
from localmodels.flows.access.keys import make_key
from localmodels.state.choosing import state_in
from localmodels.state.files import STATE, StateError
from localmodels.state.kept import Kept
from localmodels.state.starting import known_keys
from localmodels.state.whereabouts import WHEREABOUTS, place_of, read

HEADER = ("NAME", "ID", "KEY", "SCOPES", "MODELS", "LIMITS", "MADE", "STATE")
SPARE = ("KEY", "MADE", "LIMITS", "MODELS", "SCOPES")
PERIODS = ("ever", "day", "month")
SERVER_ELSEWHERE = "LOCALMODELS_HOST"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it understands."""
    parser.add_argument(
        "action",
        metavar="ACTION",
        type=action_of(ACTIONS),
        choices=tuple(ACTIONS),
        nargs="?",
        default="list",
        help="list: all keys (default); add: make a key and print it, this once; rm: have a key open nothing any more",
    )
    parser.add_argument("name", metavar="NAME", nargs="?", default="", help="add: its name; rm: its name or id")
    parser.add_argument("--admin", action="store_true", help="add: may do everything")
    parser.add_argument(
        "--scopes", metavar="WORDS", help=f"add: what it may do, of {', '.join(GRANTS)} (default: infer,list)"
    )
    parser.add_argument(
        "--only", metavar="MODEL", action="append", help="add: a model that it may ask, * for any text; repeatable"
    )
    parser.add_argument("--requests-per-minute", metavar="N", type=int, help="add: most requests in a minute")
    parser.add_argument("--tokens-per-minute", metavar="N", type=int, help="add: most tokens in a minute")
    parser.add_argument("--quota", metavar="N[/PERIOD]", help="add: most tokens in all, or in a day or month (UTC)")
    parser.add_argument(
        "--weight", metavar="N", type=int, default=1, help="add: its share of a busy model (default: 1)"
    )
    parser.add_argument("--expires", metavar="DURATION", help="add: how long it is good, such as 12h or 30d")
    home_argument(parser)
    json_argument(parser)


def run(args: argparse.Namespace, world: World) -> int:
    """Does it."""
    settings = home_settings(args, world)
    world.err.write(require_its_place(settings))
    if args.home is None and world.environ.get(SERVER_ELSEWHERE):
        note = f"Note: {SERVER_ELSEWHERE} does not count here, no server is asked; the keys of another home: --home\n"
        world.err.write(note)
    return ACTIONS[args.action](settings.config, args, world)


def kept_in(config: Config) -> str:
    """Where the keys are, for people: the file of the home, or the database without who asks it."""
    return place_of(config.database_url) or str(config.home / STATE)


def require_its_place(settings: Settings) -> str:
    """Looks whether these settings lead to the keys that the home's server goes by; what is to be told where one may.

    A database that was named on purpose counts more than what a server said that does not run any more.

    Raises:
        ConfigError: they lead elsewhere.
    """
    config, ours = settings.config, place_of(settings.config.database_url)
    try:
        said = read(config.home)
    except StateError as error:
        raise ConfigError(f"home: {error}") from error
    if said is None or said[0].database == ours:
        return ""
    server, runs = said
    theirs = server.told(config.home)
    mine = kept_in(config)
    from_there = f" (its {server.origin})" if server.database else ""
    which = f"the server that runs on {config.home}" if runs else f"the server of {config.home}, when it ran last,"
    if ours and not runs:
        return printable(f"Note: {which} kept its keys in {theirs}{from_there}; this is about those in {mine}\n")
    kept = "keeps" if runs else "kept"
    if ours:
        more = f"take the setting away here ({settings.origins['database_url']}), or start the server with it, too"
    else:
        more = "name that database here too, in LOCALMODELS_DATABASE_URL or in a file for --config"
        more += "" if runs else f"; if it is no longer so, delete {config.home / WHEREABOUTS}"
    raise ConfigError(f"{which} {kept} its keys in {theirs}{from_there}, and not in {mine}: {more}")


def add(config: Config, args: argparse.Namespace, world: World) -> int:
    """Makes a key."""
    if not args.name:
        raise Misuse("say for whom it is: localmodels keys add NAME")
    now = nanoseconds(world.now())
    key, text = make_key(wish_of(args, now), now)
    change(config, lambda state: state.keys.add(key))
    if args.json:
        write_json({"key": text.reveal(), "id": key.id, "name": key.name}, world.out)
        return 0
    world.out.write(text.reveal() + "\n")
    world.err.write(printable(f"the key of {key.name} ({key.id}), in {kept_in(config)}; it is shown this once\n"))
    return 0


def show(config: Config, args: argparse.Namespace, world: World) -> int:
    """Lists all keys."""
    now = world.now()
    keys = kept(config)
    if args.json:
        write_json([shown(key, nanoseconds(now)) for key in keys], world.out)
        return 0
    world.err.write(printable(f"the keys in {kept_in(config)}\n"))
    write_table(HEADER, [row(key, now) for key in keys], world.out, SPARE)
    return 0


def revoke(config: Config, args: argparse.Namespace, world: World) -> int:
    """Has a key open nothing any more."""
    named = [key for key in kept(config) if args.name in {key.id, key.name}]
    key = next((key for key in named if key.revoked_at is None), next(iter(named), None))
    if key is None:
        raise NotFound(f"there is no key '{args.name}'; `localmodels keys list` lists them")
    change(config, lambda state: state.keys.revoke(key.id, nanoseconds(world.now())))
    if args.json:
        write_json({"id": key.id, "name": key.name, "status": "revoked"}, world.out)
    else:
        world.err.write(
            f"the key of {printable(key.name)} ({key.id}) in {printable(kept_in(config))} opens nothing any more\n"
        )
    return 0


Action = Callable[[Config, argparse.Namespace, World], int]
ACTIONS: Mapping[str, Action] = {"add": add, "list": show, "rm": revoke}


def kept(config: Config) -> tuple[Key, ...]:
    """All keys of a home, or of its database.

    Raises:
        ConfigError: nobody can tell.
    """
    try:
        return known_keys(config.home, config.database_url)
    except StateError as error:
        raise unusable(config, error) from error


def change(config: Config, work: Callable[[Kept], Awaitable[object]]) -> None:
    """Changes the state of a home, or in its database; it is made if there is none.

    Raises:
        ConfigError: there is nothing that could.
    """

    async def changing() -> None:
        async with state_in(config.home, config.database_url, listens=False) as state:
            await work(state)

    try:
        asyncio.run(changing())
    except StateError as error:
        raise unusable(config, error) from error


def unusable(config: Config, error: StateError) -> ConfigError:
    """What is wrong, and with which setting."""
    return ConfigError(f"{'database_url' if config.database_url else 'home'}: {error}")


def wish_of(args: argparse.Namespace, now: int) -> Wish:
    """The key that the flags describe.

    Raises:
        Misuse: a text among them cannot be read.
    """
    if args.admin and args.scopes:
        raise Misuse("--admin and --scopes exclude each other; admin is all of them")
    scopes = args.scopes.replace(",", " ").split() if args.scopes is not None else USUAL
    quota, period = quota_of(args.quota) if args.quota else (None, "ever")
    return Wish(
        args.name,
        frozenset({"admin"} if args.admin else scopes),
        tuple(args.only or ()),
        Allowance(args.requests_per_minute, args.tokens_per_minute, quota, period),  # type: ignore[arg-type]
        args.weight,
        None if args.expires is None else now + round(lifetime(args.expires) * 1e9),
    )


def quota_of(text: str) -> tuple[int, str]:
    """``1000000``, ``50000/day`` or ``2000000/month``.

    Raises:
        Misuse: it is none of them.
    """
    number, slash, period = text.partition("/")
    if not number.isdecimal() or (slash and period not in PERIODS):
        raise Misuse(f"--quota: '{text[:60]}' is not a number of tokens, such as 1000000, 50000/day or 2000000/month")
    return int(number), period or "ever"


def lifetime(text: str) -> float:
    """Seconds.

    Raises:
        Misuse: it is no duration, or none into the future.
    """
    seconds = read_span("--expires", text)
    if seconds <= 0:
        raise Misuse("--expires: a key must expire in the future")
    return seconds


def row(key: Key, now: datetime) -> tuple[str, ...]:
    """A line of the list."""
    told = shown(key, nanoseconds(now))
    state = told.state
    if state == "active" and told.expires_at:
        state = f"expires {until(told.expires_at, now)}"  # type: ignore[assignment]
    return (
        key.name,
        key.id,
        key.shown,
        ",".join(told.scopes),
        " ".join(key.models),
        limits(key.allowance) or "none",
        ago(told.created_at, now),
        state,
    )


def limits(allowance: Allowance) -> str:
    """``60 requests/min, 1000 tokens/day``."""
    parts = (
        (allowance.requests_per_minute, "requests/min"),
        (allowance.tokens_per_minute, "tokens/min"),
        (allowance.token_quota, "tokens" if allowance.quota_period == "ever" else f"tokens/{allowance.quota_period}"),
    )
    return ", ".join(f"{count} {unit}" for count, unit in parts if count is not None)


def nanoseconds(moment: datetime) -> int:
    """Since 1970."""
    return round(moment.timestamp() * 1e6) * 1000
