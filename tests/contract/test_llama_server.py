"""A ``llama-server`` of the user's own behind the same interface: it loads, answers, shares a prefix and leaves.

It needs the program: ``LOCALMODELS_TEST_LLAMA_SERVER=PATH``, or one on the search path; else the tests are skipped.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import psutil
import pytest
from tools.random_model import TINY, write_random_model

from localmodels.artifacts.gguf import read_header
from localmodels.core.catalog import Model
from localmodels.core.chat import Answer, ChatRequest, Message, Text, fold
from localmodels.core.errors import LoadFailed
from localmodels.core.options import Options
from localmodels.engine.hardware import Hardware
from localmodels.engine.housing import Housing
from localmodels.engine.loadable import Load, Loadable, Loader
from localmodels.engine.pool import Build, Pool
from localmodels.engine.scheduler import Limits, Scheduler

BINARY = os.environ.get("LOCALMODELS_TEST_LLAMA_SERVER") or shutil.which("llama-server") or ""
GIB = 2**30
HARDWARE = Hardware(cpus=2, cores=2, memory_total=8 * GIB, memory_available=8 * GIB)

needs_binary = pytest.mark.skipif(not BINARY, reason="no llama-server here; set LOCALMODELS_TEST_LLAMA_SERVER=PATH")


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    model = write_random_model(tmp_path_factory.mktemp("models") / "tiny.gguf", shape=TINY)
    loadable = Loadable("tiny", Model("tiny:latest", 1, "d", ""), str(model), read_header(model))
    return Loader(HARDWARE, Options(num_parallel=4)).load(loadable, "generate", Options())


async def ask(pool: Pool, load: Load, text: str) -> Answer:
    request = ChatRequest("tiny", (Message("user", (Text(text),)),), options=Options(num_predict=8, temperature=0.0))
    async with pool.lease(load, keep_alive=None, patience=60.0) as backend:
        return await fold(backend.chat(request))


@needs_binary
def test_it_answers_shares_a_prefix_and_leaves_nothing(load: Load) -> None:
    async def run() -> tuple[list[Answer], list[psutil.Process]]:
        housing = Housing()
        pool = Pool(Scheduler(Limits(memory=4 * GIB)), housing, Build(binary=BINARY))
        try:
            answers = [await ask(pool, load, "Hello!")]
            prefix = "the same long beginning of every question, " * 40
            answers += await asyncio.gather(*(ask(pool, load, f"{prefix}{number}?") for number in range(4)))
            children = psutil.Process().children(recursive=True)
        finally:
            await pool.close()
            housing.close()
        return answers, children

    answers, children = asyncio.run(run())
    assert all(answer.done.usage.completion_tokens for answer in answers)
    first, *others = sorted(answer.done.usage.cached_tokens for answer in answers[1:])
    assert first < 0.1 * answers[1].done.usage.prompt_tokens  # nobody had computed it before
    assert min(others) > 0.9 * answers[1].done.usage.prompt_tokens
    assert len(children) == 2  # the program and its keeper
    _, alive = psutil.wait_procs(children, timeout=2)
    assert alive == []


@needs_binary
def test_a_broken_file_is_refused_with_its_own_words(load: Load, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(Path(load.loadable.path).read_bytes()[:-4096])
    broken = Load(Loadable("cut", load.loadable.model, str(cut), load.loadable.header), "generate", load.plan)

    async def run() -> None:
        housing = Housing()
        pool = Pool(Scheduler(Limits(memory=4 * GIB)), housing, Build(binary=BINARY))
        try:
            await ask(pool, broken, "Hello!")
        finally:
            await pool.close()
            housing.close()

    with pytest.raises(LoadFailed, match="llama-server ended"):
        asyncio.run(run())


def test_a_program_that_is_not_there_is_named(load: Load) -> None:
    async def run() -> None:
        housing = Housing()
        pool = Pool(Scheduler(Limits(memory=4 * GIB)), housing, Build(binary="/nowhere/llama-server"))
        try:
            await ask(pool, load, "Hello!")
        finally:
            await pool.close()
            housing.close()

    with pytest.raises(LoadFailed, match="llama-server"):
        asyncio.run(run())
