"""``localmodels store`` and ``login`` beside a running server: neither stands in the other's way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ollama
import pytest
from tests.acceptance.serving import PATIENCE, Served, environment, serve
from tests.registry.docker import ABSENT, PROGRAM, docker_registry
from tests.registry.server import PASSWORD, USER

MODELS = 12


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def served(home: Path) -> Iterator[Served]:
    with serve(home=home) as served:
        yield served


def run(home: Path, *words: str, piped: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "localmodels", *words],
        input=piped,
        env={**environment(), "LOCALMODELS_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def make_old(store: Path) -> None:
    """Every blob looks as if it had been here for a day, so that only names and leases protect it."""
    then = time.time() - 86_400
    for blob in (store / "blobs").iterdir():
        os.utime(blob, (then, then))


def make_and_delete(served: Served) -> None:
    """Models of a base that is in the store, every second one deleted again."""
    with ollama.Client(host=served.url) as client:
        for number in range(MODELS):
            client.create(f"m{number}", from_="base", system=f"You are number {number}.")
            if number % 2:
                client.delete(f"m{number}")


def test_a_store_is_looked_after_while_models_come_and_go(served: Served, home: Path) -> None:
    with ollama.Client(host=served.url) as client:
        client.create("base", from_="localmodels")
        with ThreadPoolExecutor(1) as others:
            working = others.submit(make_and_delete, served)
            while True:
                last = working.done()
                for words in (["check"], ["repair"], ["gc"]):
                    make_old(home / "models")
                    done = run(home, "store", *words, "--json")
                    assert done.returncode == 0, done
                    assert [row for row in json.loads(done.stdout) if not row.get("harmless", True)] == []
                if last:
                    break
            working.result()
        assert {model.model for model in client.list().models} == {
            "localmodels:latest",
            "base:latest",
            *(f"m{number}:latest" for number in range(0, MODELS, 2)),
        }
        for number in range(0, MODELS, 2):
            assert f"You are number {number}." in (client.show(f"m{number}").modelfile or "")
        assert client.generate("m0", "a", raw=True, options={"num_predict": 2}).eval_count
    done = run(home, "store", "check", "--read-data")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (0, "the store is sound")


def test_a_login_is_used_by_a_server_that_runs(served: Served, home: Path, tmp_path: Path) -> None:
    if PROGRAM is None:
        pytest.skip(ABSENT)
    (tmp_path / "registry").mkdir()
    with docker_registry(tmp_path / "registry", login=True) as url, ollama.Client(host=served.url) as client:
        host = url.removeprefix("http://")
        client.create(f"{host}/me/m", from_="localmodels")
        with pytest.raises(ollama.ResponseError, match="log in"):
            client.push(f"{host}/me/m", insecure=True)
        done = run(home, "login", host, "--insecure", "-u", USER, "--password-stdin", piped=PASSWORD)
        assert done.returncode == 0, done.stderr
        assert client.push(f"{host}/me/m", insecure=True).status == "success"
        assert run(home, "logout", host, "--insecure").returncode == 0
    assert json.loads((home / "registries.json").read_text()) == {}
