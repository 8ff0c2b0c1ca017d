"""``python -m tools.crash [--points N] [--errors] [--defects] [--operations A,B] [--jobs N] [--seed N]``."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from tools.crash.operations import OPERATIONS, STOCKS
from tools.crash.plain import DEFECTS
from tools.crash.power import Disk, cut_after, cut_at
from tools.crash.scenes import SCENES
from tools.crash.sweep import Point, Violation, chosen, clear_room, points, room, sweep, twice

_SHOWN = 20


def main() -> int:
    """Runs what was asked for; 1 if anything was broken, or a defect got away."""
    parser = argparse.ArgumentParser(prog="python -m tools.crash", description="Kills the store at every system call.")
    parser.add_argument("--points", type=int, default=10**6, help="at most so many points; all by default")
    parser.add_argument("--errors", action="store_true", help="failing calls instead of kills")
    parser.add_argument("--twice", action="store_true", help="kill the repetition too, at another call")
    parser.add_argument("--defects", action="store_true", help="known defects instead; each must be caught")
    parser.add_argument("--power", action="store_true", help="cut the power instead (needs root, loop devices, ext4)")
    parser.add_argument("--stock", choices=STOCKS, help="what --power tries instead of the product")
    parser.add_argument("--operations", default=",".join(OPERATIONS), help="comma-separated; all by default")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    if shutil.which("strace") is None:
        print("strace is not here; on Debian: apt-get install strace", file=sys.stderr)
        return 2
    work = room()
    try:
        with ProcessPoolExecutor(asked.jobs, mp_context=get_context("spawn")) as pool:
            run = _defects if asked.defects else _power if asked.power else _product
            return run(asked, work, pool)
    finally:
        clear_room(work)


def _product(asked: argparse.Namespace, work: Path, pool: ProcessPoolExecutor) -> int:
    found: list[Point] = []
    broken: list[Violation] = []
    for operation in asked.operations.split(","):
        more, shown = points(OPERATIONS[operation], operation, errors=asked.errors, work=work)
        print(f"{operation}: {len(more)} points", flush=True)
        found += more
        broken += shown
    if asked.twice:
        found = twice(found, asked.seed)
    tried = chosen(found, asked.points, asked.seed)
    start = time.monotonic()
    for one in sweep(tried, work, pool):
        broken += one
    took = time.monotonic() - start
    for violation in broken[:_SHOWN]:
        print(f"  {violation.at}: {violation.what}")
    rate = len(tried) / took if took else 0.0
    print(f"{len(tried)} points of {len(found)}, {len(broken)} violations, {took:.0f} s, {rate:.1f} points/s")
    return 1 if broken else 0


def _power(asked: argparse.Namespace, work: Path, _pool: ProcessPoolExecutor) -> int:
    """One after another: there is one disk."""
    found = [
        point
        for operation in asked.operations.split(",")
        for point in points(asked.stock or OPERATIONS[operation], operation, errors=False, work=work)[0]
        if asked.stock in {None, "Product", "Flows"} or operation in SCENES
    ]
    start, tried = time.monotonic(), chosen(found, asked.points, asked.seed)
    broken: list[Violation] = []
    disk = Disk(work)
    with disk.mounted() as at:
        firsts = {point.operation: point for point in found}
        for point in firsts.values():
            broken += cut_after(point, disk, at)
        for point in tried:
            broken += cut_at(point, disk, at)
    for violation in broken[:_SHOWN]:
        print(f"  {violation.at}: {violation.what}")
    took = time.monotonic() - start
    print(f"{len(tried) + len(firsts)} power cuts, {len(broken)} violations, {took:.0f} s")
    return 1 if broken else 0


def _defects(asked: argparse.Namespace, work: Path, pool: ProcessPoolExecutor) -> int:
    """Each stock is tried until something breaks; the sound one, to the end."""
    escaped = 0
    for stock in ("Plain", *DEFECTS):
        tried, caught = _hunt(stock, asked, work, pool)
        sound = stock == "Plain"
        escaped += bool(caught) if sound else not caught
        verdict = f"caught: {caught[0].what} ({caught[0].at})" if caught else "nothing broken"
        print(f"{stock}: {tried} points, {verdict}", flush=True)
    print(f"{len(DEFECTS)} defects, {escaped} mistaken verdicts")
    return 1 if escaped else 0


def _hunt(stock: str, asked: argparse.Namespace, work: Path, pool: ProcessPoolExecutor) -> tuple[int, list[Violation]]:
    tried = 0
    for errors in (False, True):
        for operation in (one for one in asked.operations.split(",") if one in SCENES):
            found, shown = points(stock, operation, errors=errors, work=work)
            if shown:
                return tried, shown
            picked = chosen(found, asked.points // (2 * len(SCENES)) or 1, asked.seed)
            for at in range(0, len(picked), 4 * asked.jobs):
                batch = picked[at : at + 4 * asked.jobs]
                tried += len(batch)
                caught = [violation for one in sweep(batch, work, pool) for violation in one]
                if caught:
                    return tried, caught
    return tried, []


if __name__ == "__main__":
    sys.exit(main())
