"""One changed byte anywhere in a model: the load is refused by name, nobody else is disturbed, a pull heals (F18)."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.serving import Served, serve
from tests.registry.models import Model, layer, stock
from tests.registry.server import DOCKER, Registry
from tests.registry.threads import in_a_thread
from tools.random_model import write_random_model

TEXTS = {
    "template": b"{{ .System }}{{ .Prompt }}",
    "system": b"Be brief.",
    "params": b'{"temperature": 0.5}',
    "license": b"Do what you want.",
    "future": b"a layer of a kind that nobody knows yet",
}
CONFIG = b'{"model_format":"gguf","model_family":"llama","model_type":"1M","file_type":"F32"}'
FILES = ("manifest", "config", "model", *TEXTS)


def packed(weights: bytes) -> Model:
    """A model of these weights with a layer of every kind."""
    layers = [layer("application/vnd.ollama.image.model", weights)]
    layers += [layer(f"application/vnd.ollama.image.{kind}", text) for kind, text in TEXTS.items()]
    config = layer("application/vnd.docker.container.image.v1+json", CONFIG)
    document = {"schemaVersion": 2, "mediaType": DOCKER, "config": config, "layers": layers}
    return Model(json.dumps(document).encode(), (CONFIG, weights, *TEXTS.values()))


class Place:
    """A server, the registry that it pulls from, and the files of one model."""

    def __init__(self, served: Served, registry: Registry, home: Path, weights: bytes) -> None:
        self.served = served
        self.registry = registry
        self.name = f"127.0.0.1:{registry.port}/library/tiny"
        self.root = home / "models"
        self.contents = {"config": CONFIG, "model": weights, **TEXTS}

    def path(self, file: str) -> Path:
        if file == "manifest":
            return self.root / "manifests" / f"127.0.0.1:{self.registry.port}" / "library/tiny/latest"
        return self.root / "blobs" / f"sha256-{hashlib.sha256(self.contents[file]).hexdigest()}"

    def pull(self) -> None:
        answer = self.served.post("/api/pull", model=self.name, insecure=True, stream=False)
        assert answer.json() == {"status": "success"}, answer.text

    def ask(self, model: str = "") -> dict[str, Any]:
        asked = {"model": model or self.name, "prompt": "a", "raw": True, "stream": False}
        answer: dict[str, Any] = self.served.post("/api/generate", **asked, options={"num_predict": 1}).json()
        return answer

    def flip(self, file: str, at: int) -> None:
        data = bytearray(self.path(file).read_bytes())
        data[at] ^= 1 << (at % 8)
        with self.path(file).open("r+b") as stream:
            stream.seek(at)
            stream.write(data[at : at + 1])

    def fetched(self) -> int:
        return self.registry.count("blob", "GET")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    home = tmp_path_factory.mktemp("home")
    file = write_random_model(tmp_path_factory.mktemp("files") / "tiny.gguf", end_bias=-100, seed=5)
    with in_a_thread(Registry()) as registry, serve("--model", f"bystander={file}", home=home) as served:
        stock(registry, packed(file.read_bytes()))
        place = Place(served, registry, home, file.read_bytes())
        place.pull()
        yield place


@pytest.mark.parametrize("file", FILES)
def test_a_changed_byte_is_found_and_healed(place: Place, file: str) -> None:
    assert place.ask()["eval_count"] == 1
    chance = random.Random(file)
    size = place.path(file).stat().st_size
    for at in (0, size - 1, *(chance.randrange(size) for _ in range(3))):
        place.flip(file, at)
        refused = place.ask()
        assert "response" not in refused
        if file != "manifest":
            assert place.path(file).name in refused["error"]
        assert "pull" in refused["error"]
        assert place.ask("bystander")["eval_count"] == 1
        before = place.fetched()
        place.pull()
        assert place.fetched() - before == (file != "manifest")  # what is whole is not fetched again
    assert place.ask()["eval_count"] == 1
    blobs = sorted(place.path("config").parent.iterdir())
    assert [hashlib.sha256(path.read_bytes()).hexdigest() for path in blobs] == [path.name[7:] for path in blobs]


def test_a_model_whose_file_changes_while_it_is_loaded_is_refused_too(place: Place) -> None:
    assert place.ask()["eval_count"] == 1
    assert len(place.served.running()) >= 1
    place.flip("model", place.path("model").stat().st_size // 2)
    assert place.path("model").name in place.ask()["error"]
    place.pull()
    assert place.ask()["eval_count"] == 1


def test_without_the_policy_nothing_is_read(place: Place, tmp_path: Path) -> None:
    """``--verify never`` is as trusting as Ollama."""
    (tmp_path / "models").symlink_to(place.root)
    place.flip("model", place.path("model").stat().st_size - 1)
    try:
        with serve("--verify", "never", home=tmp_path) as trusting:
            answer = trusting.post(
                "/api/generate", model=place.name, prompt="a", raw=True, stream=False, options={"num_predict": 1}
            )
        assert answer.json()["eval_count"] == 1
        assert place.path("model").name in place.ask()["error"]
    finally:
        place.pull()
