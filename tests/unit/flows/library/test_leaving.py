"""Who leaves ends the work, also a copy of many gigabytes that a thread makes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from contextlib import aclosing
from pathlib import Path

import pytest
from tests.awaited import DEADLINE, awaited
from tests.unit.flows.library.test_split_models import NobodyRuns
from tools.random_model import write_random_model

from localmodels.core.catalog import Blob, Digest, ModelName
from localmodels.core.library import SUCCESS, CopyRequest, CreateRequest
from localmodels.flows.library.keeper import Keeper
from localmodels.store.collect import GRACE, Verdict
from localmodels.store.leases import Lease
from localmodels.store.library import Library
from localmodels.store.manifests import Manifest, parse_manifest
from localmodels.store.model_store import ModelStore
from localmodels.store.pieces import Progress, no_progress
from localmodels.store.shelves import FileShelf, ModelFiles


class SlowStore(ModelStore):
    """Copies no further than a test lets it."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.begun, self.may_go_on = threading.Event(), threading.Event()
        self.went_on = False

    def adopt(
        self,
        lease: Lease,
        source: Path,
        *,
        digest: Digest | None = None,
        ours: bool = False,
        progress: Progress = no_progress,
    ) -> Blob:
        self.begun.set()
        self.may_go_on.wait(DEADLINE)
        progress(1)
        self.went_on = True
        return super().adopt(lease, source, digest=digest, ours=ours, progress=progress)


@pytest.mark.parametrize("leaves", [True, False])
@awaited
async def test_a_copy_ends_with_whoever_asked_for_it(tmp_path: Path, *, leaves: bool) -> None:
    file = write_random_model(tmp_path / "model.gguf")
    store = SlowStore(tmp_path / "models")
    shelf = FileShelf({ModelName.parse("named"): ModelFiles(file)})
    copying = asyncio.create_task(Keeper(store, Library([shelf]), NobodyRuns()).copy(CopyRequest("named", "mine")))
    assert await asyncio.to_thread(store.begun.wait, DEADLINE)
    if leaves:
        copying.cancel()
        await asyncio.sleep(0)
    store.may_go_on.set()
    await asyncio.wait([copying])
    assert copying.cancelled() is leaves
    assert store.went_on is not leaves
    assert (store.read_manifest(ModelName.parse("mine")) is None) is leaves


class LateStore(ModelStore):
    """Gives a name, and takes away what nobody needs, no further than a test lets it, once it is ``late``."""

    def __init__(self, root: Path, late: str = "") -> None:
        super().__init__(root)
        self.begun, self.may_go_on = threading.Event(), threading.Event()
        self.late = late

    def publish(self, lease: Lease, name: ModelName, data: bytes) -> Manifest:
        published = super().publish(lease, name, data)
        self._waits("publish")
        return published

    def collect(self, *, grace: float = GRACE, released: Iterable[Digest] = ()) -> Verdict:
        self._waits("collect")
        return super().collect(grace=grace, released=released)

    def _waits(self, what: str) -> None:
        if self.late == what:
            self.begun.set()
            self.may_go_on.wait(DEADLINE)


@pytest.mark.parametrize("late", ["publish", "collect"])
@awaited
async def test_who_leaves_while_the_name_is_given_or_afterwards_comes_too_late(tmp_path: Path, late: str) -> None:
    """The name means the new model then, and nobody may be told otherwise."""
    shelf = FileShelf(
        {
            ModelName.parse(name): ModelFiles(write_random_model(tmp_path / f"{name}.gguf", seed=seed))
            for seed, name in enumerate(("first", "second"))
        }
    )
    store = LateStore(tmp_path / "models")
    keeper = Keeper(store, Library([shelf]), NobodyRuns())
    await keeper.copy(CopyRequest("first", "mine"))
    before = store.read_manifest(ModelName.parse("mine"))
    store.late = late

    async def told() -> list[str]:
        async with aclosing(keeper.create(CreateRequest("mine", base="second"))) as steps:
            return [step.status async for step in steps]

    making = asyncio.create_task(told())
    assert await asyncio.to_thread(store.begun.wait, DEADLINE)
    making.cancel()
    await asyncio.sleep(0)
    store.may_go_on.set()
    assert (await making)[-1] == SUCCESS
    after = store.read_manifest(ModelName.parse("mine"))
    assert after is not None
    assert after != before
    assert all(store.layout.blob(layer.digest).exists() for layer in parse_manifest(after).blobs)
