"""``python -m benchmarks [PART …]``: prints the figures; those of all parts are kept in ``benchmarks/RESULTS.md``."""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sys
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import library, serve
from benchmarks.convert import measure as converting
from benchmarks.fleet import measure as routing
from benchmarks.gateway import measure
from benchmarks.report import Figure

PARTS: Mapping[str, Callable[[], Awaitable[list[Figure]]]] = {
    "serve": serve.figures,
    "library": library.figures,
    "gateway": measure.figures,
    "convert": converting.figures,
    "fleet": routing.figures,
}
RESULTS = Path(__file__).parent / "RESULTS.md"
HEAD = """# Results

The last run of `make bench`. Ratios count; absolute times belong to the machine of that day.

{date}, {cpus} CPUs, {machine}, Python {python}.

| figure | value | bar | met | |
|---|---|---|---|---|
{rows}
"""


def main() -> int:
    """Exit status 1 when a bar was missed; what could not be measured was neither met nor missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"any of {', '.join(PARTS)}; all where none is named")
    asked = parser.parse_args().parts
    if unknown := [part for part in asked if part not in PARTS]:
        parser.error(f"there is no part {unknown[0]}; there are {', '.join(PARTS)}")
    found = asyncio.run(figures(asked or list(PARTS)))
    for figure in found:
        print(figure)
    if not asked:
        write(found)
    return 1 if any(figure.met is False for figure in found) else 0


async def figures(parts: list[str]) -> list[Figure]:
    """Of these parts, one after the other."""
    return [figure for part in parts for figure in await PARTS[part]()]


def write(found: list[Figure]) -> None:
    """The page of results."""
    RESULTS.write_text(
        HEAD.format(
            date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            cpus=os.cpu_count(),
            machine=f"{platform.system()} {platform.machine()}",
            python=platform.python_version(),
            rows="\n".join(figure.row for figure in found),
        )
    )


if __name__ == "__main__":
    sys.exit(main())
