"""A model that is in memory and its files: what a deletion, a collection and a restart do to them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import ollama
import pytest
from tests.acceptance.serving import PATIENCE, Served, eventually, serve
from tools.random_model import write_random_model

from localmodels.core.catalog import Digest
from localmodels.store.model_store import ModelStore

DAY = 86_400.0


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def served(home: Path) -> Iterator[Served]:
    with serve(home=home) as served:
        yield served


@pytest.fixture
def digest(served: Served, tmp_path: Path) -> Digest:
    """Of the weights of a model, ``mine``."""
    file = write_random_model(tmp_path / "tiny.gguf", end_bias=-100, seed=11)
    with ollama.Client(host=served.url) as client:
        uploaded = client.create_blob(file)
        client.create("mine", files={"a.gguf": uploaded})
        client.create("also", files={"a.gguf": client.create_blob(write_random_model(tmp_path / "b.gguf"))})
    return Digest.parse(str(uploaded))


def age(home: Path) -> None:
    """Makes every file a day old: none has a grace any more."""
    then = time.time() - DAY
    for path in (home / "models").rglob("*"):
        os.utime(path, (then, then))


def here(served: Served, digest: Digest) -> bool:
    return httpx2.head(f"{served.url}/api/blobs/{digest}").status_code == 200


def leased(home: Path, digest: Digest) -> bool:
    """Does somebody's claim name the blob?"""
    claims = (home / "models" / ".localmodels").rglob("claim")
    return any(digest.hex in claim.read_text() for claim in claims)


def ask(served: Served, **options: object) -> dict[str, object]:
    asked = {"model": "mine", "prompt": "a", "raw": True, "stream": False, "options": {"num_predict": 1, **options}}
    answer: dict[str, object] = served.post("/api/generate", **asked).json()
    return answer


def test_a_deletion_waits_for_the_answer_and_then_takes_the_files_along(
    served: Served, home: Path, digest: Digest
) -> None:
    asked = {"model": "mine", "prompt": "a", "raw": True, "options": {"num_predict": -1}}
    with httpx2.stream("POST", f"{served.url}/api/generate", json=asked, timeout=PATIENCE) as answer:
        lines = answer.iter_lines()
        assert '"done":false' in next(lines)
        assert served.post("/api/show", model="mine").status_code == 200
        eventually(lambda: leased(home, digest), "the model's files are leased")  # which no load waits for
        assert httpx2.request("DELETE", f"{served.url}/api/delete", json={"model": "mine"}).status_code == 200
        assert "error" in ask(served)  # the name is gone at once
        age(home)
        other = ModelStore(home / "models")  # as another process has it
        assert digest in {one.digest for one in other.collect().leased}
        assert here(served, digest)
        for _ in range(20):
            assert '"done":false' in next(lines)  # and the answer goes on
    eventually(lambda: not here(served, digest), "the files are gone")
    assert not ModelStore(home / "models").check(read_data=True)


def test_a_deletion_of_an_idle_model_takes_it_out_of_memory_and_its_files_along(served: Served, digest: Digest) -> None:
    assert ask(served)["eval_count"] == 1
    assert "mine" in served.running()
    assert httpx2.request("DELETE", f"{served.url}/api/delete", json={"model": "mine"}).status_code == 200
    eventually(lambda: "mine" not in served.running(), "it is unloaded")
    eventually(lambda: not here(served, digest), "the files are gone")


def test_a_model_whose_manifest_was_lost_is_loaded_again_from_what_is_kept(
    served: Served, home: Path, digest: Digest
) -> None:
    """A collection of another process does not take what is in memory, though nothing names it any more."""
    assert ask(served)["eval_count"] == 1
    manifest = home / "models/manifests/registry.ollama.ai/library/mine/latest"
    text = manifest.read_bytes()
    manifest.unlink()
    age(home)
    ModelStore(home / "models").collect()
    manifest.write_bytes(text)
    assert ask(served, num_ctx=512)["eval_count"] == 1  # which loads it anew


def test_the_start_collects_what_a_killed_server_left(home: Path, tmp_path: Path) -> None:
    orphan = Digest("0" * 64)
    with serve(home=home) as served:
        file = write_random_model(tmp_path / "tiny.gguf", seed=12)
        with ollama.Client(host=served.url) as client:
            uploaded = Digest.parse(str(client.create_blob(file)))
            client.create("mine", files={"a.gguf": str(uploaded)}, system="Hi.")
        assert ask(served)["eval_count"] in {0, 1}
        served.process.send_signal(signal.SIGKILL)
        served.process.wait(PATIENCE)
    blobs = home / "models/blobs"
    (blobs / f"sha256-{orphan.hex}").write_bytes(b"what nobody names")
    age(home)
    (blobs / f"sha256-{'1' * 64}").write_bytes(b"what is just being made")
    with serve(home=home) as served:
        eventually(lambda: not (blobs / f"sha256-{orphan.hex}").exists(), "it is collected")
        eventually(lambda: not list((home / "models/.localmodels/leases").iterdir()), "the dead lease is cleared away")
        assert (blobs / f"sha256-{'1' * 64}").exists()
        assert ask(served)["eval_count"] in {0, 1}
