"""Models made of split files: what becomes of the parts, and what is said of those that are no model together."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest
from tests.awaited import awaited
from tests.split_gguf import split_gguf
from tools.random_model import write_random_model

from localmodels.core.catalog import ModelName
from localmodels.core.errors import DiskFull, InvalidRequest
from localmodels.core.library import SUCCESS, CreateRequest
from localmodels.flows.library.keeper import Keeper
from localmodels.store.entries import Entry
from localmodels.store.library import Library
from localmodels.store.manifests import parse_manifest
from localmodels.store.model_store import ModelStore
from localmodels.store.ollama import OllamaShelf
from localmodels.store.shelves import FileShelf, ModelFiles, Shelf
from localmodels.store.space import Space


class NobodyRuns:
    """Nothing is loaded."""

    async def unload_name(self, name: ModelName) -> None:
        """Nothing is."""

    async def unload(self, entry: Entry) -> None:
        pass


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_model(tmp_path_factory.mktemp("whole") / "whole.gguf")


@pytest.fixture
def parts(file: Path, tmp_path: Path) -> list[Path]:
    return split_gguf(file, tmp_path, "big", each=8)


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "store")


@pytest.fixture
def keeper(store: ModelStore, parts: list[Path]) -> Keeper:
    shelves: list[Shelf] = [
        OllamaShelf(store.layout.root, source="home"),
        FileShelf({ModelName.parse("split"): ModelFiles(parts[0])}),
    ]
    return Keeper(store, Library(shelves), NobodyRuns())


def uploaded(store: ModelStore, *files: Path) -> tuple[tuple[str, str], ...]:
    with store.lease("test") as lease:
        return tuple((file.name, str(store.write(lease, (file.read_bytes(),)).digest)) for file in files)


async def made(keeper: Keeper, request: CreateRequest) -> list[str]:
    return [step.status async for step in keeper.create(request)]


def contents(file: Path) -> bytes:
    return file.read_bytes()


def model_of(store: ModelStore, name: str) -> bytes:
    data = store.read_manifest(ModelName.parse(name))
    assert data is not None
    [layer] = parse_manifest(data).of("model")
    return store.layout.blob(layer.digest).read_bytes()


@awaited
async def test_uploaded_parts_become_the_file_that_they_were(
    keeper: Keeper, store: ModelStore, parts: list[Path], file: Path
) -> None:
    shuffled = random.Random(1).sample(parts, len(parts))
    statuses = await made(keeper, CreateRequest(model="mine", files=uploaded(store, *shuffled), system="Be."))
    digest = hashlib.sha256(contents(file)).hexdigest()
    assert statuses[0] == "reading model metadata"
    assert "merging 3 files" in statuses
    assert f"creating new layer sha256:{digest}" in statuses
    assert statuses[-1] == SUCCESS
    assert model_of(store, "mine") == contents(file)


@awaited
async def test_a_split_file_on_another_shelf_can_be_a_base(keeper: Keeper, store: ModelStore, file: Path) -> None:
    statuses = await made(keeper, CreateRequest(model="mine", base="split"))
    assert "merging 3 files" in statuses
    assert model_of(store, "mine") == contents(file)


@awaited
async def test_a_missing_part_is_named(keeper: Keeper, store: ModelStore, parts: list[Path]) -> None:
    for given, words in [
        (parts[:1], "big-00002-of-00003.gguf, big-00003-of-00003.gguf"),
        ([parts[0], parts[2]], "missing: big-00002-of-00003.gguf"),
        ([*parts, parts[1]], "part 2 of 3, and so is"),
    ]:
        with pytest.raises(InvalidRequest, match=words):
            await made(keeper, CreateRequest(model="mine", files=uploaded(store, *given)))
    assert store.read_manifest(ModelName.parse("mine")) is None


@awaited
async def test_parts_and_a_whole_model_are_one_too_many(
    keeper: Keeper, store: ModelStore, parts: list[Path], file: Path
) -> None:
    with pytest.raises(InvalidRequest, match="one model file is needed, not 2"):
        await made(keeper, CreateRequest(model="mine", files=uploaded(store, *parts, file)))


@awaited
async def test_parts_that_are_no_model_together_are_the_callers_fault(
    keeper: Keeper, store: ModelStore, parts: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = split_gguf(write_random_model(tmp_path / "b.gguf", seed=3), tmp_path / "other", "big", each=7)
    with pytest.raises(InvalidRequest, match=r"is in an earlier part too|should have"):
        await made(keeper, CreateRequest(model="mine", files=uploaded(store, *parts[:2], other[2])))


@awaited
async def test_no_room_for_the_whole_is_said_before_a_byte_is_written(parts: list[Path], tmp_path: Path) -> None:
    size = sum(part.stat().st_size for part in parts)
    # Room for the parts is there, and for half of the whole beside them.
    free = [10 * size]
    store = ModelStore(tmp_path / "full", measure=lambda _: Space(10**12, 2 * 10**9 + free[0]))
    keeper = Keeper(store, Library([OllamaShelf(store.layout.root, source="home")]), NobodyRuns())
    files = uploaded(store, *parts)
    free[0] = size // 2
    blobs = sorted((store.layout.root / "blobs").iterdir())
    with pytest.raises(DiskFull):
        await made(keeper, CreateRequest(model="mine", files=files))
    assert sorted((store.layout.root / "blobs").iterdir()) == blobs
