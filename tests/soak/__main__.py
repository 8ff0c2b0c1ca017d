"""``python -m tests.soak [--minutes 60] [--rate 20] [--seed 1]``: what an hour leaves behind."""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict

from tests.proofs.claims import broken
from tests.soak.claims import claims
from tests.soak.soak import Soaked, soaked

LEAST = 1.0  # minutes
FEW = 20  # errors that are told in full


def main() -> int:
    """Exit status 1 when a claim did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="What an hour under load leaves behind.")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=20.0, help="visits a second; some are more than one request")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--samples", action="store_true", help="prints each sample as it comes")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="for the server")
    asked = parser.parse_args()
    if asked.minutes < LEAST:
        parser.error(f"--minutes must be {LEAST:g} or more: less has no trend")
    start = time.monotonic()
    seen = soaked(
        minutes=asked.minutes,
        rate=asked.rate,
        seed=asked.seed,
        environ=dict(text.split("=", 1) for text in asked.env),
        told=lambda line: print(line, flush=True) if asked.samples else None,
    )
    print("\n".join(told(seen)))
    print(f"seed {asked.seed}, {asked.rate:g} visits a second, {time.monotonic() - start:.0f} s")
    made = claims(seen)
    for claim in made:
        print(claim)
    return 1 if broken(made) else 0


def told(seen: Soaked) -> list[str]:
    """What was asked, and what became of it."""
    rows: dict[str, dict[str, int]] = defaultdict(dict)
    for (kind, outcome), count in sorted(seen.tally.outcomes.items()):
        rows[kind][outcome] = count
    lines = [f"{seen.tally.requests} requests; visits began {seen.late:.2f} s late at most"]
    for kind, outcomes in rows.items():
        lines.append(f"  {kind:<26} " + "  ".join(f"{outcome}: {count}" for outcome, count in outcomes.items()))
    return lines + [f"  {what}" for what in [*seen.tally.unexpected, *seen.tally.broken[:FEW], *seen.traces[:FEW]]]


if __name__ == "__main__":
    sys.exit(main())
