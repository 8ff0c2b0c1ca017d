"""llama.cpp's own HTTP server, with nothing of ours around it, as a server of the kind ``llamacpp``.

Usage: ``python -m tests.acceptance.bare_llama MODEL [generate|embed|rerank] [ALIAS]``. Prints its address, and ends
when its standard input does, or the process that started it.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import xllamacpp
from tests.acceptance.serving import PATIENCE, environment


@contextmanager
def bare_llama(model: Path, purpose: str = "generate", alias: str = "") -> Iterator[tuple[str, psutil.Process]]:
    """Its address, and its process."""
    command = [sys.executable, "-m", "tests.acceptance.bare_llama", str(model), purpose, alias]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment(), stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip(), psutil.Process(process.pid)
        finally:
            process.kill()
            process.wait(PATIENCE)


def main() -> None:
    """The command line."""
    model, purpose, alias = sys.argv[1:4]
    parameters = xllamacpp.CommonParams()
    parameters.model.path = model
    if alias:
        parameters.model_alias = {alias}
    with socket.socket() as free:  # this server says neither whether it took a port nor which
        free.bind(("127.0.0.1", 0))
        parameters.port = free.getsockname()[1]
    parameters.hostnames = ["127.0.0.1"]
    parameters.n_ctx = 1024
    parameters.n_parallel = 2
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    parameters.cache_prompt = False  # so that what it says does not rest on what it was asked before
    parameters.warmup = False
    parameters.ui = False
    parameters.verbosity = 1
    if purpose != "generate":
        parameters.embedding = True
        pooling = xllamacpp.llama_pooling_type
        parameters.pooling_type = (
            pooling.LLAMA_POOLING_TYPE_RANK if purpose == "rerank" else pooling.LLAMA_POOLING_TYPE_MEAN
        )
    server = xllamacpp.Server(parameters)  # ends with its last reference
    print(server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
