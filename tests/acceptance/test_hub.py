"""Models of Hugging Face's hub, pulled by Ollama's client from a hub of ours and asked; and who may see them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ollama
import psutil
import pytest
from tests.acceptance.serving import Served, serve
from tests.registry.hub import TOKEN, Hub
from tests.registry.threads import in_a_thread
from tests.split_gguf import split_gguf
from tools.random_model import write_random_model

NAME = "hf.co/me/Tiny-GGUF"
REPO = "me/Tiny-GGUF"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Contents by quantisation, each of another model."""
    directory = tmp_path_factory.mktemp("weights")
    return {
        label: write_random_model(directory / f"{label}.gguf", type=kind, seed=seed, end_bias=-100).read_bytes()
        for seed, (label, kind) in enumerate({"Q8_0": "q8_0", "F16": "f16", "Q4_K_M": "q4_0"}.items())
    }


@pytest.fixture(scope="module")
def hub(weights: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    directory = tmp_path_factory.mktemp("split")
    with in_a_thread(Hub()) as hub:
        hub.put(REPO, "README.md", b"# Tiny", lfs=False)
        hub.put(REPO, "Tiny-Q8_0.gguf", weights["Q8_0"])
        hub.put(REPO, "Tiny-Q4_K_M.gguf", weights["Q4_K_M"], lfs=False)
        (directory / "f16.gguf").write_bytes(weights["F16"])
        for part in split_gguf(directory / "f16.gguf", directory, "Tiny-F16"):
            hub.put(REPO, f"F16/{part.name}", part.read_bytes())
        hub.put(REPO, "system", b"You are tiny.", lfs=False)
        hub.put(REPO, "params", b'{"temperature": 0.25, "stop": ["END"]}', lfs=False)
        hub.put("me/secret", "s-Q8_0.gguf", weights["Q8_0"])
        hub.private.add("me/secret")
        yield hub


@contextmanager
def served_beside(hub: Hub, home: Path, token: str = "") -> Iterator[Served]:
    """A server to which this hub is Hugging Face's, as whoever runs a mirror tells every program."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", hub.url)
        patch.delenv("HF_TOKEN", raising=False)
        if token:
            patch.setenv("HF_TOKEN", token)
        # Its storage is on the local network too, and has to be named: nothing else is reached there.
        with serve("--trusted-origin", f"hf.co={hub.storage}", home=home) as served:
            yield served


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def served(hub: Hub, home: Path) -> Iterator[Served]:
    with served_beside(hub, home) as served:
        yield served


@pytest.fixture
def client(served: Served) -> Iterator[ollama.Client]:
    with ollama.Client(host=served.url) as client:
        yield client


def blobs(home: Path) -> dict[str, bytes]:
    return {blob.name: blob.read_bytes() for blob in (home / "models" / "blobs").iterdir()}


def manifest_of(home: Path, tag: str) -> dict[str, object]:
    path = home / "models" / "manifests" / "hf.co" / "me" / "Tiny-GGUF" / tag
    manifest: dict[str, object] = json.loads(path.read_bytes())
    return manifest


def test_a_model_is_pulled_by_its_quantisation_and_answers(
    client: ollama.Client, hub: Hub, home: Path, weights: dict[str, bytes]
) -> None:
    steps = list(client.pull(f"{NAME}:q8_0", stream=True))
    said = [step.status or "" for step in steps]
    assert said[0] == "pulling manifest"
    assert said[-3:] == ["verifying sha256 digest", "writing manifest", "success"]
    digest = hashlib.sha256(weights["Q8_0"]).hexdigest()
    arriving = [step for step in steps if step.digest == f"sha256:{digest}"]
    assert (arriving[-1].completed, arriving[-1].total) == (len(weights["Q8_0"]), len(weights["Q8_0"]))
    assert blobs(home)[f"sha256-{digest}"] == weights["Q8_0"]
    assert client.generate(f"{NAME}:q8_0", "a", raw=True, options={"num_predict": 3}).eval_count == 3
    shown = client.show(f"{NAME}:q8_0")
    assert "You are tiny." in (shown.modelfile or "")
    assert dict(line.split(None, 1) for line in (shown.parameters or "").splitlines())["temperature"] == "0.25"
    config = json.loads(blobs(home)[str(manifest_of(home, "q8_0")["config"]["digest"]).replace(":", "-")])  # type: ignore[index]
    assert config["localmodels"] == {
        "repository": NAME,
        "commit": hub.commit(REPO),
        "parts": [f"sha256:{digest}"],
    }


def test_again_it_fetches_nothing_that_is_here(client: ollama.Client, hub: Hub) -> None:
    client.pull(f"{NAME}:q8_0")
    before = hub.count("storage")
    assert client.pull(f"{NAME}:q8_0").status == "success"
    assert hub.count("storage") == before


def test_without_a_tag_it_is_the_usual_one_also_where_it_lies_in_git(
    client: ollama.Client, home: Path, weights: dict[str, bytes]
) -> None:
    assert client.pull(NAME).status == "success"
    assert weights["Q4_K_M"] in blobs(home).values()
    assert client.generate(NAME, "a", raw=True, options={"num_predict": 2}).eval_count == 2
    assert f"{NAME}:latest" in {model.model for model in client.list().models}


def test_a_split_model_becomes_one_file_and_is_not_fetched_twice(
    client: ollama.Client, hub: Hub, home: Path, weights: dict[str, bytes]
) -> None:
    before = hub.count("storage")
    said = [step.status for step in client.pull(f"{NAME}:F16", stream=True)]
    assert "merging 3 files" in said
    assert said[-1] == "success"
    [model, *others] = manifest_of(home, "F16")["layers"]  # type: ignore[misc]
    assert model["mediaType"] == "application/vnd.ollama.image.model"  # type: ignore[has-type]
    assert blobs(home)[model["digest"].replace(":", "-")] == weights["F16"]  # type: ignore[has-type]
    assert [layer["mediaType"].rpartition(".")[2] for layer in others] == ["system", "params"]  # type: ignore[has-type]
    # The parts are gone.
    parts = [content for path, content in hub.repositories[REPO].items() if path.startswith("F16/")]
    assert not {f"sha256-{part.sha256}" for part in parts} & blobs(home).keys()
    assert client.generate(f"{NAME}:F16", "a", raw=True, options={"num_predict": 2}).eval_count == 2
    fetched = hub.count("storage")
    assert fetched > before
    assert "merging 3 files" not in [step.status for step in client.pull(f"{NAME}:F16", stream=True)]
    assert hub.count("storage") == fetched


def test_what_there_is_not_is_said_with_what_there_is(served: Served) -> None:
    answer = served.post("/api/pull", model=f"{NAME}:Q2_K", stream=False)
    assert answer.status_code == 404
    assert answer.json()["error"] == f"{NAME} has no 'Q2_K'; there are: F16, Q4_K_M, Q8_0"
    answer = served.post("/api/pull", model="hf.co/me/nothing", stream=False)
    assert (answer.status_code, "has no me/nothing" in answer.json()["error"]) == (404, True)


def test_nothing_is_pushed_there(client: ollama.Client) -> None:
    client.pull(f"{NAME}:q8_0")
    with pytest.raises(ollama.ResponseError, match="hf upload"):
        client.push(f"{NAME}:q8_0")


def test_what_is_private_needs_a_token_that_nobody_else_sees(
    served: Served, hub: Hub, tmp_path: Path, weights: dict[str, bytes]
) -> None:
    answer = served.post("/api/pull", model="huggingface.co/me/secret", stream=False)
    assert (answer.status_code, "HF_TOKEN" in answer.json()["error"]) == (404, True)
    with served_beside(hub, tmp_path, TOKEN) as ours, ollama.Client(host=ours.url) as client:
        assert client.pull("huggingface.co/me/secret").status == "success"
        assert client.generate("huggingface.co/me/secret", "a", raw=True, options={"num_predict": 1}).done
        assert weights["Q8_0"] in blobs(tmp_path).values()
        for runner in ours.runners():
            assert TOKEN not in environment_of(runner)
    assert not [visit for visit in hub.visits if visit.kind == "storage" and "authorization" in visit.asked.headers]


def environment_of(process: psutil.Process) -> str:
    return os.fsdecode(Path(f"/proc/{process.pid}/environ").read_bytes()) if Path("/proc").exists() else ""
