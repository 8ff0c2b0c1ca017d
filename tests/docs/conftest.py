"""One server for all examples: the built-in model, the same file as ``mine``, and an Ollama store with ``smollm2``.

The reader has two folders, too: ``tuned``, as a training leaves it, and ``adapter``, which is one for it.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.docs.pages import Example
from tests.hostile_folders.bases import write_adapted
from tests.unit.store.ollama_store import OllamaStore
from tests.weight_folders import write_folder
from tools.random_model import write_random_model

from localmodels.store.shelves import builtin_path

PROGRAM = (sys.executable, "-m", "localmodels")
INTERPRETERS = {
    "python": (sys.executable, "-c"),
    "sh": ("bash", "-euo", "pipefail", "-c"),
    "bash": ("bash", "-euo", "pipefail", "-c"),
}
PATIENCE = 60  # seconds for one example; for machines that do much else
# The addresses that the pages name: our two default ports, and the one of seed 002.
ADDRESS = re.compile(r"(?:localhost|127\.0\.0\.1):(?:8000|11434|8090)")


@dataclass(frozen=True)
class Reader:
    """Somebody who follows the pages: a directory to work in, and a server that runs."""

    directory: Path
    environ: dict[str, str]
    address: str

    def follow(self, example: Example, more: Mapping[str, str]) -> str:
        """Runs the example as a reader would paste it, with ``more`` in his environment; what it printed."""
        code = ADDRESS.sub(self.address, example.code)
        command = (
            [sys.executable, "-c", code] if example.language == "python" else ["bash", "-euo", "pipefail", "-c", code]
        )
        done = subprocess.run(
            command,
            cwd=self.directory,
            env={**self.environ, **more},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, f"{example.place} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="session")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    directory = tmp_path_factory.mktemp("reader")
    environ = {**clean_environment(), "LOCALMODELS_HOME": str(directory / "home"), "PATH": path_with(directory / "bin")}
    mine = directory / "mine.gguf"
    mine.write_bytes(builtin_path().read_bytes())  # a file of its own: equal files share a runner
    ranks = write_random_model(directory / "reranker.gguf", rerank=True)
    write_folder(directory / "tuned", max_position_embeddings=4096)
    write_adapted(directory / "training")
    (directory / "training" / "adapter").rename(directory / "adapter")
    store = OllamaStore(directory / "ollama")
    store.add("smollm2:latest", builtin_path().read_bytes())
    command = [*PROGRAM, "serve", "--json", "--listen", "127.0.0.1:0"]
    command += ["--models", str(store.root), "--model", f"mine={mine}", "--default-model", "localmodels"]
    command += ["--model", f"reranker={ranks}"]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = json.loads(server.stdout.readline())["url"]
        yield Reader(directory, {**environ, "LOCALMODELS_HOST": url, "OLLAMA_HOST": url}, url.removeprefix("http://"))
        server.send_signal(signal.SIGTERM)
        assert server.wait(PATIENCE) == 0


def clean_environment() -> dict[str, str]:
    """The environment without what would steer the server or a client elsewhere."""
    steering = ("LOCALMODELS_", "OLLAMA_", "OPENAI_")
    return {name: value for name, value in os.environ.items() if not name.startswith(steering)}


def path_with(directory: Path) -> str:
    """A ``PATH`` on which ``localmodels`` is the program under test."""
    directory.mkdir()
    program = directory / "localmodels"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m localmodels "$@"\n')
    program.chmod(0o755)
    return f"{directory}{os.pathsep}{os.environ['PATH']}"
