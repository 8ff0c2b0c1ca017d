"""``python -m tests.hostile [--requests N] [--seed N] [--keyed]``: the long form. Minutes, and a quiet machine."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from tests.hostile.arena import QUESTIONS
from tests.hostile.attacker import HANG
from tests.hostile.siege import MIB, Siege, besieged


def main() -> int:
    """Exit status 1 when anything was not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description="Hostile requests to one server.")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keyed", action="store_true", help="a key is asked for, and one of each scope attacks")
    parser.add_argument("--stalls", action="store_true", help="tell what held the server's loop up, and where")
    asked = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        siege = besieged(
            Path(directory), requests=asked.requests, seed=asked.seed, keyed=asked.keyed, stalls=asked.stalls
        )
    print("\n".join(told(siege)))
    for stall in siege.stalls[:20]:
        print(f"held up for {stall}\n    beside {beside(siege, stall.at, stall.at + stall.took)}")
    print(f"seed {asked.seed}, {'with' if asked.keyed else 'without'} keys, {time.monotonic() - start:.0f} s")
    broken = siege.broken(by_the_clock=True)
    for what in broken:
        print(f"MISS {what}")
    return 1 if broken else 0


def beside(siege: Siege, start: float, end: float) -> str:
    """What was being asked then."""
    names = [name for begun, ended, name in siege.tally.times if begun < end and ended > start]
    return "; ".join(name[:60] for name in names[:6])


def told(siege: Siege) -> list[str]:
    """The figures."""
    tally, seen = siege.tally, siege.seen
    rows: dict[str, dict[int, int]] = defaultdict(dict)
    for (kind, status), count in sorted(tally.statuses.items()):
        rows[kind][status] = count
    lines = [f"{tally.requests} requests"]
    for kind, statuses in rows.items():
        lines.append(f"  {kind:<24} " + "  ".join(f"{status}: {count}" for status, count in statuses.items()))
    lines.append(f"longest silence {tally.longest:.2f} s; {len(tally.slow)} above {HANG:g} s")
    health = f"slowest {seen.slowest * 1000:.0f} ms; the server's own {seen.slowest_own * 1000:.0f} ms at most"
    lines.append(f"/health asked {seen.probes} times: {health}; {len(seen.slow)} above 100 ms, {seen.unwell} failed")
    for at, took, own in seen.slow[:10]:
        lines.append(f"  {took * 1000:.0f} ms ({own * 1000:.0f} own) beside {beside(siege, at, at + took)}")
    first, most, last = (size / MIB for size in (seen.rss, seen.rss_most, seen.rss_last))
    lines.append(f"memory {first:.1f} MiB before, {most:.1f} at most, {last:.1f} after")
    lines.append(f"{tally.many_wrong} wrong answers, {len(siege.traces)} traces in the log")
    lines.append(f"golden answers: {len(siege.changed)} of {len(QUESTIONS)} changed")
    return lines


if __name__ == "__main__":
    sys.exit(main())
