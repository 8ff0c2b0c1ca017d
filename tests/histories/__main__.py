"""``python -m tests.histories [--steps N] [--seed N] [--kills N]``: a long history, with a server that is killed."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tests.histories.life import lived


def main() -> int:
    """Lives it; 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.histories", description="Random clients of one server.")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--kills", type=int, default=5, help="how often the server is killed meanwhile")
    asked = parser.parse_args()
    print(f"seed {asked.seed}", flush=True)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        life = asyncio.run(lived(Path(directory), steps=asked.steps, seed=asked.seed, kills=asked.kills))
    took = time.monotonic() - start
    print(f"{life.steps} steps, {life.operations} operations on names, {len(life.wrong)} wrong, {took:.0f} s")
    for what in life.wrong:
        print(f"  {what}")
    return 1 if life.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
