"""The ``ollama`` package of npm as a judge: ``npm/judge.mjs`` in Node (``make test`` installs the package)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.acceptance.serving import Served, verdicts_of

PACKAGE = Path(__file__).with_name("npm")
CHATS = ["chat", "stream", "tools", "schema", "unknown", "outOfRange", "abort"]
NAMES = ["list", "show", "ps", "generate", "embed", *CHATS]


@pytest.fixture(scope="module")
def verdicts(served: Served) -> dict[str, str]:
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js is not here; on Debian: sudo apt-get install npm")
    if not (PACKAGE / "node_modules" / "ollama").exists():
        pytest.skip("the npm package is not installed; `make test` does it where there is npm")
    return verdicts_of([node, str(PACKAGE / "judge.mjs"), served.url])


@pytest.mark.parametrize("name", NAMES)
def test_npm(name: str, verdicts: dict[str, str]) -> None:
    assert verdicts[name] == ""


def test_every_check_of_the_judge_is_named_here(verdicts: dict[str, str]) -> None:
    assert sorted(verdicts) == sorted(NAMES)


def test_the_client_that_left_has_freed_its_place(verdicts: dict[str, str], served: Served) -> None:
    assert verdicts["abort"] == ""
    assert [row["busy"] for row in served.running().values() if row["busy"]] == []
