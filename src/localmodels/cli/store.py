"""``localmodels store check|repair|gc``: looks after the directory of models, whether a server runs on it or not.

No server is asked: the store's lock and leases keep the two out of each other's way. What is wrong is a line each on
standard output, what it comes to is a line on standard error. Exit codes: 0 sound, 1 something is wrong and stays so.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from localmodels.cli import words
from localmodels.cli.flags import action_of, home_argument, home_config, json_argument
from localmodels.cli.progress import shower
from localmodels.cli.tables import write_json
from localmodels.cli.world import World
from localmodels.core.library import Progress
from localmodels.store.check import Finding
from localmodels.store.collect import Verdict
from localmodels.store.layout import PARTIALS, blob_name
from localmodels.store.model_store import STORE, ModelStore
from localmodels.store.pieces import Progress as Count
from localmodels.store.pieces import no_progress
from localmodels.store.repair import Repaired
from localmodels.store.stocktaking import items


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it understands."""
    parser.add_argument(
        "action",
        metavar="ACTION",
        type=action_of(ACTIONS),
        choices=tuple(ACTIONS),
        help="check: tell what is wrong; repair: put right what can be; gc: remove files that no model needs",
    )
    parser.add_argument(
        "--partial",
        action="store_true",
        help="gc: also downloads that were not finished, and files that no model has yet, if no program works on them",
    )
    parser.add_argument("--read-data", action="store_true", help="check, repair: read every file, too")
    home_argument(parser)
    json_argument(parser)


def run(args: argparse.Namespace, world: World) -> int:
    """Does it."""
    store = ModelStore(home_config(args, world).home / STORE)
    if not store.layout.root.is_dir():
        world.err.write(f"there is no store at {store.layout.root} yet\n")
        if args.json:
            write_json([], world.out)
        return 0
    return ACTIONS[args.action](store, args, world)


def check(store: ModelStore, args: argparse.Namespace, world: World) -> int:
    """Tells what is wrong."""
    with counted(store, args, world) as progress:
        findings = store.check(read_data=args.read_data, progress=progress)
    bad = sum(not finding.harmless for finding in findings)
    tell(findings, finding_line, finding_json, args, world)
    defects = f"{bad} {'defect' if bad == 1 else 'defects'}; repair puts right what can be"
    world.err.write(f"{defects if bad else 'the store is sound'}\n")
    return int(bad > 0)


def repair(store: ModelStore, args: argparse.Namespace, world: World) -> int:
    """Puts right what can be, and tells what is left: a model may lack what was put into quarantine."""
    with counted(store, args, world) as progress:
        first = store.repair(read_data=args.read_data, progress=progress)
    done = [*(one for one in first if one.action != "left"), *store.repair()]
    left = sum(one.action == "left" and not one.finding.harmless for one in done)
    tell(done, repaired_line, repaired_json, args, world)
    put = sum(one.action != "left" for one in done)
    world.err.write(f"{put} put right, {left} left\n" if put or left else "the store is sound\n")
    return int(left > 0)


def collect(store: ModelStore, args: argparse.Namespace, world: World) -> int:
    """Removes what no model needs."""
    given_up = store.discard_partials() if args.partial else ()
    # What a broken pull or an upload has brought whole is no model's either, and would be kept for an hour.
    verdict = store.collect(grace=0.0) if args.partial else store.collect()
    fates = [(fate, blob) for fate in VERDICTS for blob in getattr(verdict, fate)]
    fates += [("partial", blob) for blob in given_up]
    tell(
        fates,
        lambda one: f"{FATES[one[0]]}: {PLACES[one[0]]}/{blob_name(one[1].digest)} {words.size(one[1].size)}",
        lambda one: {"blob": str(one[1].digest), "size": one[1].size, "fate": FATES[one[0]]},
        args,
        world,
    )
    freed = verdict.freed + sum(blob.size for blob in given_up)
    world.err.write(f"{words.size(freed)} freed{held(verdict)}\n")
    return 0


Action = Callable[[ModelStore, argparse.Namespace, World], int]
ACTIONS: Mapping[str, Action] = {"check": check, "repair": repair, "gc": collect}
# What becomes of a blob that no model names; see store.collect.
VERDICTS: Mapping[str, str] = {
    "doomed": "removed",
    "leased": "kept, a program needs it now",
    "young": "kept, it may be part of a model that is just being made",
    "held": "kept, a damaged manifest may name it",
}
FATES: Mapping[str, str] = {**VERDICTS, "partial": "removed, a download that was not finished"}
PLACES: Mapping[str, str] = {**dict.fromkeys(VERDICTS, "blobs"), "partial": "/".join(PARTIALS)}


def tell(
    found: Sequence[Any],
    line: Callable[[Any], str],
    row: Callable[[Any], dict[str, Any]],
    args: argparse.Namespace,
    world: World,
) -> None:
    """Each on a line, or all as one list for programs."""
    if args.json:
        write_json([row(one) for one in found], world.out)
        return
    for one in found:
        world.out.write(words.printable(line(one)) + "\n")


def finding_line(finding: Finding) -> str:
    """``missing blob: manifests/…: why``."""
    return f"{finding.kind}: {finding.path}: {finding.why}"


def finding_json(finding: Finding) -> dict[str, Any]:
    """The same for programs."""
    return {"kind": finding.kind, "path": finding.path, "why": finding.why, "harmless": finding.harmless}


def repaired_line(done: Repaired) -> str:
    """The finding, and what became of it."""
    return f"{finding_line(done.finding)}: {done.action}{f' ({done.note})' if done.note else ''}"


def repaired_json(done: Repaired) -> dict[str, Any]:
    """The same for programs."""
    return {**finding_json(done.finding), "action": done.action, "note": done.note}


def held(verdict: Verdict) -> str:
    """What keeps blobs that could go."""
    if not verdict.holding:
        return ""
    return f"; {', '.join(map(words.printable, verdict.holding))} cannot be read, see `localmodels store repair`"


@contextmanager
def counted(store: ModelStore, args: argparse.Namespace, world: World) -> Iterator[Count]:
    """Shows how much of the store is read, to people who asked for that."""
    if args.json or not args.read_data:
        yield no_progress
        return
    total = sum(item.size for item in items(store.layout)) if (store.layout.root / "blobs").is_dir() else 0
    with shower(args, world) as show:

        def count(done: int) -> None:
            show(Progress("reading blobs", total=total, completed=done))

        yield count
