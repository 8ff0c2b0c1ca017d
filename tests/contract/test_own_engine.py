"""This program's own engine as a host of the fleet: what it tells, and how its memory is freed; with real runners."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.awaited import awaited
from tools.random_model import write_random_model

from localmodels.core.catalog import ModelName
from localmodels.core.chat import EmbedRequest, GenerateRequest
from localmodels.core.errors import Conflict, ModelNotFound
from localmodels.core.options import Options
from localmodels.engine.hardware import Gpu, Hardware
from localmodels.engine.housing import Housing
from localmodels.engine.loadable import Loader
from localmodels.engine.pool import Build, Pool
from localmodels.engine.scheduler import Limits, Scheduler
from localmodels.flows.answering.local_models import Local
from localmodels.flows.servers.own_engine import Here
from localmodels.flows.visit import Visit
from localmodels.store.library import Library
from localmodels.store.shelves import FileShelf, ModelFiles

GIB = 2**30
# A graphics card that the plans go by; the engine of this machine computes on the processor all the same.
CARD = Gpu("card", 0, 8 * GIB, 8 * GIB, "cuda")
HARDWARE = Hardware(cpus=2, cores=2, memory_total=8 * GIB, memory_available=8 * GIB, gpus=(CARD,))
NAME = "tiny:latest"


class Stage:
    """An engine with one model."""

    def __init__(self, directory: Path, housing: Housing, *, patience: float) -> None:
        file = write_random_model(directory / "tiny.gguf", end_bias=-100.0)
        library = Library([FileShelf({ModelName.parse("tiny"): ModelFiles(file)})])
        self.pool = Pool(Scheduler(Limits(memory=4 * GIB)), housing, Build())
        self.local = Local(library, self.pool, Loader(HARDWARE, Options(num_ctx=512)), patience=60.0)
        self.here = Here(library, self.pool, self.local, patience=patience)

    @asynccontextmanager
    async def asked(self, request: GenerateRequest | EmbedRequest) -> AsyncIterator[None]:
        """The model answers a request."""
        target = await self.local.find("tiny")
        async with target.ready(request, Visit()):
            yield

    async def load(self) -> None:
        async with self.asked(GenerateRequest("tiny")):
            pass


@asynccontextmanager
async def stage(directory: Path, *, patience: float = 20.0) -> AsyncIterator[Stage]:
    housing = Housing()
    try:
        made = Stage(directory, housing, patience=patience)
        try:
            yield made
        finally:
            await made.pool.close()
    finally:
        housing.close()


@awaited
async def test_it_tells_what_it_has_and_what_is_in_memory(tmp_path: Path) -> None:
    async with stage(tmp_path) as made:
        told = await made.here.look()
        assert ([model.name for model in told.models], told.running, told.busy) == ([NAME], (), 0)
        assert told.version
        free = told.memory_free
        async with made.asked(GenerateRequest("tiny")):
            told = await made.here.look()
            assert told.running is not None
            assert [(one.model.name, one.status) for one in told.running] == [(NAME, "running")]
            assert told.busy == 1
            assert free is not None
            assert told.memory_free is not None
            assert 0 < told.memory_free < free


@awaited
async def test_what_comes_into_memory_and_leaves_is_known_at_once(tmp_path: Path) -> None:
    async with stage(tmp_path) as made:
        told = await made.here.look()
        words: list[list[str]] = []

        def remember() -> None:
            running = made.here.remembering(told).running or ()
            words.append([one.status for one in running])

        made.pool.changed = remember
        await made.load()
        assert words == [["loading"], ["running"]]
        await made.here.unload("tiny")
        assert words == [["loading"], ["running"], ["stopping"], []]


@pytest.mark.parametrize("name", ["tiny", NAME])
@awaited
async def test_a_model_is_out_of_memory_when_it_is_said_to_be(name: str, tmp_path: Path) -> None:
    async with stage(tmp_path) as made:
        assert await made.here.unload(name) is None
        await made.load()
        freed = await made.here.unload(name)
        assert freed is not None
        assert freed > 0
        assert made.pool.runners() == []
        with pytest.raises(ModelNotFound):
            await made.here.unload("other")


@awaited
async def test_one_that_answers_leaves_when_it_has(tmp_path: Path) -> None:
    async with stage(tmp_path, patience=0.0) as made:
        async with made.asked(GenerateRequest("tiny")):
            with pytest.raises(Conflict, match="tiny still answers"):
                await made.here.unload("tiny")
            [runner] = made.pool.runners()
        await runner.gone.wait()


@awaited
async def test_it_goes_on_with_a_model_on_the_processor(tmp_path: Path) -> None:
    async with stage(tmp_path) as made:
        assert await made.here.move("tiny", Visit()) is None
        await made.load()
        [before] = made.pool.runners()
        freed = await made.here.move("tiny", Visit())
        assert freed == before.load_plan.memory.gpu > 0
        [after] = made.pool.runners()
        assert (after.load_plan.memory.gpu, before.gone.is_set()) == (0, True)
        assert await made.here.move("tiny", Visit()) == 0
        assert made.pool.runners() == [after]
