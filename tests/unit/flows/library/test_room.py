"""Room on the disk is set aside before it is filled, also where nobody says how much will come."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.awaited import awaited
from tests.unit.flows.library.test_split_models import NobodyRuns

from localmodels.core.catalog import Digest
from localmodels.core.errors import ContentMismatch, DiskFull
from localmodels.flows.library.keeper import ROOM, Keeper
from localmodels.store.library import Library
from localmodels.store.model_store import ModelStore
from localmodels.store.space import KEEP_BYTES, Space

NOTHING = Digest("0" * 64)


class Pieces:
    """A body of pieces of a MiB, and how many of them were taken."""

    def __init__(self, count: int) -> None:
        self.taken = 0
        self._count = count

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self.taken < self._count:
            self.taken += 1
            yield bytes(2**20)


def store_with(room: int, tmp_path: Path, pieces: Pieces | None = None) -> ModelStore:
    """A store on a disk with so much room beyond what is never touched; what was taken of ``pieces`` fills it."""

    def measure(_descriptor: int) -> Space:
        return Space(10**13, KEEP_BYTES + room - (pieces.taken * 2**20 if pieces else 0))

    return ModelStore(tmp_path / "models", measure=measure)


@awaited
async def test_an_upload_of_unknown_size_ends_before_the_disk_is_full(tmp_path: Path) -> None:
    pieces = Pieces(10**6)
    store = store_with(ROOM + ROOM // 2, tmp_path, pieces)
    with pytest.raises(DiskFull):
        await Keeper(store, Library(()), NobodyRuns()).upload(NOTHING, aiter(pieces), None)
    assert pieces.taken == ROOM // 2**20 + 1


@awaited
async def test_one_that_fits_is_taken(tmp_path: Path) -> None:
    pieces = Pieces(3)
    with pytest.raises(ContentMismatch):  # all of it came, and it is not what was announced
        await Keeper(store_with(ROOM + 2**20, tmp_path, pieces), Library(()), NobodyRuns()).upload(
            NOTHING, aiter(pieces), None
        )
    assert pieces.taken == 3


def test_a_copy_that_does_not_fit_is_not_begun(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(2**20))
    for room, fits in ((2**20, True), (2**20 - 1, False)):
        store = store_with(room, tmp_path)
        heard: list[int] = []
        with store.lease("copy") as lease:
            if fits:
                assert store.adopt(lease, source, progress=heard.append).size == 2**20
            else:
                with pytest.raises(DiskFull):
                    store.adopt(lease, source, progress=heard.append)
        assert bool(heard) is fits
