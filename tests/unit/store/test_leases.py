"""Leases: what is claimed stays, what is reserved is counted, and the dead leave nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.store.written import WEIGHTS, create, digest, leftovers

from localmodels.core.errors import DiskFull, StoreFailed
from localmodels.store.leases import Claim, living
from localmodels.store.model_store import ModelStore
from localmodels.store.space import KEEP_BYTES, Space, admit, kept

MIB = 2**20


def with_room(tmp_path: Path, free: int, total: int = 10**9) -> ModelStore:
    return ModelStore(tmp_path / "models", measure=lambda _descriptor: Space(total, free))


def test_a_twentieth_is_kept_free_and_of_a_large_disk_two_gigabytes() -> None:
    assert kept(Space(total=10**9, free=0)) == 50 * 10**6
    assert kept(Space(total=10**13, free=0)) == KEEP_BYTES == 2 * 10**9


@pytest.mark.parametrize(("needed", "free", "reserved", "fits"), [
    (50, 150, 0, True), (51, 150, 0, False), (50, 200, 50, True), (50, 199, 50, False), (0, 100, 0, True),
])  # fmt: skip
def test_room_is_what_is_free_less_what_is_kept_and_what_others_need(
    needed: int,
    free: int,
    reserved: int,
    fits: bool,
) -> None:
    space = Space(total=2000 * 10**6, free=free * 10**6)  # keeps 100 MB
    if fits:
        admit(needed * 10**6, space, reserved * 10**6)
    else:
        with pytest.raises(DiskFull):
            admit(needed * 10**6, space, reserved * 10**6)


def test_a_full_disk_is_told_with_its_figures() -> None:
    with pytest.raises(DiskFull) as refused:
        admit(5 * 10**9, Space(total=10**12, free=6 * 10**9), 10**9)
    assert refused.value.message == (
        "disk full: 5.0 GB are needed, 6.0 GB are free, 1.0 GB of them reserved by other downloads, and 2.0 GB are "
        "kept free; free 2.0 GB more, or use another disk"
    )
    assert (refused.value.status, refused.value.code) == (507, "disk_full")


def test_what_one_has_reserved_another_cannot_until_it_ends(tmp_path: Path) -> None:
    store = with_room(tmp_path, free=150 * 10**6)  # 50 MB of it are kept
    with store.lease("one", reserve=60 * 10**6):
        with pytest.raises(DiskFull):
            store.lease("two", reserve=60 * 10**6)
        with store.lease("two", reserve=40 * 10**6), pytest.raises(DiskFull):
            store.lease("three", reserve=1)
    with store.lease("two", reserve=100 * 10**6):
        pass
    assert not leftovers(store)


def test_reserving_adds_up(tmp_path: Path) -> None:
    store = with_room(tmp_path, free=150 * 10**6)
    with store.lease("one", reserve=60 * 10**6) as lease:
        lease.reserve(40 * 10**6)
        with pytest.raises(DiskFull):
            lease.reserve(1)
        assert lease.claim.reserved == 100 * 10**6


def test_what_is_written_is_no_longer_reserved(tmp_path: Path) -> None:
    store = with_room(tmp_path, free=10**9)
    with store.lease("one", reserve=65 * MIB) as lease:
        lease.spend(63 * MIB)
        assert lease.claim.reserved == 65 * MIB  # told in steps; never too little
        lease.spend(1 * MIB)
        assert lease.claim.reserved == MIB
        lease.spend(5 * MIB)
        assert lease.claim.reserved == 0
        with store.lock.held():
            assert dict(living(store.layout))[lease.token].reserved == 0


def test_who_reserves_more_has_used_up_what_he_wrote(tmp_path: Path) -> None:
    store = with_room(tmp_path, free=150 * 10**6)
    with store.lease("one", reserve=60 * 10**6) as lease:
        lease.spend(10 * 10**6)
        lease.reserve(50 * 10**6)
        assert lease.claim.reserved == 100 * 10**6
        with pytest.raises(DiskFull):
            lease.reserve(1)


def test_a_claim_is_read_by_others(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "models")
    with store.lease("pull tiny:1b", reserve=5) as lease:
        lease.protect(digest(b"a"), digest(b"b"))
        lease.protect(digest(b"b"))
        with store.lock.held():
            [(token, claim)] = living(store.layout)
    assert token == lease.token
    assert (claim.purpose, claim.reserved, claim.everything) == ("pull tiny:1b", 5, False)
    assert claim.digests == (digest(b"a").hex, digest(b"b").hex)


def test_what_a_dead_writer_left_is_cleared_away_by_whoever_reserves_next(tmp_path: Path) -> None:
    store = with_room(tmp_path, free=150 * 10**6)
    store.layout.prepare()
    dead = tmp_path / "models" / ".localmodels" / "leases" / "dead"
    dead.mkdir()
    for file, data in (("lock", b""), ("claim", b'{"purpose":"x","pid":1,"reserved":90000000}'), ("1.tmp", WEIGHTS)):
        (dead / file).write_bytes(data)
    with store.lease("next", reserve=100 * 10**6):
        assert not dead.exists()


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b'{"purpose": 1}'])
def test_a_living_claim_that_cannot_be_read_protects_everything(tmp_path: Path, data: bytes) -> None:
    store = ModelStore(tmp_path / "models")
    with store.lease("one") as lease:
        (tmp_path / "models" / ".localmodels" / "leases" / lease.token / "claim").write_bytes(data)
        with store.lock.held():
            assert dict(living(store.layout)) == {lease.token: Claim("unreadable", 0, everything=True)}


def test_what_is_no_lease_is_passed_over(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "models")
    store.layout.prepare()
    leases = tmp_path / "models" / ".localmodels" / "leases"
    (leases / "link").symlink_to(tmp_path)
    (leases / "file").write_bytes(b"x")
    create(store)
    with store.lock.held():
        assert dict(living(store.layout)) == {}


def test_ending_twice_is_ending(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "models")
    lease = store.lease("one")
    for _ in range(2):
        lease.close()
    assert not leftovers(store)


def test_a_root_that_is_no_directory_is_told(tmp_path: Path) -> None:
    (tmp_path / "models").write_bytes(b"x")
    with pytest.raises(StoreFailed, match="models: File exists"):
        ModelStore(tmp_path / "models").lease("one")
