"""What the tests of the store share: an empty store in Ollama's layout, and the bytes of a sound model."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.store.ollama_store import OllamaStore, write_adapter, write_gguf, write_projector


@pytest.fixture
def store(tmp_path: Path) -> OllamaStore:
    return OllamaStore(tmp_path / "models")


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf").read_bytes()


@pytest.fixture(scope="session")
def projector(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_projector(tmp_path_factory.mktemp("gguf") / "mmproj.gguf").read_bytes()


@pytest.fixture(scope="session")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_adapter(tmp_path_factory.mktemp("gguf") / "lora.gguf").read_bytes()
