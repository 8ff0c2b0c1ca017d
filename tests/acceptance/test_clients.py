"""LangChain's and ``llm``'s clients as judges, in an environment of their own (``make test`` makes it)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.acceptance.serving import Served, serve, verdicts_of

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("CLIENTS_PYTHON", ROOT / ".venv-clients" / "bin" / "python"))
LLM = "whole stream awaited conversation tools schema embed errors"
NAMES = [
    f"{judge}: {check}"
    for judge, checks in {
        "langchain": "whole stream awaited text tools schema embed models errors",
        "llm chat": LLM,
        "llm responses": LLM,
        "llm ollama": LLM,
        "llm program": "prompt chat schema tools completion models endpoint embed errors",
    }.items()
    for check in checks.split()
]


@pytest.fixture(scope="module")
def named(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that has a model under a name of OpenAI's, which a client may ask for and no other."""
    if not PYTHON.exists():
        pytest.skip(f"the clients' environment is not here ({PYTHON}); `make test` makes it")
    used = ("tiny", "endless", "narrow", "embedder")
    flags = [word for name in used for word in ("--model", f"{name}={models[name]}")]
    with serve(*flags, "--alias", "text-embedding-3-small=embedder", home=tmp_path_factory.mktemp("home")) as server:
        yield server


@pytest.fixture(scope="module")
def verdicts(named: Served) -> dict[str, str]:
    judges = (Path(__file__).with_name(f"{name}_judge.py") for name in ("langchain", "llm"))
    told: dict[str, str] = {}
    for judge in judges:
        told |= verdicts_of([str(PYTHON), "-I", str(judge), named.url])
    return told


@pytest.mark.parametrize("name", NAMES)
def test_clients(name: str, verdicts: dict[str, str]) -> None:
    assert verdicts[name] == ""


def test_every_check_of_the_judges_is_named_here(verdicts: dict[str, str]) -> None:
    assert sorted(verdicts) == sorted(NAMES)
