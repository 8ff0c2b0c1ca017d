"""Models in several files, uploaded or named with ``--model``: one file in the store, and it answers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import ollama
import pytest
from tests.acceptance.serving import Served, serve
from tests.split_gguf import split_gguf
from tools.random_model import write_random_model


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_model(tmp_path_factory.mktemp("whole") / "whole.gguf", type="q8_0", end_bias=-100)


@pytest.fixture(scope="module")
def parts(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return split_gguf(whole, tmp_path_factory.mktemp("parts"), "big", each=6)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def served(parts: list[Path], home: Path) -> Iterator[Served]:
    with serve("--model", f"named={parts[0]}", home=home) as served:
        yield served


@pytest.fixture
def client(served: Served) -> Iterator[ollama.Client]:
    with ollama.Client(host=served.url) as client:
        yield client


def answer(client: ollama.Client, model: str) -> str:
    options = {"num_predict": 8, "temperature": 0, "seed": 1}
    return client.generate(model, "a", raw=True, options=options).response or ""


def test_uploaded_parts_answer_as_the_split_model_does(
    client: ollama.Client, parts: list[Path], whole: Path, home: Path
) -> None:
    files = {part.name: client.create_blob(part) for part in reversed(parts)}
    steps = list(client.create("mine", files=files, stream=True))
    merging = [step for step in steps if step.status == "merging 4 files"]
    assert merging
    assert merging[-1].total == whole.stat().st_size
    assert steps[-1].status == "success"
    digest = hashlib.sha256(whole.read_bytes()).hexdigest()
    assert (home / "models" / "blobs" / f"sha256-{digest}").read_bytes() == whole.read_bytes()
    assert answer(client, "mine") == answer(client, "named")


def test_a_split_model_can_be_a_base_and_a_source(client: ollama.Client) -> None:
    client.create("child", from_="named", system="Be brief.")
    assert client.copy("named", "copied").status == "success"
    assert answer(client, "child") == answer(client, "copied") == answer(client, "named")


def test_a_missing_part_is_named(served: Served, client: ollama.Client, parts: list[Path]) -> None:
    files = {part.name: client.create_blob(part) for part in parts if "00003" not in part.name}
    refused = served.post("/api/create", model="torn", files=files, stream=False)
    assert refused.status_code == 400
    assert refused.json()["error"] == "of the 4 parts of the model there are missing: big-00003-of-00004.gguf"
