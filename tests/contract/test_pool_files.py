"""The pool and the files of a model: looked at before it is loaded, held until it is unloaded, with a real runner."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.awaited import awaited
from tests.contract.backends import chat
from tools.random_model import write_random_model

from localmodels.artifacts.gguf import read_header
from localmodels.core.catalog import Model
from localmodels.core.errors import ModelDamaged
from localmodels.core.options import Options
from localmodels.engine.hardware import Hardware
from localmodels.engine.housing import Housing
from localmodels.engine.loadable import Load, Loadable, Loader
from localmodels.engine.pool import Build, Pool
from localmodels.engine.scheduler import Limits, Scheduler

GIB = 2**30
HARDWARE = Hardware(cpus=2, cores=2, memory_total=8 * GIB, memory_available=8 * GIB)


class Gated:
    """Files that are looked at for as long as the test wants, and are damaged if it wants."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.looking, self.may_go_on = asyncio.Event(), asyncio.Event()
        self.damage: ModelDamaged | None = None

    @asynccontextmanager
    async def held(self, loadable: Loadable) -> AsyncIterator[None]:
        self.log.append("held")
        yield
        self.log.append("let go")

    async def whole(self, loadable: Loadable) -> None:
        self.looking.set()
        await self.may_go_on.wait()
        if self.damage:
            raise self.damage
        self.log.append("whole")


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    file = write_random_model(tmp_path_factory.mktemp("models") / "tiny.gguf", end_bias=-100.0)
    loadable = Loadable("tiny", Model("tiny:latest", 1, "d", ""), str(file), read_header(file))
    return Loader(HARDWARE, Options(num_ctx=512)).load(loadable, "generate", Options())


@asynccontextmanager
async def pool(files: Gated, *, load_timeout: float = 60.0) -> AsyncIterator[Pool]:
    housing = Housing()
    opened = Pool(Scheduler(Limits(memory=4 * GIB, load_timeout=load_timeout)), housing, Build(), files)
    try:
        yield opened
    finally:
        await opened.close()
        housing.close()


async def ask(here: Pool, load: Load) -> int:
    async with here.lease(load, keep_alive=None, patience=60.0) as backend:
        return await backend.count(chat("Hello?"))


@awaited
async def test_a_model_is_loading_while_its_files_are_looked_at_and_held_until_it_is_gone(load: Load) -> None:
    files = Gated()
    async with pool(files) as here:
        asked = asyncio.create_task(ask(here, load))
        await files.looking.wait()
        [row] = here.running()
        assert (row.status, row.pid) == ("loading", 0)
        files.may_go_on.set()
        assert await asked > 0
        assert files.log == ["held", "whole"]
    assert files.log == ["held", "whole", "let go"]


@awaited
async def test_a_client_that_leaves_meanwhile_does_not_wait(load: Load) -> None:
    files = Gated()
    async with pool(files) as here:
        asked = asyncio.create_task(ask(here, load))
        await files.looking.wait()
        asked.cancel()
        await asyncio.wait([asked])
        assert asked.cancelled()
    assert files.log == ["held", "let go"]


@awaited
async def test_damaged_files_are_not_loaded_and_everybody_who_waits_is_told(load: Load) -> None:
    files = Gated()
    files.damage = ModelDamaged("sha256-abc: damaged")
    async with pool(files) as here:
        asked = [asyncio.create_task(ask(here, load)) for _ in range(3)]
        await files.looking.wait()
        files.may_go_on.set()
        for one in asked:
            with pytest.raises(ModelDamaged, match="sha256-abc"):
                await one
        assert here.last_failure(load.loadable.key("generate")) == "sha256-abc: damaged"
        files.damage = None
        assert await ask(here, load) > 0  # healed, it is loaded
    assert files.log == ["held", "let go", "held", "whole", "let go"]
