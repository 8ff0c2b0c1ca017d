"""A name means a whole model or nothing."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from tests.unit.store.written import (
    CONFIG,
    MANIFEST,
    NAME,
    OTHER,
    TEMPLATE,
    WEIGHTS,
    blobs,
    create,
    digest,
    leftovers,
    manifest,
    picture,
)

from localmodels.core.catalog import ModelName
from localmodels.core.errors import Conflict, ModelDamaged, ModelNotFound, Unavailable
from localmodels.store.folders import Folder
from localmodels.store.layout import Layout
from localmodels.store.manifests import MANIFEST_BYTES
from localmodels.store.model_store import ModelStore
from localmodels.store.ollama import OllamaShelf
from localmodels.store.publish import read_manifest

PLACE = Path("manifests/registry.ollama.ai/library/tiny/1b")


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


def publish(store: ModelStore, data: bytes, name: ModelName = NAME) -> None:
    with store.lease("create") as lease:
        for part in (WEIGHTS, TEMPLATE, CONFIG):
            store.write(lease, [part])
        store.publish(lease, name, data)


def test_a_manifest_is_kept_byte_for_byte_where_ollama_looks_for_it(store: ModelStore) -> None:
    spaced = json.dumps(json.loads(MANIFEST), indent=3).encode() + b"\n"
    publish(store, spaced)
    assert (store.layout.root / PLACE).read_bytes() == spaced
    assert store.read_manifest(NAME) == spaced
    assert not leftovers(store)


def test_what_is_published_is_what_the_shelf_lists(store: ModelStore, weights: bytes) -> None:
    with store.lease("create") as lease:
        for part in (weights, CONFIG):
            store.write(lease, [part])
        made = store.publish(lease, NAME, manifest(weights))
    [entry] = OllamaShelf(store.layout.root).list()
    assert entry.name == NAME
    assert entry.digest == made.digest == digest(manifest(weights)).hex


def test_a_name_may_come_to_mean_something_else_and_the_same_again(store: ModelStore) -> None:
    create(store)
    second = create(store, NAME, b"other weights")
    assert store.read_manifest(NAME) == second
    assert create(store) == store.read_manifest(NAME) == MANIFEST
    assert store.check(read_data=True) == (store.check()[0],)  # the other weights, which no model names


@pytest.mark.parametrize("lacking", [WEIGHTS, TEMPLATE, CONFIG], ids=["weights", "template", "config"])
def test_a_manifest_without_its_blobs_is_refused(store: ModelStore, lacking: bytes) -> None:
    with store.lease("create") as lease:
        for part in {WEIGHTS, TEMPLATE, CONFIG} - {lacking}:
            store.write(lease, [part])
        with pytest.raises(ModelDamaged, match=f"sha256-{digest(lacking).hex}: missing"):
            store.publish(lease, NAME, MANIFEST)
        path = store.layout.root / "blobs" / f"sha256-{digest(lacking).hex}"
        path.write_bytes(lacking[:-1])
        with pytest.raises(ModelDamaged, match=f"{len(lacking) - 1} bytes long, not {len(lacking)}"):
            store.publish(lease, NAME, MANIFEST)
    assert store.read_manifest(NAME) is None
    assert not leftovers(store)


def test_a_manifest_that_gives_a_blob_two_sizes_is_refused(store: ModelStore) -> None:
    document = json.loads(MANIFEST)
    document["layers"].append({**document["layers"][0], "mediaType": "x/y", "size": 1})
    with pytest.raises(ModelDamaged, match="two sizes"):
        publish(store, json.dumps(document).encode())


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", MANIFEST[:-1], b" " * (MANIFEST_BYTES + 1), b"\xff" + MANIFEST])
def test_what_is_no_manifest_is_refused_and_the_old_one_stays(store: ModelStore, data: bytes) -> None:
    create(store)
    with pytest.raises(ModelDamaged):
        publish(store, data)
    assert store.read_manifest(NAME) == MANIFEST


@pytest.mark.parametrize("twin", ["Tiny:1b", "tiny:1B", "LIBRARY/tiny:1b", "Registry.Ollama.AI/library/tiny:1b"])
def test_a_name_that_differs_in_case_alone_is_refused(store: ModelStore, twin: str) -> None:
    create(store)
    with pytest.raises(Conflict, match=r"registry\.ollama\.ai/library/tiny/1b.* case alone"):
        create(store, ModelName.parse(twin))
    with pytest.raises(Conflict):
        store.copy(NAME, ModelName.parse(twin))
    assert [str(name) for name in store.layout.names()] == ["tiny:1b"]
    store.delete(NAME)
    create(store, ModelName.parse(twin))


def test_directories_that_differ_in_case_are_no_twins_of_a_model(store: ModelStore) -> None:
    create(store)
    create(store, ModelName.parse("Tiny:8b"))
    assert {str(name) for name in store.layout.names()} == {"tiny:1b", "Tiny:8b"}


def test_a_copy_is_the_same_model_and_its_own_name(store: ModelStore) -> None:
    create(store)
    for _ in range(2):
        store.copy(NAME, OTHER)
    assert store.read_manifest(OTHER) == MANIFEST
    store.delete(NAME)
    assert store.read_manifest(OTHER) == MANIFEST
    assert store.check(read_data=True) == ()


def test_a_copy_onto_itself_changes_nothing(store: ModelStore) -> None:
    create(store)
    store.copy(NAME, NAME)
    assert store.read_manifest(NAME) == MANIFEST


def test_what_is_not_there_is_not_copied(store: ModelStore) -> None:
    with pytest.raises(ModelNotFound, match="model 'tiny:1b' not found"):
        store.copy(NAME, OTHER)
    create(store)
    with pytest.raises(ModelNotFound):
        store.copy(ModelName.parse("TINY:1b"), OTHER)


def test_a_damaged_model_is_not_copied_but_can_be_deleted(store: ModelStore) -> None:
    create(store)
    (store.layout.root / PLACE).write_bytes(b"{ torn")
    with pytest.raises(ModelDamaged):
        store.copy(NAME, OTHER)
    assert store.delete(NAME)
    assert store.read_manifest(NAME) is None


def test_deleting_takes_the_name_and_its_empty_directories_and_no_blob(store: ModelStore) -> None:
    create(store)
    create(store, OTHER)
    kept = blobs(store)
    assert store.delete(OTHER)
    assert not store.delete(OTHER)
    assert blobs(store) == kept
    assert sorted(path.name for path in (store.layout.root / "manifests").iterdir()) == ["registry.ollama.ai"]
    assert store.read_manifest(NAME) == MANIFEST


def test_deleting_where_nothing_is(store: ModelStore) -> None:
    assert not store.delete(NAME)
    assert list(store.layout.names()) == []


@pytest.mark.parametrize("depth", range(4))
def test_no_link_on_the_way_is_followed(store: ModelStore, tmp_path: Path, depth: int) -> None:
    create(store)
    at = store.layout.root.joinpath(*PLACE.parts[: depth + 2])
    at.rename(tmp_path / "outside")
    at.symlink_to(tmp_path / "outside")
    before = {path: one for path, one in picture(tmp_path).items() if "/verified/" not in path}  # only remembered
    for refused in (lambda: store.copy(OTHER, NAME), lambda: store.delete(NAME), lambda: create(store)):
        with pytest.raises((ModelDamaged, ModelNotFound)):
            refused()
    after = picture(tmp_path)
    assert {path: one for path, one in after.items() if path in before} == before
    assert not {path for path in set(after) - set(before) if not path.startswith("models/")}


def test_somebody_who_holds_the_lock_is_not_waited_for_without_end(store: ModelStore) -> None:
    create(store)
    other = ModelStore(store.layout.root, patience=0.0)
    with store.lock.held(), pytest.raises(Unavailable, match="has been locked for 0 s"):
        other.delete(NAME)
    assert other.delete(NAME)


def test_readers_wait_for_nobody(store: ModelStore) -> None:
    create(store)
    with store.lock.held():
        assert store.read_manifest(NAME) == MANIFEST
        assert store.find(digest(WEIGHTS), len(WEIGHTS)) is not None
        assert len(OllamaShelf(store.layout.root).list()) == 1


def test_no_descriptor_is_left_open(store: ModelStore) -> None:
    create(store)
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0  # noqa: PTH208 - counted, not used
    store.copy(NAME, OTHER)
    for refused in (lambda: publish(store, b"{}"), lambda: store.copy(ModelName.parse("none"), OTHER)):
        with pytest.raises((ModelDamaged, ModelNotFound)):
            refused()
    store.delete(OTHER)
    store.check(read_data=True)
    store.collect()
    store.recover()
    store.repair()
    after = len(os.listdir("/proc/self/fd")) if before else 0  # noqa: PTH208
    assert after == before


class Emptied(Layout):
    """Somebody takes the last name of a directory away, in the moment in which it is looked into."""

    gone: Path

    def place(self, name: ModelName, *, depth: int = 3, make: bool = False) -> Folder:
        if depth == 3 and not make:
            shutil.rmtree(self.gone)
        return super().place(name, depth=depth, make=make)


def test_a_name_whose_directory_goes_while_it_is_read_is_not_there(store: ModelStore) -> None:
    create(store)
    assert read_manifest(store.layout, NAME) == MANIFEST
    emptied = Emptied(store.layout.root)
    emptied.gone = (store.layout.root / PLACE).parent
    assert read_manifest(emptied, NAME) is None


def test_there_is_no_name_before_there_is_a_store(tmp_path: Path) -> None:
    assert ModelStore(tmp_path / "nowhere").read_manifest(NAME) is None
