"""What is in memory was whole when it was loaded, stays until it is unloaded, and is read once for all who wait."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.awaited import awaited
from tests.unit.store.written import CONFIG, NAME, OTHER, TEMPLATE, WEIGHTS, age, blobs, create, digest

from localmodels.artifacts.gguf_header import Header
from localmodels.core.catalog import Digest, Model
from localmodels.core.errors import ModelDamaged, ShuttingDown
from localmodels.engine.loadable import Loadable
from localmodels.flows.answering.loaded_files import StoredFiles
from localmodels.store.leases import Lease
from localmodels.store.model_store import ModelStore
from localmodels.store.soundness import Policy

DIGESTS = tuple(map(digest, (CONFIG, WEIGHTS, TEMPLATE)))


class Counting(ModelStore):
    """Counts what is read, and lets reading wait."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.read: list[Digest] = []
        self.reading, self.may_read = threading.Event(), threading.Event()
        self.may_read.set()

    def require_sound(self, root: Path, digest: Digest, progress: Callable[[int], None] = lambda _: None) -> None:
        self.reading.set()
        self.may_read.wait()
        self.read.append(digest)
        super().require_sound(root, digest, progress)


class Telling(StoredFiles):
    """Tells when it has its lease, for which no load waits long."""

    def __init__(self, store: ModelStore, policy: Policy) -> None:
        super().__init__(store, policy)
        self.leased = threading.Event()

    def _lease(self, loadable: Loadable) -> Lease | None:
        lease = super()._lease(loadable)
        self.leased.set()
        return lease


@pytest.fixture
def store(tmp_path: Path) -> Counting:
    store = Counting(tmp_path / "models")
    create(store)
    return store


def loadable(store: ModelStore, root: Path | None = None) -> Loadable:
    header = Header("tiny", 3, {}, (), 32, 0, 0)
    return Loadable(
        "same", Model(str(NAME), 1, "d", ""), "", header, store=str(root or store.layout.root), blobs=DIGESTS
    )


def touch(store: ModelStore, data: bytes = WEIGHTS) -> Path:
    path = store.layout.blob(digest(data))
    path.write_bytes(path.read_bytes())
    return path


@pytest.mark.parametrize(
    ("policy", "fresh", "touched"),
    [("first", [], [digest(WEIGHTS)]), ("always", list(DIGESTS), list(DIGESTS)), ("never", [], [])],
)
@awaited
async def test_what_is_read_when(store: Counting, policy: Policy, fresh: list[Digest], touched: list[Digest]) -> None:
    files = StoredFiles(store, policy)
    await files.whole(loadable(store))
    assert store.read == fresh
    store.read.clear()
    touch(store)
    await files.whole(loadable(store))
    assert store.read == touched


@awaited
async def test_damage_is_told_to_everybody_who_waits_and_again(store: Counting) -> None:
    files = StoredFiles(store, "first")
    touch(store).write_bytes(b"rot" + WEIGHTS[3:])
    for _ in range(2):
        told = await asyncio.gather(*(files.whole(loadable(store)) for _ in range(3)), return_exceptions=True)
        assert [type(one) for one in told] == [ModelDamaged] * 3
        assert digest(WEIGHTS).hex in str(told[0])


@awaited
async def test_who_leaves_stops_nobody_and_the_reading_counts_for_the_next(store: Counting) -> None:
    files = StoredFiles(store, "first")
    touch(store)
    store.may_read.clear()
    first, second = (asyncio.create_task(files.whole(loadable(store))) for _ in range(2))
    await asyncio.to_thread(store.reading.wait)
    first.cancel()
    await asyncio.wait([first])
    assert first.cancelled()
    second.cancel()
    await asyncio.wait([second])
    store.may_read.set()
    await files.whole(loadable(store))
    assert store.read == [digest(WEIGHTS)]


@awaited
async def test_the_end_of_the_server_ends_the_reading(store: Counting) -> None:
    files = StoredFiles(store, "first")
    touch(store)
    store.may_read.clear()
    waiting = asyncio.create_task(files.whole(loadable(store)))
    await asyncio.to_thread(store.reading.wait)
    store.close()
    store.may_read.set()
    await files.close()
    with pytest.raises(ShuttingDown):
        await waiting


def others(store: ModelStore) -> ModelStore:
    """The store as another process has it."""
    return ModelStore(store.layout.root)


@awaited
async def test_nobody_collects_what_is_in_memory_and_it_goes_with_the_last_user(store: Counting) -> None:
    files = Telling(store, "first")
    create(store, OTHER, b"other", TEMPLATE)
    age(store)
    async with files.held(loadable(store)):
        await asyncio.to_thread(files.leased.wait)
        store.delete(NAME)
        verdict = others(store).collect(released=DIGESTS)
        assert (verdict.doomed, [one.digest for one in verdict.leased]) == ((), [digest(WEIGHTS)])
        await files.whole(loadable(store))
    assert digest(WEIGHTS).hex not in "".join(blobs(store))
    assert {store.layout.blob(digest(one)).name for one in (CONFIG, TEMPLATE, b"other")} == blobs(store)
    assert store.check(read_data=True) == ()


@awaited
async def test_a_load_has_its_lease_before_it_looks_for_its_files(store: Counting) -> None:
    files = StoredFiles(store, "first")
    async with files.held(loadable(store)):
        store.delete(NAME)
        assert not others(store).collect(released=DIGESTS).doomed
        await files.whole(loadable(store))


@awaited
async def test_what_still_has_its_name_stays(store: Counting) -> None:
    files = Telling(store, "first")
    async with files.held(loadable(store)):
        await asyncio.to_thread(files.leased.wait)
    assert {store.layout.blob(one).name for one in DIGESTS} == blobs(store)


@awaited
async def test_what_was_replaced_goes(store: Counting) -> None:
    files = Telling(store, "first")
    async with files.held(loadable(store)):
        await asyncio.to_thread(files.leased.wait)
        create(store, NAME, b"new weights")
    assert {store.layout.blob(digest(one)).name for one in (CONFIG, b"new weights")} == blobs(store)


@awaited
async def test_a_store_that_takes_no_lease_keeps_nobody_from_loading(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = ModelStore(tmp_path / "models")
    create(store)
    (store.layout.root / ".localmodels/leases").rmdir()
    (store.layout.root / ".localmodels/leases").write_bytes(b"")
    async with StoredFiles(store, "first").held(loadable(store)):
        pass
    assert "not protected from a collection" in caplog.text


@awaited
async def test_stores_of_others_are_only_read(store: Counting, tmp_path: Path) -> None:
    other = ModelStore(tmp_path / "ollama")
    create(other)
    before = sorted(path.name for path in other.layout.root.rglob("*"))
    files = StoredFiles(store, "first")
    async with files.held(loadable(store, other.layout.root)):
        await files.whole(loadable(store, other.layout.root))
    assert store.read == list(DIGESTS)
    assert sorted(path.name for path in other.layout.root.rglob("*")) == before
