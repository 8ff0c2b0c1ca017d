"""A blob has its name only when it is whole, and nothing of it stays when it is not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.store.written import WEIGHTS, blob, blobs, digest, leftovers

from localmodels.core.errors import ContentMismatch, InvalidRequest, ModelDamaged
from localmodels.store.leases import Lease
from localmodels.store.model_store import ModelStore

NAME = f"sha256-{digest(WEIGHTS).hex}"


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "deep" / "models")


def place(store: ModelStore) -> Path:
    return store.layout.root / "blobs" / NAME


@given(sizes=st.lists(st.integers(0, 5000), max_size=6))
def test_a_blob_is_its_pieces_and_progress_counts_them(
    sizes: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = ModelStore(tmp_path_factory.mktemp("store"))
    parts = [bytes([number]) * size for number, size in enumerate(sizes)]
    told: list[int] = []
    with store.lease("test") as lease:
        made = store.write(lease, parts, progress=told.append)
    assert made == blob(b"".join(parts))
    assert (store.layout.root / "blobs" / f"sha256-{made.digest.hex}").read_bytes() == b"".join(parts)
    assert told == [sum(sizes[: number + 1]) for number in range(len(sizes))]
    assert not leftovers(store)


def test_the_mode_is_ollamas_so_that_another_user_can_read(store: ModelStore) -> None:
    before = os.umask(0o022)
    try:
        with store.lease("test") as lease:
            store.write(lease, [WEIGHTS])
    finally:
        os.umask(before)
    assert place(store).stat().st_mode & 0o777 == 0o644


def test_what_is_there_is_not_asked_for(store: ModelStore) -> None:
    taken = iter([b"a piece"])
    with store.lease("test") as lease:
        store.write(lease, [WEIGHTS])
        inode = place(store).stat().st_ino
        assert store.write(lease, taken, digest=digest(WEIGHTS), size=len(WEIGHTS)) == blob(WEIGHTS)
    assert place(store).stat().st_ino == inode
    assert next(taken) == b"a piece"


@pytest.mark.parametrize("rotten", [b"", WEIGHTS[:-1], WEIGHTS + b"x"], ids=["empty", "short", "long"])
def test_existence_is_not_integrity_a_blob_of_another_size_is_replaced(store: ModelStore, rotten: bytes) -> None:
    store.layout.prepare()
    place(store).write_bytes(rotten)
    assert store.find(digest(WEIGHTS), len(WEIGHTS)) is None
    with store.lease("test") as lease:
        store.write(lease, [WEIGHTS], digest=digest(WEIGHTS), size=len(WEIGHTS))
    assert place(store).read_bytes() == WEIGHTS


def test_a_blob_that_rotted_at_its_full_length_heals_when_it_is_written_again(store: ModelStore) -> None:
    store.layout.prepare()
    place(store).write_bytes(WEIGHTS[:-1] + b"?")
    with store.lease("test") as lease:
        store.write(lease, [WEIGHTS])
    assert place(store).read_bytes() == WEIGHTS


def test_a_blob_that_is_vouched_for_stays_the_file_that_it_was(store: ModelStore, tmp_path: Path) -> None:
    """A loaded model has it open, and one that is being loaded was given it by its path."""
    source = tmp_path / "source"
    source.write_bytes(WEIGHTS)
    with store.lease("test") as lease:
        store.write(lease, [WEIGHTS])
        before = place(store).stat()
        for _ in range(5):  # as often as there are seals to push out
            assert store.write(lease, [WEIGHTS]) == blob(WEIGHTS)
        assert store.adopt(lease, source) == blob(WEIGHTS)
        with store.partial(lease, digest(WEIGHTS), len(WEIGHTS)) as partial:
            partial.write(0, WEIGHTS)
            partial.finish(0, len(WEIGHTS))
            assert partial.commit() == blob(WEIGHTS)
        assert leftovers(store) == [f"leases/{lease.token}/claim"]
    after = place(store).stat()
    assert (after.st_ino, after.st_ctime_ns) == (before.st_ino, before.st_ctime_ns)


def adopt_anew(store: ModelStore, lease: Lease) -> None:
    source = store.layout.root.parent / "again"
    source.write_bytes(WEIGHTS)
    store.adopt(lease, source, ours=True)


def fetch(store: ModelStore, lease: Lease) -> None:
    with store.partial(lease, digest(WEIGHTS), len(WEIGHTS)) as partial:
        partial.write(0, WEIGHTS)
        partial.finish(0, len(WEIGHTS))
        partial.commit()


AGAIN: Mapping[str, Callable[[ModelStore, Lease], object]] = {
    "written": lambda store, lease: store.write(lease, [WEIGHTS]),
    "adopted": adopt_anew,
    "fetched": fetch,
}


@pytest.mark.parametrize("again", AGAIN)
def test_a_sound_blob_whose_seal_is_broken_stays_and_is_sealed_anew(
    store: ModelStore, tmp_path: Path, again: str
) -> None:
    """An artifact was the same file, and its end broke the seal: a loaded model is no other for that."""
    artifact = tmp_path / "artifact"
    artifact.write_bytes(WEIGHTS)
    with store.lease("test") as lease:
        store.adopt(lease, artifact, ours=True)
        before = place(store).stat()
        assert before.st_ino == artifact.stat().st_ino
        artifact.unlink()
        assert not store.is_sealed(store.layout.root, digest(WEIGHTS))
        AGAIN[again](store, lease)
        assert leftovers(store) == [f"leases/{lease.token}/claim"]
    after = place(store).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert store.is_sealed(store.layout.root, digest(WEIGHTS))


@pytest.mark.parametrize("again", AGAIN)
def test_a_blob_whose_seal_is_broken_and_that_is_not_sound_is_replaced(store: ModelStore, again: str) -> None:
    with store.lease("test") as lease:
        store.write(lease, [WEIGHTS])
        place(store).write_bytes(WEIGHTS[:-1] + b"?")
        AGAIN[again](store, lease)
    assert place(store).read_bytes() == WEIGHTS
    assert store.is_sealed(store.layout.root, digest(WEIGHTS))


@pytest.mark.parametrize(
    ("arrives", "size", "says"),
    [
        (WEIGHTS[:-1] + b"?", None, "has the digest"),
        (WEIGHTS[:-1], len(WEIGHTS), "has 7999 bytes, not the 8000"),
        (WEIGHTS + b"x", len(WEIGHTS), "longer than the 8000 bytes"),
    ],
)
def test_what_is_not_what_was_announced_is_refused_and_gone(
    store: ModelStore, arrives: bytes, size: int | None, says: str
) -> None:
    with store.lease("test") as lease, pytest.raises(ContentMismatch, match=says):
        store.write(lease, [arrives[:5000], arrives[5000:]], digest=digest(WEIGHTS), size=size)
    assert blobs(store) == set()
    assert not leftovers(store)


def test_an_endless_source_is_read_no_further_than_announced(store: ModelStore) -> None:
    taken = []

    def endless() -> Iterator[bytes]:
        while True:
            taken.append(1)
            yield b"x" * 1000

    with store.lease("test") as lease, pytest.raises(ContentMismatch):
        store.write(lease, endless(), digest=digest(WEIGHTS), size=3500)
    assert len(taken) == 4


def test_a_source_that_fails_leaves_nothing_and_fails_as_it_did(store: ModelStore) -> None:
    def failing() -> Iterator[bytes]:
        yield WEIGHTS
        raise ConnectionResetError("gone")

    with store.lease("test") as lease:
        with pytest.raises(ConnectionResetError):
            store.write(lease, failing())
        assert leftovers(store) == [f"leases/{lease.token}/claim"]
    assert blobs(store) == set()


def test_a_writer_that_is_not_committed_leaves_nothing(store: ModelStore) -> None:
    with store.lease("test") as lease:
        with store.writer(lease) as writer:
            writer.write(WEIGHTS)
        assert blobs(store) == set()
        assert leftovers(store) == [f"leases/{lease.token}/claim"]


@pytest.mark.parametrize("ours", [True, False])
def test_a_file_is_adopted_and_stays_where_it_is(store: ModelStore, tmp_path: Path, ours: bool) -> None:
    source = tmp_path / "model.gguf"
    source.write_bytes(WEIGHTS)
    told: list[int] = []
    with store.lease("test") as lease:
        assert store.adopt(lease, source, digest=digest(WEIGHTS), ours=ours, progress=told.append) == blob(WEIGHTS)
    assert source.read_bytes() == place(store).read_bytes() == WEIGHTS
    assert told == [len(WEIGHTS)]
    assert (place(store).stat().st_ino == source.stat().st_ino) == ours
    assert not leftovers(store)


def test_a_strangers_file_may_change_afterwards(store: ModelStore, tmp_path: Path) -> None:
    source = tmp_path / "model.gguf"
    source.write_bytes(WEIGHTS)
    with store.lease("test") as lease:
        store.adopt(lease, source)
    with source.open("r+b") as stream:
        stream.write(b"changed")
    assert place(store).read_bytes() == WEIGHTS


def test_a_file_of_ours_with_a_third_name_is_copied(store: ModelStore, tmp_path: Path) -> None:
    source = tmp_path / "model.gguf"
    source.write_bytes(WEIGHTS)
    os.link(source, tmp_path / "second.gguf")
    with store.lease("test") as lease:
        store.adopt(lease, source, ours=True)
    assert place(store).stat().st_nlink == 1


def test_a_link_to_a_file_of_ours_is_followed_and_copied(store: ModelStore, tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(WEIGHTS)
    (tmp_path / "link.gguf").symlink_to("model.gguf")
    with store.lease("test") as lease:
        store.adopt(lease, tmp_path / "link.gguf", ours=True)
    assert not place(store).is_symlink()
    assert place(store).read_bytes() == WEIGHTS


@pytest.mark.parametrize("ours", [True, False])
def test_a_file_of_another_digest_is_not_adopted(store: ModelStore, tmp_path: Path, ours: bool) -> None:
    source = tmp_path / "model.gguf"
    source.write_bytes(WEIGHTS + b"x")
    with store.lease("test") as lease, pytest.raises(ContentMismatch):
        store.adopt(lease, source, digest=digest(WEIGHTS), ours=ours)
    assert source.exists()
    assert blobs(store) == set()
    assert not leftovers(store)


def test_what_is_no_file_is_not_adopted_and_not_waited_for(store: ModelStore, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with store.lease("test") as lease:
        for source in (tmp_path / "fifo", tmp_path):
            with pytest.raises(ModelDamaged, match="not a plain file"):
                store.adopt(lease, source)
        with pytest.raises(InvalidRequest, match=r"none\.gguf: there is no such file"):
            store.adopt(lease, tmp_path / "none.gguf")


def test_a_blob_in_whose_place_something_else_lies_is_refused(store: ModelStore, tmp_path: Path) -> None:
    store.layout.prepare()
    (tmp_path / "outside").write_bytes(b"secret")
    place(store).symlink_to(tmp_path / "outside")
    with store.lease("test") as lease, pytest.raises(ModelDamaged, match="not a plain file"):
        store.write(lease, [WEIGHTS])
    assert (tmp_path / "outside").read_bytes() == b"secret"
    assert place(store).is_symlink()
