"""Who leaves ends the work, also a copy of many gigabytes that a thread makes."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from tests.awaited import DEADLINE, awaited
from tests.unit.flows.test_split_models import NobodyRuns
from tools.random_model import write_random_model

from localmodels.core.catalog import Blob, Digest, ModelName
from localmodels.core.library import CopyRequest
from localmodels.flows.keeper import Keeper
from localmodels.store.blobs import Progress, no_progress
from localmodels.store.leases import Lease
from localmodels.store.library import Library
from localmodels.store.model_store import ModelStore
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
