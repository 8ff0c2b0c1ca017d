"""``localmodels usage``: requests and tokens, by model, key, server, day or hour.

The rule: a server is asked once for its rows of an hour each, and they are added up here, so that every way to look at
them has the same sums.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta

from localmodels.cli.connect import connect
from localmodels.cli.flags import host_argument, json_argument, read_span
from localmodels.cli.misuse import Misuse
from localmodels.cli.tables import write_json, write_table
from localmodels.cli.world import World
from localmodels.client._sync_calls import Calls
from localmodels.core.access import Use
from localmodels.core.errors import Forbidden, NotFound

HEADER = ("REQUESTS", "FAILED", "PROMPT", "CACHED", "ANSWER", "TOKENS", "ESTIMATED")
SPARE = ("ESTIMATED", "CACHED", "FAILED")
# Callers that have no key: programs of a machine that needs none, and everybody where its owner said so.
KEYLESS = ("local", "anybody")
PREFIX = "key_"  # of the ids of keys
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LONGEST = 100 * 366 * 86_400.0  # seconds; a moment before that is none of a calendar


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it understands."""
    parser.add_argument(
        "key",
        metavar="KEY",
        nargs="?",
        default="",
        help="name or id of the one key whose usage it is (default: all that one may see)",
    )
    parser.add_argument(
        "--by",
        choices=tuple(GROUPS),
        default="model",
        help="what a row is of: model (default), key, server, day or hour (UTC)",
    )
    parser.add_argument("--since", metavar="DURATION", help="how far back, such as 12h or 7d (default: 30d)")
    host_argument(parser)
    json_argument(parser)


def run(args: argparse.Namespace, world: World) -> int:
    """Prints it."""
    since = begin(args.since, world.now()) if args.since else None
    with connect(args, world) as client:
        known = names_of(client) if args.key or args.by == "key" else {}
        uses = client.usage(id_of(args.key, known) if args.key else None, since=since)
    rows, names = summed(uses, args.by), known or {}
    if args.json:
        write_json([fields(what, use, args.by, names) for what, use in rows], world.out)
        return 0
    words = told_apart(names)
    table = [(words.get(what, what), *cells(use)) for what, use in rows]
    write_table((args.by.upper(), *HEADER), table, world.out, SPARE)
    return 0


def begin(since: str, now: datetime) -> datetime:
    """The moment that far back.

    Raises:
        Misuse: it is no duration, or is not in the past.
    """
    seconds = read_span("--since", since)
    if not 0 < seconds <= LONGEST:
        raise Misuse("--since: it must be a moment of the last hundred years")
    return now - timedelta(seconds=seconds)


def names_of(client: Calls) -> Mapping[str, str] | None:
    """Names of all keys by their ids, the active ones last; None for who may not list them."""
    try:
        keys = client.keys()
    except Forbidden:
        return None
    return {key.id: key.name for key in sorted(keys, key=lambda key: key.state == "active")}


def id_of(key: str, names: Mapping[str, str] | None) -> str:
    """The id of a key that is named, the active one of those that have had the name.

    Raises:
        NotFound: there is none, or who asks may not know.
    """
    if names is None:
        if key.startswith(PREFIX) or key in KEYLESS:
            return key
        raise NotFound(f"only who may list keys knows which is '{key}'; say its id, which begins with {PREFIX}")
    ids = [id_ for id_, name in names.items() if key in (id_, name)]
    if not ids and key not in KEYLESS:
        raise NotFound(f"there is no key '{key}'; `localmodels keys list` lists them")
    return ids[-1] if ids else key


def told_apart(names: Mapping[str, str]) -> Mapping[str, str]:
    """The same names, those that several keys have had with the key's id."""
    counts = Counter(names.values())
    return {id_: name if counts[name] == 1 else f"{name} ({id_})" for id_, name in names.items()}


def _moment(use: Use) -> datetime:
    return EPOCH + timedelta(hours=use.hour)


GROUPS: Mapping[str, Callable[[Use], str]] = {
    "model": lambda use: use.model,
    "key": lambda use: use.key,
    "server": lambda use: use.server,
    "day": lambda use: f"{_moment(use):%Y-%m-%d}",
    "hour": lambda use: f"{_moment(use):%Y-%m-%dT%H:00Z}",
}
TIMES = ("day", "hour")


def summed(uses: Iterable[Use], by: str) -> list[tuple[str, Use]]:
    """One row of each model, or key…, those with most tokens first; days and hours the latest first."""
    sums: dict[str, Use] = {}
    for use in uses:
        what = GROUPS[by](use)
        sums[what] = sums[what].plus(use) if what in sums else use
    if by in TIMES:
        return sorted(sums.items(), reverse=True)
    return sorted(sums.items(), key=lambda row: (-row[1].tokens, row[0]))


def cells(use: Use) -> tuple[str, ...]:
    """What a table shows of it."""
    counts = (use.requests, use.failed, use.prompt_tokens, use.cached_tokens, use.completion_tokens, use.tokens)
    return tuple(f"{count}" for count in (*counts, use.estimated))


def fields(what: str, use: Use, by: str, names: Mapping[str, str]) -> dict[str, object]:
    """The same for programs."""
    name = {"name": names.get(what, what)} if by == "key" else {}
    return {
        by: what,
        **name,
        "requests": use.requests,
        "failed": use.failed,
        "prompt_tokens": use.prompt_tokens,
        "cached_tokens": use.cached_tokens,
        "completion_tokens": use.completion_tokens,
        "tokens": use.tokens,
        "estimated": use.estimated,
    }
