"""Corrupt, truncated and hostile model files through the whole server: a clear error, and nothing else is disturbed.

All kinds of ``tests/hostile_gguf.py`` are offered by name to one server beside a good model. Whatever the file does to
whoever reads it, the caller gets an error that names the file, the good model goes on answering, and no runner is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx2
import psutil
import pytest
from tests.acceptance.serving import Served, serve
from tests.hostile_gguf import HOSTILE, PASSES
from tools.random_model import write_random_model

# These pass every look at the file and then keep the engine busy or end it; the load's time limit must end them.
NAMES = {kind: f"h{number}" for number, kind in enumerate(sorted(HOSTILE))}
REFUSED_UNREAD = [kind for kind in sorted(HOSTILE) if kind not in PASSES]
HANDED_ON = [kind for kind in sorted(HOSTILE) if PASSES.get(kind) in {"refused", "dies"}]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Path]]:
    directory = tmp_path_factory.mktemp("hostile")
    good = directory / "good.gguf"
    write_random_model(good)
    whole = good.read_bytes()
    flags = ["--model", f"good={good}", "--load-timeout", "5s"]
    for kind, make in HOSTILE.items():
        file = directory / f"{NAMES[kind]}.gguf"
        file.write_bytes(make(whole))
        flags += ["--model", f"{NAMES[kind]}={file}"]
    with serve(*flags, home=directory / "home") as served:
        yield served, directory


def ask(served: Served, model: str) -> httpx2.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": False}
    return httpx2.post(f"{served.url}/api/chat", json={**body, "options": {"num_predict": 4}}, timeout=60)


def test_there_are_at_least_sixty_kinds() -> None:
    assert len(HOSTILE) >= 60


@pytest.mark.parametrize("kind", REFUSED_UNREAD)
def test_a_file_that_the_parser_refuses_never_reaches_the_engine(kind: str, hostile: tuple[Served, Path]) -> None:
    served, directory = hostile
    response = ask(served, NAMES[kind])
    assert response.status_code == 500
    error = response.json()["error"]
    assert f"{NAMES[kind]}.gguf" in error or NAMES[kind] in error
    assert str(directory) not in error
    assert psutil.Process(served.pid).children() == []


@pytest.mark.parametrize("kind", HANDED_ON)
def test_a_file_that_ends_the_engine_costs_its_own_request_only(kind: str, hostile: tuple[Served, Path]) -> None:
    served, directory = hostile
    response = ask(served, NAMES[kind])
    assert response.status_code in ({500} if PASSES[kind] == "dies" else {200, 400, 500})
    assert str(directory) not in response.text
    assert ask(served, "good").status_code == 200


def test_the_good_model_and_the_list_are_untouched(hostile: tuple[Served, Path]) -> None:
    served, _ = hostile
    names = {model["name"] for model in httpx2.get(f"{served.url}/api/tags", timeout=60).json()["models"]}
    assert "good:latest" in names
    assert not names & {f"{NAMES[kind]}:latest" for kind in REFUSED_UNREAD}
    assert ask(served, "good").status_code == 200
    health = httpx2.get(f"{served.url}/health", timeout=60).json()
    assert health["status"] == "degraded"
    assert len(health["notes"]) >= len(REFUSED_UNREAD)
