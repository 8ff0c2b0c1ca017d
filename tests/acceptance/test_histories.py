"""Random histories of eight clients: each name's is one that could have been, and the store is sound (F4).

The long form, with a server that is killed again and again, is ``make histories``.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.awaited import awaited
from tests.histories.life import lived


@pytest.mark.parametrize("seed", [1, 2])
@awaited
async def test_a_history_could_have_been(tmp_path: Path, seed: int) -> None:
    life = await lived(tmp_path, steps=250, seed=seed)
    assert life.wrong == ()
    assert life.operations > 250


@awaited
async def test_a_history_with_a_kill_could_have_been(tmp_path: Path) -> None:
    life = await lived(tmp_path, steps=150, seed=3, kills=1)
    assert life.wrong == ()
