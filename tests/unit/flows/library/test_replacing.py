"""A name that gets another meaning gives back what it meant before; one that would not be found is not given."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.awaited import awaited
from tests.unit.flows.library.test_split_models import NobodyRuns
from tools.random_model import write_random_model

from localmodels.core.catalog import Digest, ModelName
from localmodels.core.errors import Conflict, InvalidRequest
from localmodels.core.library import CopyRequest, CreateRequest
from localmodels.flows.library.keeper import Keeper
from localmodels.store.library import Library
from localmodels.store.manifests import parse_manifest
from localmodels.store.model_store import ModelStore
from localmodels.store.ollama import OllamaShelf
from localmodels.store.shelves import FileShelf, ModelFiles


class Stage:
    """A store, two uploaded files, and a third that is named ``named``."""

    def __init__(self, directory: Path) -> None:
        self.store = ModelStore(directory / "models")
        files = [write_random_model(directory / f"{seed}.gguf", seed=seed) for seed in range(3)]
        self.first, self.second = map(self.upload, files[:2])
        named = FileShelf({ModelName.parse("named"): ModelFiles(files[2])})
        self.keeper = Keeper(
            self.store, Library([named, OllamaShelf(self.store.layout.root, source="home")]), NobodyRuns()
        )

    def upload(self, file: Path) -> Digest:
        with self.store.lease("upload") as lease:
            return self.store.adopt(lease, file).digest

    async def create(self, name: str, weights: Digest, *, system: str | None = None) -> None:
        request = CreateRequest(model=name, files=(("a.gguf", str(weights)),), system=system)
        async for _ in self.keeper.create(request):
            pass

    def blobs(self) -> set[str]:
        return {path.name for path in (self.store.layout.root / "blobs").iterdir()}

    def needed(self, *names: str) -> set[str]:
        """The blobs of these models."""
        found = [self.store.read_manifest(ModelName.parse(name)) for name in names]
        return {self.store.layout.blob(one.digest).name for data in found if data for one in parse_manifest(data).blobs}


@awaited
async def test_the_old_files_go_at_once_and_what_others_need_stays(tmp_path: Path) -> None:
    here = Stage(tmp_path)
    await here.create("mine", here.first, system="Be kind.")
    await here.create("other", here.first)
    await here.create("mine", here.second)
    assert here.blobs() == here.needed("mine", "other")
    assert len(here.blobs()) == 4
    await here.keeper.copy(CopyRequest("mine", "other"))
    assert here.blobs() == here.needed("mine")
    assert len(here.blobs()) == 2


@awaited
async def test_what_is_in_use_stays_and_what_fails_takes_nothing(tmp_path: Path) -> None:
    here = Stage(tmp_path)
    await here.create("mine", here.first)
    before = here.blobs()
    with pytest.raises(InvalidRequest):
        await here.create("mine", Digest("0" * 64))
    assert here.blobs() == before
    with here.store.lease("run mine") as lease:
        lease.protect(here.first)
        await here.create("mine", here.second)
        assert here.store.layout.blob(here.first).exists()


@awaited
async def test_a_name_that_would_stay_hidden_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    here = Stage(tmp_path)
    await here.create("mine", here.first)
    before = here.blobs()
    with pytest.raises(Conflict, match="--model"):
        await here.create("named", here.first, system="nobody would see it")
    with pytest.raises(Conflict, match="--model"):
        await here.keeper.copy(CopyRequest("mine", "named"))
    assert here.blobs() == before
    await here.keeper.copy(CopyRequest("named", "ours"))  # the other way is what copying is for
    assert here.needed("ours")
