"""A model that is replaced or deleted between being found and being loaded, with a real runner."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from tests.awaited import awaited
from tests.contract.backends import chat
from tests.contract.test_pool_files import GIB, HARDWARE
from tools.random_model import write_random_model

from localmodels.artifacts.gguf import read_header
from localmodels.core.catalog import Model, ModelName
from localmodels.core.errors import LoadFailed, ModelDamaged, ModelNotFound
from localmodels.core.library import DeleteRequest
from localmodels.core.options import Options
from localmodels.engine.housing import Housing
from localmodels.engine.loadable import Loadable, Loader
from localmodels.engine.pool import Build, Pool
from localmodels.engine.scheduler import Limits, Scheduler
from localmodels.flows.answering.loaded_files import StoredFiles
from localmodels.flows.answering.local_models import Local
from localmodels.flows.library.keeper import Keeper
from localmodels.flows.visit import Visit
from localmodels.store.entries import details_of
from localmodels.store.library import Library
from localmodels.store.manifests import Layer, write_config, write_manifest
from localmodels.store.model_store import ModelStore
from localmodels.store.ollama import OllamaShelf

NAME = ModelName.parse("mine")
Meddle = Callable[[], object]


class Meddled(StoredFiles):
    """Somebody else comes first: ``meddle`` is called once, when a load has been decided on and has no lease yet."""

    meddle: Meddle | None = None

    @asynccontextmanager
    async def held(self, loadable: Loadable) -> AsyncIterator[None]:
        meddle, self.meddle = self.meddle, None
        if meddle is not None:
            meddle()
        async with super().held(loadable):
            yield


class Stage:
    """A store with a model in it, and what runs it."""

    def __init__(self, directory: Path, stack: AsyncExitStack) -> None:
        self.directory = directory
        self.store = ModelStore(directory / "models")
        self.files = Meddled(self.store, "first")
        housing = Housing()
        stack.callback(housing.close)
        self.pool = Pool(Scheduler(Limits(memory=4 * GIB)), housing, Build(), self.files)
        stack.push_async_callback(self.pool.close)
        self.library = Library([OllamaShelf(self.store.layout.root, source="home")])
        self.local = Local(self.library, self.pool, Loader(HARDWARE, Options(num_ctx=512)), patience=60.0)
        self.create(0)

    def create(self, seed: int) -> None:
        """Gives the name to a model of these weights."""
        file = write_random_model(self.directory / f"{seed}.gguf", seed=seed)
        with self.store.lease("test") as lease:
            blob = self.store.adopt(lease, file)
            about = write_config(details_of(read_header(file)), [blob.digest], {})
            config = self.store.write(lease, [about])
            layers = [Layer("model", blob.digest, blob.size)]
            self.store.publish(lease, NAME, write_manifest(Layer("", config.digest, config.size), layers))

    def delete(self) -> None:
        """Takes the name away, and the files along."""
        self.store.delete(NAME)
        self.collect()

    def collect(self) -> None:
        self.store.collect(grace=-1.0)

    def damage(self) -> None:
        """Changes the weights."""
        path = max((self.store.layout.root / "blobs").iterdir(), key=lambda path: path.stat().st_size)
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)

    async def ask(self) -> int:
        target = await self.local.find("mine")
        async with target.ready(chat("Hello?"), Visit()) as answerer:
            return await answerer.count(chat("Hello?"))


@asynccontextmanager
async def stage(directory: Path) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        yield Stage(directory, stack)


@awaited
async def test_what_was_replaced_is_asked_as_it_is_now(tmp_path: Path) -> None:
    async with stage(tmp_path) as here:

        def replace() -> None:
            here.create(1)
            here.collect()

        here.files.meddle = replace
        assert await here.ask() > 0
        assert len(here.pool.runners()) == 1


@awaited
async def test_what_was_deleted_is_not_found(tmp_path: Path) -> None:
    async with stage(tmp_path) as here:
        here.files.meddle = here.delete
        with pytest.raises(ModelNotFound):
            await here.ask()


@awaited
async def test_what_was_damaged_is_damaged_once_and_for_all(tmp_path: Path) -> None:
    async with stage(tmp_path) as here:
        here.files.meddle = here.damage
        with pytest.raises(ModelDamaged, match="its content is not what its name says"):
            await here.ask()


@awaited
async def test_what_was_loaded_under_a_name_ends_with_it_though_its_file_was_replaced(tmp_path: Path) -> None:
    async with stage(tmp_path) as here:
        await here.ask()
        here.create(1)
        await here.ask()
        assert len(here.pool.runners()) == 2
        runners = here.pool.runners()
        await (await here.local.find("mine")).unload()
        for runner in runners:
            await runner.gone.wait()


@awaited
async def test_a_name_that_is_taken_away_while_damaged_ends_what_was_loaded_under_it(tmp_path: Path) -> None:
    async with stage(tmp_path) as here:
        await here.ask()
        [runner] = here.pool.runners()
        weights = max((here.store.layout.root / "blobs").iterdir(), key=lambda path: path.stat().st_size)
        weights.unlink()
        await Keeper(here.store, here.library, here.local).delete(DeleteRequest("mine"))
        await runner.gone.wait()


@awaited
async def test_making_anything_of_the_same_files_leaves_a_loaded_model_loaded(tmp_path: Path) -> None:
    async with stage(tmp_path) as here:
        await here.ask()
        [before] = here.pool.runners()
        here.create(0)
        await here.ask()
        assert here.pool.runners() == [before]


@awaited
async def test_what_the_engine_says_is_told_without_its_log_lines(tmp_path: Path) -> None:
    file = write_random_model(tmp_path / "here.gguf")
    gone = Loadable("gone", Model("gone:latest", 1, "d", ""), str(tmp_path / "gone.gguf"), read_header(file))
    async with stage(tmp_path) as here:
        place = here.pool.lease(Loader(HARDWARE).load(gone, "generate", Options()), keep_alive=None, patience=60.0)
        with pytest.raises(LoadFailed) as refused:
            await place.__aenter__()
    said = refused.value.message
    assert said.startswith("the engine cannot load it: ")
    assert "gone.gguf" in said
    assert not any(word in said for word in (" E ", "_file:", "llama_", str(tmp_path)))
