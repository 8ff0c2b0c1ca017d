"""The ``ollama`` package of npm as a judge of the library: ``npm/library.mjs`` in Node, with Debian's registry."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.acceptance.serving import serve, verdicts_of
from tests.acceptance.test_ollama_npm import PACKAGE
from tests.registry.docker import ABSENT, PROGRAM, docker_registry

NAMES = ["create", "show", "list", "copy", "push", "delete", "pull", "refusals"]


@pytest.fixture(scope="module")
def verdicts(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js is not here; on Debian: sudo apt-get install npm")
    if not (PACKAGE / "node_modules" / "ollama").exists():
        pytest.skip("the npm package is not installed; `make test` does it where there is npm")
    if PROGRAM is None:
        pytest.skip(ABSENT)
    home, root = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("registry")
    with (
        docker_registry(root, login=False) as registry,
        serve("--model", f"tiny={models['tiny']}", home=home) as served,
    ):
        script = str(PACKAGE / "library.mjs")
        return verdicts_of([node, script, served.url, registry.removeprefix("http://")])


@pytest.mark.parametrize("name", NAMES)
def test_npm_library(name: str, verdicts: dict[str, str]) -> None:
    assert verdicts[name] == ""


def test_every_check_of_the_judge_is_named_here(verdicts: dict[str, str]) -> None:
    assert sorted(verdicts) == sorted(NAMES)
