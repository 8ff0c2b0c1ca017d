"""What was found whole is remembered, for as long as nothing about the file has changed and not for ever."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from tests.unit.store.written import CONFIG, MANIFEST, NAME, OTHER, TEMPLATE, WEIGHTS, age, create, digest

from localmodels.core.catalog import Digest
from localmodels.core.errors import ModelDamaged, ShuttingDown
from localmodels.store.folders import Folder
from localmodels.store.layout import Layout
from localmodels.store.manifests import parse_manifest
from localmodels.store.model_store import ModelStore
from localmodels.store.published import note_published, require_published
from localmodels.store.seals import AGE, DAY, Seals
from localmodels.store.soundness import is_sealed, require_sound

TINY = "manifests/registry.ollama.ai/library/tiny/1b"


class Clock:
    def __init__(self) -> None:
        self.now = 1e9

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    store = ModelStore(tmp_path / "models")
    create(store)
    return store


def path_of(store: ModelStore, data: bytes = WEIGHTS) -> Path:
    return store.layout.blob(digest(data))


def sealed(store: ModelStore, data: bytes = WEIGHTS) -> bool:
    return store.is_sealed(store.layout.root, digest(data))


def read(store: ModelStore, wanted: Digest) -> int:
    """Bytes that it takes to know that a blob is whole."""
    told: list[int] = []
    store.require_sound(store.layout.root, wanted, told.append)
    return sum(told)


def test_what_was_written_here_is_known_to_be_whole(store: ModelStore, tmp_path: Path) -> None:
    assert all(sealed(store, data) for data in (WEIGHTS, CONFIG, TEMPLATE))
    (tmp_path / "adopted").write_bytes(b"adopted")
    with store.lease("test") as lease, store.partial(lease, digest(b"pulled"), 6) as partial:
        partial.write(0, b"pulled")
        partial.finish(0, 6)
        partial.commit()
        store.adopt(lease, tmp_path / "adopted")
    assert sealed(store, b"pulled")
    assert sealed(store, b"adopted")


def test_a_seal_is_known_to_the_next_process(store: ModelStore) -> None:
    assert ModelStore(store.layout.root).is_sealed(store.layout.root, digest(WEIGHTS))


def test_what_nobody_hashed_is_read_once(store: ModelStore) -> None:
    path = path_of(store, b"by ollama")
    path.write_bytes(b"by ollama")
    assert not sealed(store, b"by ollama")
    assert read(store, digest(b"by ollama")) == len(b"by ollama")
    assert sealed(store, b"by ollama")


def rewritten(path: Path) -> None:
    path.write_bytes(path.read_bytes())


def replaced_with_its_times(path: Path) -> None:
    before = path.stat()
    path.with_suffix(".new").write_bytes(path.read_bytes())
    os.utime(path.with_suffix(".new"), ns=(before.st_atime_ns, before.st_mtime_ns))
    path.with_suffix(".new").rename(path)


def changed_with_its_times(path: Path) -> None:
    before = path.stat()
    path.write_bytes(path.read_bytes())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("change", [rewritten, replaced_with_its_times, changed_with_its_times])
def test_whoever_touches_a_file_breaks_its_seal(store: ModelStore, change: object) -> None:
    assert callable(change)
    change(path_of(store))
    assert not sealed(store)
    assert read(store, digest(WEIGHTS)) == len(WEIGHTS)
    assert sealed(store)


def test_a_missing_blob_is_not_sealed(store: ModelStore) -> None:
    path_of(store).unlink()
    assert not sealed(store)
    with pytest.raises(ModelDamaged, match="missing; pull or create"):
        read(store, digest(WEIGHTS))
    with pytest.raises(ModelDamaged, match="missing"):
        store.require_sound(store.layout.root / "nowhere", digest(WEIGHTS))


def test_damage_is_told_and_heals_when_the_blob_is_written_again(store: ModelStore) -> None:
    path_of(store).write_bytes(bytes([WEIGHTS[0] ^ 1]) + WEIGHTS[1:])
    with pytest.raises(ModelDamaged, match=f"{path_of(store).name}: damaged"):
        read(store, digest(WEIGHTS))
    assert not sealed(store)
    assert store.whole(digest(WEIGHTS), len(WEIGHTS)) is None
    create(store)
    assert store.whole(digest(WEIGHTS), len(WEIGHTS)) is not None


def test_a_seal_grows_old(store: ModelStore) -> None:
    clock = Clock()
    seals = Seals(store.layout, clock=clock)
    require_sound(store.layout, digest(WEIGHTS), seals)
    status = path_of(store).stat()
    clock.now += AGE - 1
    assert seals.vouches(digest(WEIGHTS), status)
    clock.now += 2
    assert not seals.vouches(digest(WEIGHTS), status)
    clock.now = 1e9 - 1  # the clock was set back: who knows how old it is
    assert not seals.vouches(digest(WEIGHTS), status)


def test_rot_that_changes_nothing_else_is_found_when_the_seal_is_old(store: ModelStore) -> None:
    clock = Clock()
    seals = Seals(store.layout, clock=clock)
    path_of(store).write_bytes(b"rotten" + WEIGHTS[6:])
    status = path_of(store).stat()
    seals.seal(digest(WEIGHTS), status)  # as if the disk had changed it later
    assert is_sealed(store.layout, digest(WEIGHTS), seals)
    clock.now += AGE + DAY
    with pytest.raises(ModelDamaged, match="damaged"):
        require_sound(store.layout, digest(WEIGHTS), seals)
    clock.now -= AGE + DAY
    assert not seals.vouches(digest(WEIGHTS), status)  # nor is it believed again


def test_a_check_that_reads_seals_and_breaks_seals(store: ModelStore) -> None:
    rewritten(path_of(store))
    assert store.check(read_data=True) == ()
    assert sealed(store)
    seals = Seals(store.layout)
    path_of(store).write_bytes(b"rotten" + WEIGHTS[6:])
    seals.seal(digest(WEIGHTS), path_of(store).stat())
    assert [finding.kind for finding in store.check(read_data=True)] == ["wrong content"]
    assert not sealed(store)


@pytest.mark.parametrize("at", [0, 70, -3])
def test_a_damaged_seal_is_none(store: ModelStore, at: int) -> None:
    note = store.layout.root / ".localmodels/verified" / path_of(store).name
    data = bytearray(note.read_bytes())
    data[at] ^= 1
    note.write_bytes(data)
    assert not sealed(store)
    read(store, digest(WEIGHTS))
    assert sealed(store)


def test_files_of_one_content_in_two_stores_are_both_remembered(store: ModelStore, tmp_path: Path) -> None:
    other = tmp_path / "ollama"
    (other / "blobs").mkdir(parents=True)
    (other / "blobs" / path_of(store).name).write_bytes(WEIGHTS)
    store.require_sound(other, digest(WEIGHTS))
    assert store.is_sealed(other, digest(WEIGHTS))
    assert sealed(store)
    assert not (other / ".localmodels").exists()


def test_old_seals_and_torn_ones_are_swept(store: ModelStore) -> None:
    verified = store.layout.root / ".localmodels/verified"
    published = store.layout.root / ".localmodels/published"
    for torn in (verified / f"{path_of(store).name}.abcd.new", published / f"{'0' * 64}.abcd.new"):
        torn.write_bytes(b"x")
    store.recover()
    assert [path.suffix for path in published.iterdir()] == [""]
    assert sorted(path.suffix for path in verified.iterdir()) == ["", "", ""]
    age(store, AGE + DAY)
    store.recover()
    assert list(verified.iterdir()) == []


def test_a_link_in_the_seals_place_is_not_followed(store: ModelStore, tmp_path: Path) -> None:
    (store.layout.root / ".localmodels/verified").rename(tmp_path / "outside")
    (store.layout.root / ".localmodels/verified").symlink_to(tmp_path / "outside")
    before = sorted(path.read_bytes() for path in (tmp_path / "outside").iterdir())
    assert not sealed(store)
    create(store, OTHER, b"more")
    store.recover()
    assert sorted(path.read_bytes() for path in (tmp_path / "outside").iterdir()) == before


def test_a_store_that_is_closed_reads_no_further(store: ModelStore) -> None:
    rewritten(path_of(store))
    store.close()
    with pytest.raises(ShuttingDown):
        store.whole(digest(WEIGHTS))


# Manifests have no digest in their names; what was published is remembered instead.


def test_a_changed_byte_in_a_manifest_is_found_wherever_it_is(store: ModelStore) -> None:
    path = store.layout.root / TINY
    for at in range(len(MANIFEST)):
        path.write_bytes(MANIFEST[:at] + bytes([MANIFEST[at] ^ 1]) + MANIFEST[at + 1 :])
        assert [one.kind for one in store.check() if not one.harmless], MANIFEST[at - 9 : at + 9]
    path.write_bytes(MANIFEST)
    assert store.check() == ()


def test_a_damaged_manifest_is_not_copied(store: ModelStore) -> None:
    (store.layout.root / TINY).write_bytes(MANIFEST[:-1] + b',"more":1}')
    with pytest.raises(ModelDamaged, match="not as it was published"):
        store.copy(NAME, OTHER)


def test_another_model_under_the_name_is_somebody_elses(store: ModelStore) -> None:
    """Ollama may write to the same layout."""
    create(store, OTHER, b"other")
    (store.layout.root / TINY).write_bytes(store.read_manifest(OTHER) or b"")
    assert [one.kind for one in store.check() if not one.harmless] == []


def titled(title: str) -> bytes:
    """The manifest with a title on its first layer, as adapters have one."""
    document = json.loads(MANIFEST)
    document["layers"][0]["annotations"] = {"org.opencontainers.image.title": title}
    return json.dumps(document).encode()


def test_what_ollama_writes_anew_is_sound(store: ModelStore) -> None:
    """It writes its own spaces, in its own order, and leaves out what it does not know."""
    with store.lease("test") as lease:
        store.publish(lease, OTHER, titled("style.gguf"))
    document = json.loads(MANIFEST)
    for written in (json.dumps(document, indent=3), json.dumps(dict(reversed(document.items())))):
        for path in (TINY, f"manifests/{OTHER.host}/{OTHER.namespace}/{OTHER.name}/{OTHER.tag}"):
            (store.layout.root / path).write_text(written)
        assert store.check() == ()
    (store.layout.root / TINY).write_bytes(titled("stylf.gguf"))
    assert [one.kind for one in store.check() if not one.harmless] == ["damaged manifest"]


class Full(Folder):
    """A directory on a full disk."""

    def create(self, file: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


class FullLayout(Layout):
    """A store whose notes cannot be written any more."""

    def published(self, *, make: bool = False) -> Folder:
        folder = super().published(make=make)
        return Full(folder.descriptor, folder.name) if make else folder


def test_a_manifest_that_could_not_be_noted_is_not_called_damaged(store: ModelStore) -> None:
    one, other = parse_manifest(MANIFEST), parse_manifest(titled("style.gguf"))
    note_published(FullLayout(store.layout.root), other)
    for manifest in (one, other):
        require_published(store.layout, manifest)


def test_every_manifest_of_the_same_blobs_that_was_published_is_sound(store: ModelStore) -> None:
    with store.lease("test") as lease:
        store.publish(lease, OTHER, MANIFEST + b"\n")
    assert store.check() == ()
    store.copy(NAME, OTHER)
    assert store.check() == ()


def test_what_was_published_is_forgotten_with_the_last_of_its_names(store: ModelStore) -> None:
    published = store.layout.root / ".localmodels/published"
    store.copy(NAME, OTHER)
    store.delete(NAME)
    store.collect()
    assert len(list(published.iterdir())) == 1
    store.delete(OTHER)
    store.collect()
    assert list(published.iterdir()) == []
