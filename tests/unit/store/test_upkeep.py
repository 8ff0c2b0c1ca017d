"""Everything that is wrong is found, in its place, and what is put right loses nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from tests.unit.store.written import (
    CONFIG,
    MANIFEST,
    NAME,
    OTHER,
    TEMPLATE,
    WEIGHTS,
    age,
    create,
    digest,
    leftovers,
    manifest,
    picture,
)

from localmodels.core.catalog import ModelName
from localmodels.core.errors import StoreFailed
from localmodels.store.check import Kind, check
from localmodels.store.lock import StoreLock
from localmodels.store.model_store import ModelStore

TINY = "manifests/registry.ollama.ai/library/tiny/1b"
BLOB = f"blobs/sha256-{digest(WEIGHTS).hex}"


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    store = ModelStore(tmp_path / "models")
    create(store)
    create(store, OTHER, b"other weights")
    return store


def flip(root: Path) -> None:
    data = bytearray((root / BLOB).read_bytes())
    data[len(data) // 2] ^= 1
    (root / BLOB).write_bytes(data)


def plant_link(path: Path, target: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(target)


DAMAGES: dict[str, tuple[Callable[[Path], object], Kind, str]] = {
    "torn manifest": (lambda root: (root / TINY).write_bytes(MANIFEST[:90]), "damaged manifest", TINY),
    "empty manifest": (lambda root: (root / TINY).write_bytes(b""), "damaged manifest", TINY),
    "missing blob": (lambda root: (root / BLOB).unlink(), "missing blob", TINY),
    "short blob": (lambda root: os.truncate(root / BLOB, 10), "wrong size", BLOB),
    "rotten blob": (flip, "wrong content", BLOB),
    "linked blob": (lambda root: plant_link(root / BLOB, root.parent), "stray", BLOB),
    "linked manifest": (lambda root: plant_link(root / TINY, root.parent), "stray", TINY),
    "file too high": (lambda root: (root / "manifests/file").write_bytes(b"x"), "stray", "manifests/file"),
    "directory too deep": (lambda root: (root / f"{TINY}x").mkdir(), "stray", f"{TINY}x"),
    "no name": (lambda root: (root / f"{TINY}-{'x' * 90}").write_bytes(MANIFEST), "damaged manifest", TINY),
    "notes": (lambda root: (root / "blobs/notes.txt").write_bytes(b"x"), "stray", "blobs/notes.txt"),
    "upper case": (lambda root: (root / f"blobs/sha256-{'A' * 64}").write_bytes(b"x"), "stray", "blobs/sha256-A"),
    "stray partial": (
        lambda root: (root / ".localmodels/partials/x").write_bytes(b""), "stray", ".localmodels/partials/x",
    ),
    "linked lease": (
        lambda root: (root / ".localmodels/leases/x").symlink_to("/"), "stray", ".localmodels/leases/x",
    ),
}  # fmt: skip
HARMLESS: dict[str, tuple[Callable[[Path], object], Kind]] = {
    "orphan": (lambda root: (root / f"blobs/sha256-{digest(b'x').hex}").write_bytes(b"x"), "orphan"),
    "ollama's part": (lambda root: (root / f"{BLOB}-partial-0").write_bytes(b"{}"), "unfinished"),
    "ollama's temporary": (lambda root: (root / "blobs/sha256-123456").write_bytes(b"x"), "unfinished"),
    "dead writer": (lambda root: (root / ".localmodels/leases/dead").mkdir(), "leftover"),
    "old journal": (
        lambda root: (root / f".localmodels/partials/sha256-{digest(b'x').hex}.parts").write_bytes(b"x"), "leftover",
    ),
    "partial": (
        lambda root: (root / f".localmodels/partials/sha256-{digest(b'x').hex}").write_bytes(b"x"), "partial",
    ),
}  # fmt: skip


def test_a_whole_store_has_no_findings(store: ModelStore) -> None:
    assert store.check(read_data=True) == ()
    assert store.repair(read_data=True) == ()


@pytest.mark.parametrize("damage", DAMAGES)
def test_each_damage_is_found_where_it_is_and_alone(store: ModelStore, damage: str) -> None:
    do, kind, where = DAMAGES[damage]
    do(store.layout.root)
    found = [finding for finding in store.check(read_data=True) if not finding.harmless]
    first = [finding for finding in found if finding.kind == kind]
    assert len(first) == 1
    assert first[0].path.startswith(where)
    assert first[0].why
    # A blob that is no file is both a stray and missing; a short one also has other content.
    assert {finding.kind for finding in found} - {kind} <= {"missing blob", "wrong content", "wrong size"}


@pytest.mark.parametrize("harmless", HARMLESS)
def test_what_is_harmless_is_said_to_be(store: ModelStore, harmless: str) -> None:
    do, kind = HARMLESS[harmless]
    do(store.layout.root)
    [finding] = store.check()
    assert (finding.kind, finding.harmless) == (kind, True)


def test_many_damages_hide_none(store: ModelStore) -> None:
    chosen = [one for one in DAMAGES if one not in {"empty manifest", "missing blob", "rotten blob", "linked blob"}]
    chosen.remove("linked manifest")
    wanted = set()
    for damage in chosen:
        DAMAGES[damage][0](store.layout.root)
        wanted.add(DAMAGES[damage][1:])
    found = store.check()
    for kind, where in wanted - {("wrong size", BLOB)}:  # no sound manifest is left that tells its size
        assert any(finding.kind == kind and finding.path.startswith(where) for finding in found), (kind, where)
    assert any("sha256-" in finding.path for finding in store.check(read_data=True) if finding.kind == "wrong content")


def test_rot_is_found_at_every_byte(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "models")
    create(store, NAME, b"small weights", TEMPLATE)
    for path in sorted((tmp_path / "models" / "blobs").iterdir()):
        sound = path.read_bytes()
        for at in range(len(sound)):
            path.write_bytes(sound[:at] + bytes([sound[at] ^ 0x40]) + sound[at + 1 :])
            assert [finding.path for finding in store.check(read_data=True)] == [f"blobs/{path.name}"]
        path.write_bytes(sound)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_repair_loses_nothing_and_the_model_heals_when_it_is_made_again(store: ModelStore, damage: str) -> None:
    root = store.layout.root
    DAMAGES[damage][0](root)
    before = {one for _, one in picture(root).values()}
    done = store.repair(read_data=True)
    assert before - {one for _, one in picture(root).values()} == set()
    for one in done:
        if one.action == "quarantined":
            assert os.path.lexists(root / one.note)
            assert one.note.endswith("/".join(one.finding.where))
            assert not os.path.lexists(root / one.finding.path)
    create(store)
    assert store.check(read_data=True) == ()
    assert store.read_manifest(OTHER) == manifest(b"other weights")


def test_a_sound_blob_is_not_put_away_because_a_manifest_lies_about_it(store: ModelStore) -> None:
    lie = MANIFEST.replace(b'"size": %d' % len(WEIGHTS), b'"size": 5')
    (store.layout.root / TINY).write_bytes(lie)
    assert [(one.finding.kind, one.action) for one in store.repair()] == [
        ("damaged manifest", "quarantined"), ("wrong size", "left"),
    ]  # fmt: skip
    assert (store.layout.root / BLOB).read_bytes() == WEIGHTS


def test_a_repair_is_repeated_without_effect(store: ModelStore) -> None:
    for damage in ("torn manifest", "rotten blob", "notes", "linked lease"):
        DAMAGES[damage][0](store.layout.root)
    done = store.repair(read_data=True)
    assert {one.action for one in done if not one.finding.harmless} == {"quarantined"}
    before = picture(store.layout.root)
    assert {one.action for one in store.repair(read_data=True)} <= {"left"}
    assert picture(store.layout.root) == before


def test_twins_in_case_are_told_and_left(store: ModelStore) -> None:
    twin = store.layout.root / "manifests/registry.ollama.ai/library/TINY/1b"
    twin.parent.mkdir()
    twin.write_bytes(MANIFEST)
    [finding] = store.check()
    assert (finding.kind, store.repair()[0].action) == ("case twin", "left")


def test_a_check_changes_nothing_and_needs_no_right_to_write(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "models")
    (tmp_path / "models" / "blobs").mkdir(parents=True)
    (tmp_path / "models" / "blobs" / f"sha256-{digest(CONFIG).hex}").write_bytes(CONFIG)
    before = picture(tmp_path)
    assert [finding.kind for finding in store.check(read_data=True)] == ["orphan"]
    assert picture(tmp_path) == before


def test_no_store_is_a_whole_store(tmp_path: Path) -> None:
    assert ModelStore(tmp_path / "none").check(read_data=True) == ()


@pytest.mark.parametrize("directory", ["blobs", "manifests", ".localmodels/leases", ".localmodels/partials"])
def test_a_linked_directory_is_a_finding_and_the_others_are_checked(
    store: ModelStore, tmp_path: Path, directory: str
) -> None:
    (store.layout.root / directory).rename(tmp_path / "outside")
    (store.layout.root / directory).symlink_to(tmp_path / "outside")
    (store.layout.root / "blobs" / "notes.txt").write_bytes(b"x")
    found = {finding.path for finding in store.check()}
    assert directory in found
    assert directory == "blobs" or "blobs/notes.txt" in found


def test_progress_counts_every_byte(store: ModelStore) -> None:
    told: list[int] = []
    store.check(read_data=True, progress=told.append)
    assert told == sorted(told)
    assert told[-1] == sum(path.stat().st_size for path in (store.layout.root / "blobs").iterdir())


def test_the_start_clears_away_what_the_dead_left_and_keeps_what_can_be_gone_on_with(store: ModelStore) -> None:
    own = store.layout.root / ".localmodels"
    dead = own / "leases" / "dead"
    dead.mkdir()
    for file in ("lock", "claim", "1.tmp"):
        (dead / file).write_bytes(WEIGHTS)
    for data in (b"old", b"new", WEIGHTS):
        (own / "partials" / f"sha256-{digest(data).hex}").write_bytes(b"x")
        (own / "partials" / f"sha256-{digest(data).hex}.parts").write_bytes(b"x")
    (own / "partials" / f"sha256-{digest(b'gone').hex}.parts").write_bytes(b"x")
    age(store)
    fresh = own / "partials" / f"sha256-{digest(b'new').hex}"
    os.utime(fresh)
    with store.lease("alive") as lease:
        gone = store.recover(age=3600.0)
        assert lease.folder.look("claim") is not None
        assert leftovers(store) == [
            f"leases/{lease.token}/claim", f"partials/{fresh.name}", f"partials/{fresh.name}.parts",
        ]  # fmt: skip
    assert len(gone) == 4
    assert store.recover(age=3600.0) == ()


def test_a_download_that_somebody_has_open_is_never_given_up(store: ModelStore) -> None:
    with store.lease("pull") as lease, store.partial(lease, digest(b"x"), 5):
        age(store)
        assert store.recover(age=0.0) == ()
    assert len(store.recover(age=0.0)) == 1


def test_names_that_are_not_utf8_are_told(store: ModelStore) -> None:
    (store.layout.root / os.fsdecode(b"blobs/\xff\xfe")).write_bytes(b"x")
    [finding] = store.check()
    finding.path.encode()
    assert store.repair()[0].action == "quarantined"


def test_a_name_of_somebody_elses_grammar_still_protects_its_blobs(store: ModelStore) -> None:
    foreign = store.layout.root / "manifests/registry.ollama.ai/library/tiny" / ("x" * 90)
    foreign.write_bytes(MANIFEST)
    store.delete(NAME)
    age(store)
    assert store.collect().doomed == ()
    assert ModelName.parse("hf.co/me/Tiny:q4") in set(store.layout.names())


class Unopenable(StoreLock):
    """The lock of a store that lies on a disk which may only be read."""

    def held(self) -> NoReturn:
        raise StoreFailed("lock: the file system is read-only")


def test_what_may_only_be_read_is_looked_at_all_the_same(store: ModelStore) -> None:
    lock = Unopenable(store.layout)
    assert check(store.layout, lock) == ()
    (store.layout.root / BLOB).unlink()
    assert [finding.kind for finding in check(store.layout, lock, read_data=True)] == ["missing blob"]
