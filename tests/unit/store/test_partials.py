"""A blob that arrives in parts: what has arrived stays, and nothing wrong ever gets the name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.store.written import WEIGHTS, blob, blobs, digest, leftovers

from localmodels.core.errors import Conflict, ContentMismatch, InvalidValue, ModelDamaged
from localmodels.store.leases import Lease
from localmodels.store.model_store import ModelStore
from localmodels.store.partials import Partial, read_journal

SIZE = len(WEIGHTS)
WANTED = digest(WEIGHTS)


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


@pytest.fixture
def lease(store: ModelStore) -> Iterator[Lease]:
    with store.lease("pull") as lease:
        yield lease


def data_path(store: ModelStore) -> Path:
    return store.layout.root / ".localmodels" / "partials" / f"sha256-{WANTED.hex}"


def journal_path(store: ModelStore) -> Path:
    return data_path(store).with_name(f"sha256-{WANTED.hex}.parts")


def bring(partial: Partial, start: int, end: int) -> None:
    partial.write(start, WEIGHTS[start:end])
    partial.finish(start, end - start)


def test_parts_come_in_any_order(store: ModelStore, lease: Lease) -> None:
    told: list[int] = []
    with store.partial(lease, WANTED, SIZE) as partial:
        for start, end in ((6000, SIZE), (0, 100), (100, 6000)):
            bring(partial, start, end)
        assert not partial.missing
        assert partial.commit(told.append) == blob(WEIGHTS)
    assert store.find(WANTED, SIZE) == blob(WEIGHTS)
    assert told == []  # the digest kept step: nothing was left to hash
    assert leftovers(store) == [f"leases/{lease.token}/claim"]


def test_what_has_arrived_survives_and_is_hashed_again(store: ModelStore, lease: Lease) -> None:
    with store.partial(lease, WANTED, SIZE) as partial:
        bring(partial, 0, 1000)
        bring(partial, 5000, 6000)
        partial.write(2000, b"never finished")
    told: list[int] = []
    with store.partial(lease, WANTED, SIZE) as partial:
        assert partial.done == ((0, 1000), (5000, 6000))
        assert partial.arrived == 2000
        for start, end in partial.missing:
            bring(partial, start, end)
        partial.commit(told.append)
    assert (store.layout.root / "blobs" / f"sha256-{WANTED.hex}").read_bytes() == WEIGHTS


def test_it_is_not_finished_before_it_is_whole(store: ModelStore, lease: Lease) -> None:
    with store.partial(lease, WANTED, SIZE) as partial:
        bring(partial, 0, SIZE - 1)
        with pytest.raises(ContentMismatch, match="7999 of 8000 bytes have arrived"):
            partial.commit()
        bring(partial, SIZE - 1, SIZE)
        partial.commit()


def test_wrong_bytes_are_thrown_away_and_it_begins_anew(store: ModelStore, lease: Lease) -> None:
    with store.partial(lease, WANTED, SIZE) as partial:
        partial.write(0, b"x" * SIZE)
        partial.finish(0, SIZE)
        with pytest.raises(ContentMismatch, match="has the digest"):
            partial.commit()
    assert blobs(store) == set()
    assert leftovers(store) == [f"leases/{lease.token}/claim"]
    with store.partial(lease, WANTED, SIZE) as partial:
        bring(partial, 0, SIZE)
        partial.commit()


def test_an_empty_blob_is_whole_at_once(store: ModelStore, lease: Lease) -> None:
    with store.partial(lease, digest(b""), 0) as partial:
        assert partial.commit() == blob(b"")


def test_a_blob_of_another_size_is_another_download(store: ModelStore, lease: Lease) -> None:
    with store.partial(lease, WANTED, SIZE + 5) as partial:
        partial.write(0, b"y" * SIZE)
        partial.finish(0, SIZE)
    with store.partial(lease, WANTED, SIZE) as partial:
        assert partial.done == ()
        bring(partial, 0, SIZE)
        partial.commit()


@pytest.mark.parametrize("tail", ["", "40", "4000 100", "4000 100\n9000", "\0\0\0\n", "4000 -1\n", "7990 999\n"])
def test_a_torn_or_strange_line_is_no_part(store: ModelStore, lease: Lease, tail: str) -> None:
    with store.partial(lease, WANTED, SIZE) as partial:
        bring(partial, 0, 1000)
        partial.write(4000, WEIGHTS[4000:])
    journal = journal_path(store)
    journal.write_text(journal.read_text() + tail)
    with store.partial(lease, WANTED, SIZE) as partial:
        assert partial.done[0] == (0, 1000)
        assert sum(end - start for start, end in partial.done) in {1000, 1100}
        for start, end in partial.missing:
            bring(partial, start, end)
        partial.commit()


@given(st.binary(max_size=200), st.integers(0, 100), st.integers(0, 100))
def test_any_journal_is_read_and_vouches_for_nothing_outside(data: bytes, size: int, present: int) -> None:
    for text in (data, b"size %d\n" % size + data):
        assert all(0 <= start < end <= min(size, present) for start, end in read_journal(text, size, present))


def test_a_journal_does_not_vouch_for_bytes_that_are_gone(store: ModelStore, lease: Lease) -> None:
    with store.partial(lease, WANTED, SIZE) as partial:
        bring(partial, 0, 1000)
        bring(partial, 7000, SIZE)
    os.truncate(data_path(store), 3000)
    with store.partial(lease, WANTED, SIZE) as partial:
        assert partial.done == ((0, 1000),)
    data_path(store).unlink()
    with store.partial(lease, WANTED, SIZE) as partial:
        assert partial.done == ()


@pytest.mark.parametrize(("offset", "length"), [(-1, 5), (SIZE, 1), (SIZE - 1, 2), (0, SIZE + 1)])
def test_what_lies_outside_is_refused(store: ModelStore, lease: Lease, offset: int, length: int) -> None:
    with store.partial(lease, WANTED, SIZE) as partial:
        with pytest.raises(InvalidValue, match="outside"):
            partial.write(offset, b"x" * length)
        with pytest.raises(InvalidValue, match="outside"):
            partial.finish(offset, length)
    assert data_path(store).stat().st_size == 0


def test_what_is_finished_is_not_written_again(store: ModelStore, lease: Lease) -> None:
    with store.partial(lease, WANTED, SIZE) as partial:
        bring(partial, 1000, 2000)
        with pytest.raises(InvalidValue, match="was finished before"):
            partial.write(1999, b"xx")


def test_one_blob_has_one_fetcher(store: ModelStore, lease: Lease) -> None:
    with store.partial(lease, WANTED, SIZE), store.lease("other") as other:
        with pytest.raises(Conflict, match="fetched by another"):
            store.partial(other, WANTED, SIZE)
        with store.partial(other, digest(b"other"), 5):
            pass
    with store.partial(lease, WANTED, SIZE):
        pass


def test_a_download_that_is_finished_twice_is_finished(store: ModelStore, lease: Lease) -> None:
    for _ in range(2):
        with store.partial(lease, WANTED, SIZE) as partial:
            bring(partial, 0, SIZE)
            partial.commit()
    assert store.find(WANTED, SIZE) == blob(WEIGHTS)


@pytest.mark.parametrize("planted", ["symlink", "hardlink", "directory", "fifo"])
@pytest.mark.parametrize("where", ["data", "journal"])
def test_nothing_planted_is_written_through(
    store: ModelStore, lease: Lease, tmp_path: Path, planted: str, where: str
) -> None:
    path = data_path(store) if where == "data" else journal_path(store)
    outside = tmp_path / "outside"
    outside.write_bytes(b"secret")
    plant: Mapping[str, Callable[[], object]] = {
        "symlink": lambda: path.symlink_to(outside),
        "hardlink": lambda: os.link(outside, path),
        "directory": path.mkdir,
        "fifo": lambda: os.mkfifo(path),
    }
    plant[planted]()
    if (planted, where) == ("hardlink", "journal"):  # it is read, believed in nothing, and replaced
        with store.partial(lease, WANTED, SIZE) as partial:
            assert partial.done == ()
    else:
        with pytest.raises(ModelDamaged):
            store.partial(lease, WANTED, SIZE)
    assert outside.read_bytes() == b"secret"
