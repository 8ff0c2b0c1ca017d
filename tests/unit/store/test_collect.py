"""Nothing that anybody may need is collected, and one damaged manifest stops nothing."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.store.written import CONFIG, MANIFEST, NAME, OTHER, WEIGHTS, age, blob, blobs, create, digest, leftovers

from localmodels.core.catalog import Digest
from localmodels.store.collect import GRACE, verdict
from localmodels.store.leases import Claim
from localmodels.store.model_store import ModelStore
from localmodels.store.stocktaking import Item, Sheet, read_sheet

NOW = 10**9
SECOND = 10**9  # nanoseconds
D = [Digest(f"{number:064x}") for number in range(6)]


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


def item(number: int, written: int) -> Item:
    return Item(f"sha256-{D[number].hex}", D[number], 10, written * SECOND, plain=True, unfinished=False, seen=(0, 0))


def sheet(*named: int, complete: bool = True, written: int | None = 0) -> Sheet:
    at = None if written is None else written * SECOND
    return Sheet(("h", "n", "m", "t"), legible=frozenset(D[one] for one in named), complete=complete, written=at)


items = st.builds(item, st.integers(0, 5), st.integers(NOW - 20, NOW))
sheets = st.builds(
    lambda named, complete, written: sheet(*named, complete=complete, written=written),
    st.lists(st.integers(0, 5), max_size=3), st.booleans(), st.none() | st.integers(NOW - 20, NOW),
)  # fmt: skip
claims = st.builds(
    lambda held, everything: Claim("x", 1, digests=tuple(D[one].hex for one in held), everything=everything),
    st.lists(st.integers(0, 5), max_size=2), st.sampled_from([False, False, False, True]),
)  # fmt: skip


@given(st.lists(items, max_size=6), st.lists(sheets, max_size=4), st.lists(claims, max_size=2))
def test_the_rule_is_the_rule(found: list[Item], read: list[Sheet], held: list[Claim]) -> None:
    decided = verdict(found, read, held, now=NOW, grace=10)
    doomed = {one.digest for one in decided.doomed}
    for one in found:
        assert one.digest is not None
        may_be_named = any(
            one.digest in sheet.legible
            or (not sheet.complete and (sheet.written is None or one.written <= sheet.written))
            for sheet in read
        )
        claimed = any(claim.everything or one.digest.hex in claim.digests for claim in held)
        safe = may_be_named or claimed or one.written > (NOW - 10) * SECOND
        assert safe or one.digest in doomed
        if len([same for same in found if same.digest == one.digest]) == 1:
            assert (one.digest in doomed) == (not safe)
    assert decided.freed == 10 * len(decided.doomed)


def test_what_is_not_a_blob_is_not_touched() -> None:
    strange = [
        Item("sha256-12345", None, 5, 0, plain=True, unfinished=True, seen=(0, 0)),
        Item("notes.txt", None, 5, 0, plain=True, unfinished=False, seen=(0, 0)),
        Item(f"sha256-{D[1].hex}", D[1], 5, 0, plain=False, unfinished=False, seen=(0, 0)),
    ]
    assert verdict(strange, [], [], now=NOW, grace=0).doomed == ()


ESCAPED = json.dumps({"digest": str(D[1])}).replace("sha", "\\u0073ha").encode()


@pytest.mark.parametrize(("data", "named", "complete"), [
    (MANIFEST, {digest(WEIGHTS), digest(CONFIG)}, True),
    (MANIFEST[:-1], {digest(WEIGHTS), digest(CONFIG)}, False),
    (b'{"schemaVersion": 1}', set(), True),
    (ESCAPED, {D[1]}, True),
    (b'{"a": "sha256-%s", "a": "SHA256:%s"}' % (D[1].hex.encode(), D[2].hex.encode()), {D[1], D[2]}, True),
    (b"", set(), False),
    (b"\0" * 600, set(), False),
    (MANIFEST + b"\0", {digest(WEIGHTS), digest(CONFIG)}, False),
    (b"[]", set(), False),
    (b"[" * 100_000, set(), False),
])  # fmt: skip
def test_every_digest_that_can_be_read_is_read(data: bytes, named: set[Digest], complete: bool) -> None:
    read = read_sheet(("registry.ollama.ai", "library", "tiny", "1b"), data)
    assert named <= read.legible
    assert read.complete == complete
    assert (read.manifest is not None) == (data == MANIFEST)


def test_what_no_model_names_goes_and_the_rest_stays(store: ModelStore) -> None:
    create(store)
    create(store, OTHER, b"only here")
    store.delete(OTHER)
    age(store)
    before = blobs(store)
    decided = store.collect()
    assert decided.doomed == (blob(b"only here"),)
    assert before - blobs(store) == {f"sha256-{digest(b'only here').hex}"}
    assert not leftovers(store)
    assert store.collect().doomed == ()
    assert store.check(read_data=True) == ()


def test_what_is_young_stays(store: ModelStore) -> None:
    with store.lease("upload") as lease:
        store.write(lease, [WEIGHTS])
    assert store.collect().young == (blob(WEIGHTS),)
    age(store, GRACE + 60)
    assert store.collect().doomed == (blob(WEIGHTS),)


def test_what_a_deleted_model_had_need_not_grow_old(store: ModelStore) -> None:
    create(store)
    create(store, OTHER, b"only here")
    store.delete(OTHER)
    assert store.collect().young == (blob(b"only here"),)
    assert store.collect(released=[digest(b"only here"), digest(CONFIG)]).doomed == (blob(b"only here"),)
    assert store.check(read_data=True) == ()


def test_what_somebody_counts_on_is_young_again(store: ModelStore) -> None:
    """It was uploaded a second time, or asked for: the model that names it is made next."""
    create(store)
    orphans = (b"uploaded again", b"asked for", b"forgotten")
    with store.lease("upload") as lease:
        for data in orphans:
            store.write(lease, [data])
    age(store)
    with store.lease("upload") as lease:
        store.write(lease, [b"uploaded again"])
    store.ask(digest(b"asked for"))
    decided = store.collect()
    assert {one.digest for one in decided.young} == {digest(b"uploaded again"), digest(b"asked for")}
    assert decided.doomed == (blob(b"forgotten"),)


def test_seals_go_with_their_blobs_and_those_of_other_stores_stay(store: ModelStore, tmp_path: Path) -> None:
    create(store)
    create(store, OTHER, b"only here")
    theirs = ModelStore(tmp_path / "theirs")
    create(theirs)
    store.require_sound(theirs.layout.root, digest(WEIGHTS))
    for name in (NAME, OTHER):
        store.delete(name)
    age(store)
    assert len(store.collect().doomed) == 4
    seals = store.layout.root / ".localmodels/verified"
    assert [path.name for path in seals.iterdir()] == [f"sha256-{digest(WEIGHTS).hex}"]
    assert store.is_sealed(theirs.layout.root, digest(WEIGHTS))


def test_what_is_leased_stays_until_the_lease_ends(store: ModelStore) -> None:
    create(store)
    store.delete(NAME)
    age(store)
    with store.lease("load") as lease:
        lease.protect(digest(WEIGHTS))
        assert store.collect().leased == (blob(WEIGHTS),)
        assert blobs(store) == {f"sha256-{digest(WEIGHTS).hex}"}
    assert store.collect().doomed == (blob(WEIGHTS),)


def test_a_torn_manifest_holds_what_it_may_name_and_not_what_came_later(store: ModelStore) -> None:
    create(store)
    with store.lease("upload") as lease:
        for data in (b"older", b"later"):
            store.write(lease, [data])
    age(store, 3 * 86_400.0)
    torn = store.layout.root / "manifests/registry.ollama.ai/library/bad/1b"
    torn.parent.mkdir()
    torn.write_bytes(b"")
    later = store.layout.root / "blobs" / f"sha256-{digest(b'later').hex}"
    for path, days in ((torn, 2), (later, 1)):
        _aged(path, days)
    decided = store.collect()
    assert decided.doomed == (blob(b"later"),)
    assert decided.held == (blob(b"older"),)
    assert decided.holding == ("manifests/registry.ollama.ai/library/bad/1b",)
    store.repair()
    assert store.collect().doomed == (blob(b"older"),)


def test_a_link_among_the_manifests_holds_everything(store: ModelStore, tmp_path: Path) -> None:
    create(store, OTHER)
    (store.layout.root / "manifests/hf.co").rename(tmp_path / "outside")
    (store.layout.root / "manifests/hf.co").symlink_to(tmp_path / "outside")
    age(store)
    before = blobs(store)
    assert len(store.collect().held) == 3
    assert blobs(store) == before


def test_a_store_without_names_is_left_alone(store: ModelStore) -> None:
    create(store)
    age(store)
    (store.layout.root / "manifests").rename(store.layout.root / "elsewhere")
    before = blobs(store)
    assert store.collect().doomed == ()
    assert blobs(store) == before


def _aged(path: Path, days: int) -> None:
    then = time.time() - days * 86_400.0
    os.utime(path, (then, then))
