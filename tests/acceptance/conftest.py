"""What every judge shares: models that were never trained, and one server with all of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.acceptance.serving import Served, serve
from tools.random_model import TINY, write_random_model

NEVER = -100.0  # a bias with which a turn never ends by itself

# No model knows its own name: whoever unloads or overfills one takes one that nobody else asks.
MODELS = {
    "tiny": {},
    "endless": {"end_bias": NEVER},
    "leaver": {"seed": 1, "end_bias": NEVER},
    "narrow": {"seed": 2, "end_bias": NEVER, "shape": replace(TINY, context=256)},
    "brief": {"seed": 4, "end_bias": 6.0},
    "embedder": {"seed": 3, "embedding": True},
    "reranker": {"seed": 5, "rerank": True},
}


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The files, by name."""
    directory = tmp_path_factory.mktemp("models")
    return {
        name: write_random_model(directory / f"{name}.gguf", **arguments)  # type: ignore[arg-type]
        for name, arguments in MODELS.items()
    }


@pytest.fixture(scope="session")
def served(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with every model, and the one that is built in."""
    flags = [word for name, file in models.items() for word in ("--model", f"{name}={file}")]
    with serve(*flags, "--default-model", "tiny", home=tmp_path_factory.mktemp("home")) as server:
        yield server
