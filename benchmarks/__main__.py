"""``python -m benchmarks``: runs them all, prints the figures, writes ``benchmarks/RESULTS.md``."""

from __future__ import annotations

import asyncio
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import library, serve

RESULTS = Path(__file__).parent / "RESULTS.md"
HEAD = """# Results

The last run of `make bench`. Ratios count; absolute times belong to the machine of that day.

{date}, {cpus} CPUs, {machine}, Python {python}.

| figure | value | bar | met | |
|---|---|---|---|---|
{rows}
"""


def main() -> int:
    """Exit status 1 when a bar was missed."""
    found = asyncio.run(serve.figures()) + asyncio.run(library.figures())
    for figure in found:
        print(figure)
    RESULTS.write_text(
        HEAD.format(
            date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            cpus=os.cpu_count(),
            machine=f"{platform.system()} {platform.machine()}",
            python=platform.python_version(),
            rows="\n".join(figure.row for figure in found),
        )
    )
    return 0 if all(figure.met for figure in found) else 1


if __name__ == "__main__":
    sys.exit(main())
