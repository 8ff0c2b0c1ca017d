"""Starts what is measured: our server as a user starts it, and a runner alone with the very same configuration."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from tools.random_model import QWEN_HALF_B, write_random_model

from localmodels.artifacts.gguf import read_header
from localmodels.core.catalog import Model
from localmodels.core.options import Options
from localmodels.engine.hardware import probe
from localmodels.engine.housing import Housing
from localmodels.engine.loadable import Loadable, Loader
from localmodels.engine.process import Process
from localmodels.server.housed import PROMPTS_MOST, PROMPTS_SHARE, memory_for_models

CACHE = Path(__file__).parent.parent / ".cache"


def half_b() -> Path:
    """A random model shaped like Qwen2-0.5B whose answers never end by themselves; made once."""
    file = CACHE / "half-b-q8_0.gguf"
    if not file.exists():
        CACHE.mkdir(exist_ok=True)
        print(f"making {file.name} …", file=sys.stderr)
        write_random_model(file, shape=QWEN_HALF_B, type="q8_0", end_bias=-100.0)
    return file


@dataclass(frozen=True)
class Server:
    """Our server. ``started`` is seconds from its start until it said that it listens."""

    url: str
    pid: int
    started: float


@asynccontextmanager
async def server(*models: Path, parallel: int) -> AsyncIterator[Server]:
    """``localmodels serve`` in a process of its own, with a home that is thrown away."""
    with TemporaryDirectory() as home:
        words = ["serve", "--json", "--home", home, "--listen", "127.0.0.1:0", "--num-parallel", str(parallel)]
        for model in models:
            words += ["--model", f"bench={model}"]
        start = perf_counter()
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "localmodels", *words, stdout=asyncio.subprocess.PIPE, env=os.environ
        )
        try:
            assert child.stdout is not None
            line = json.loads(await child.stdout.readline())
            yield Server(line["url"], child.pid, perf_counter() - start)
        finally:
            child.terminate()
            await child.wait()


@asynccontextmanager
async def bare_runner(model: Path, *, parallel: int) -> AsyncIterator[str]:
    """A runner alone, configured as the server would; its socket."""
    loadable = Loadable("bench", Model("bench", 0, "", ""), str(model), read_header(model))
    machine = probe()
    load = Loader(machine, Options(num_parallel=parallel)).load(loadable, "generate", Options())
    housing = Housing()
    cache_ram = min(memory_for_models(machine) // PROMPTS_SHARE, PROMPTS_MOST)
    config = load.config(housing.room("bare"), binary="", cache_ram=cache_ram)
    process = await Process.start(config)
    try:
        await process.ready()
        yield config.socket
    finally:
        await process.stop()
        housing.close()
