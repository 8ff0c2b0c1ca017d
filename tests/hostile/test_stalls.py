"""Who holds the loop up is named."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from tests.hostile.stalls import LONG, Stall, Watching, read


def dawdle() -> None:
    time.sleep(4 * LONG)


def seen(file: Path) -> list[Stall]:
    """Those by whom it was done."""
    stalls = read(file) if file.exists() else []
    return [stall for stall in stalls if any("dawdle" in frame for _, _, frames in stall.stacks for frame in frames)]


async def held_up(file: Path) -> None:
    """Until it was seen."""
    while not seen(file):
        dawdle()
        await asyncio.sleep(LONG)


def test_a_callback_that_takes_long_is_seen_with_its_stack(tmp_path: Path) -> None:
    file = tmp_path / "stalls"
    Watching(file).start()
    with asyncio.Runner() as runner:
        runner.run(asyncio.wait_for(held_up(file), 60))
    assert seen(file)[0].took >= LONG
    assert "MainThread" in str(seen(file)[0])
