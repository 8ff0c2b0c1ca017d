"""The crash harness: a few of its points on the store, and proof that it sees what it looks for.

The whole sweep is ``python -m tools.crash``; it takes minutes and runs by itself.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from tools.crash.operations import OPERATIONS
from tools.crash.plain import DEFECTS
from tools.crash.sweep import Violation, attempt, chosen, points

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not here")

# Where each defect shows first, so that a test of it takes a second or two; the command tries all operations.
SHOWS = {
    "DeletesBlobs": "delete",
    "BlobsFirst": "delete",
    "GreedyCollector": "collect",
    "BlockedCollector": "collect",
    "Litters": "recover",
    "SaysTooMuch": "copy",
    "RemovesFirst": "replace",
}


def first(stock: str, operation: str, work: Path) -> Violation | None:
    """The first violation, of the undisturbed operation, of kills, then of errors."""
    for errors in (False, True):
        found, shown = points(stock, operation, errors=errors, work=work)
        if shown:
            return shown[0]
        for point in found:
            if broken := attempt(point, work):
                return broken[0]
    return None


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("errors", [False, True], ids=["kills", "errors"])
def test_a_few_points_of_every_operation(operation: str, errors: bool, tmp_path: Path) -> None:
    found, shown = points(OPERATIONS[operation], operation, errors=errors, work=tmp_path)
    assert shown == []
    assert len(found) > 50
    tried = map(partial(attempt, work=tmp_path), chosen(found, 12, seed=1))
    assert [violation for broken in tried for violation in broken] == []


@pytest.mark.parametrize("defect", DEFECTS)
def test_every_known_defect_is_caught(defect: str, tmp_path: Path) -> None:
    assert first(defect, SHOWS.get(defect, "create"), tmp_path) is not None


def test_the_sound_stock_that_they_are_made_from_is_not(tmp_path: Path) -> None:
    assert first("Plain", "copy", tmp_path) is None


def test_the_command_ends_with_what_it_found() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tools.crash", "--points", "5", "--operations", "copy", "--jobs", "1"],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "5 points of" in ended.stdout
