"""No spelling and no link leads a writer out of the store (threats V-01, V-02, V-04).

Every entry that takes a digest or a name is tried with every hostile one, and with a link at every position of the
store; a picture of everything outside is the same before and after.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from msgspec import structs
from tests.unit.core.test_catalog import HOSTILE_NAMES, hostile_digests
from tests.unit.store.written import CONFIG, MANIFEST, NAME, OTHER, TEMPLATE, WEIGHTS, create, digest, picture

from localmodels.core.catalog import Digest, ModelName
from localmodels.core.errors import InvalidValue, LocalModelsError, ModelDamaged
from localmodels.store.leases import Lease
from localmodels.store.model_store import ModelStore

Entry = Callable[[ModelStore, Lease, Path], object]


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    store = ModelStore(tmp_path / "in" / "models")
    create(store)
    return store


def outside(tmp_path: Path) -> Mapping[str, tuple[int, str]]:
    return {path: one for path, one in picture(tmp_path).items() if not path.startswith("in/models")}


# A digest is parsed at the edge. These values went around it, as a mistake in this program would let them.
DIGEST_ENTRIES: Mapping[str, Callable[[ModelStore, Lease, Path, Digest], object]] = {
    "find": lambda store, _lease, _source, wrong: store.find(wrong),
    "protect": lambda _store, lease, _source, wrong: lease.protect(wrong),
    "write": lambda store, lease, _source, wrong: store.write(lease, [b"x"], digest=wrong),
    "write sized": lambda store, lease, _source, wrong: store.write(lease, [b"x"], digest=wrong, size=1),
    "writer": lambda store, lease, _source, wrong: store.writer(lease, digest=wrong),
    "adopt": lambda store, lease, source, wrong: store.adopt(lease, source, digest=wrong),
    "adopt ours": lambda store, lease, source, wrong: store.adopt(lease, source, digest=wrong, ours=True),
    "partial": lambda store, lease, _source, wrong: store.partial(lease, wrong, 1),
}


@pytest.mark.parametrize("entry", DIGEST_ENTRIES)
def test_three_hundred_spellings_of_a_digest_lead_nowhere(store: ModelStore, tmp_path: Path, entry: str) -> None:
    (tmp_path / "source").write_bytes(b"x")
    spellings = {one.removeprefix("sha256:") for one in hostile_digests()} - {"0123456789abcdef" * 4}
    assert len(spellings) >= 300
    before = picture(tmp_path)
    with store.lease("test") as lease:
        for spelling in sorted(spellings, key=ascii):
            with pytest.raises(LocalModelsError) as refused:
                DIGEST_ENTRIES[entry](store, lease, tmp_path / "source", Digest(spelling))
            assert refused.value.status in {400, 422}
    assert picture(tmp_path) == before


def test_three_hundred_spellings_in_a_manifest_lead_nowhere(store: ModelStore, tmp_path: Path) -> None:
    before = picture(tmp_path)
    with store.lease("test") as lease:
        for spelling in hostile_digests():
            for at in ("config", "layers"):
                document = json.loads(MANIFEST)
                layer = document[at][0] if at == "layers" else document[at]
                if spelling == f"sha256:{'0123456789abcdef' * 4}":
                    continue
                layer["digest"] = spelling
                with pytest.raises(ModelDamaged):
                    store.publish(lease, OTHER, json.dumps(document).encode())
    assert picture(tmp_path) == before


def raw(text: str) -> tuple[ModelName, ...]:
    """Names with the text in each of their parts, made without parsing."""
    whole = ModelName("registry.ollama.ai", "library", "tiny", "1b")
    return tuple(structs.replace(whole, **{part: text}) for part in ("host", "namespace", "name", "tag"))


NAME_ENTRIES: Mapping[str, Callable[[ModelStore, Lease, ModelName], object]] = {
    "publish": lambda store, lease, wrong: store.publish(lease, wrong, MANIFEST),
    "copy from": lambda store, _lease, wrong: store.copy(wrong, OTHER),
    "copy to": lambda store, _lease, wrong: store.copy(NAME, wrong),
    "delete": lambda store, _lease, wrong: store.delete(wrong),
    "read": lambda store, _lease, wrong: store.read_manifest(wrong),
}


@pytest.mark.parametrize("entry", NAME_ENTRIES)
def test_hostile_names_lead_nowhere(store: ModelStore, tmp_path: Path, entry: str) -> None:
    before = picture(tmp_path)
    with store.lease("test") as lease:
        for text in HOSTILE_NAMES:
            for name in raw(text):
                if _is_name(name):
                    continue  # hostile as a whole name, sound as one part of it (an upper-case host …)
                with pytest.raises(InvalidValue):
                    NAME_ENTRIES[entry](store, lease, name)
    assert picture(tmp_path) == before


def _is_name(name: ModelName) -> bool:
    try:
        return ModelName.parse(f"{name.host}/{name.namespace}/{name.name}:{name.tag}") == name
    except InvalidValue:
        return False


def _write(store: ModelStore) -> None:
    with store.lease("test") as lease:
        store.write(lease, [WEIGHTS])


def _adopt(store: ModelStore) -> None:
    source = store.layout.root.parents[1] / "source"
    source.write_bytes(WEIGHTS)
    try:
        with store.lease("test") as lease:
            store.adopt(lease, source, ours=True)
    finally:
        source.unlink()


def _pull(store: ModelStore) -> None:
    with store.lease("test") as lease, store.partial(lease, digest(WEIGHTS), len(WEIGHTS)) as partial:
        partial.write(0, WEIGHTS)
        partial.finish(0, len(WEIGHTS))
        partial.commit()


OPERATIONS: Mapping[str, Callable[[ModelStore], object]] = {
    "create": create,
    "write": _write,
    "adopt": _adopt,
    "pull": _pull,
    "copy to": lambda store: store.copy(OTHER, NAME),
    "copy from": lambda store: store.copy(NAME, ModelName.parse("third")),
    "delete": lambda store: store.delete(NAME),
    "collect": lambda store: store.collect(grace=-1.0),
    "check": lambda store: store.check(read_data=True),
    "recover": lambda store: store.recover(age=-1.0),
    "repair": lambda store: store.repair(read_data=True),
}
TINY = "manifests/registry.ollama.ai/library/tiny/1b"
POSITIONS = (
    "blobs", "manifests", ".localmodels", ".localmodels/leases", ".localmodels/partials", ".localmodels/lock",
    f"blobs/sha256-{digest(WEIGHTS).hex}", f"blobs/sha256-{digest(CONFIG).hex}", f"blobs/sha256-{digest(TEMPLATE).hex}",
    *("/".join(TINY.split("/")[:depth]) for depth in range(2, 6)),
    f".localmodels/partials/sha256-{digest(WEIGHTS).hex}", f".localmodels/partials/sha256-{digest(WEIGHTS).hex}.parts",
    ".localmodels/leases/link", "quarantine",
)  # fmt: skip


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_link_at_any_position_is_followed_by_nobody(
    store: ModelStore, tmp_path: Path, operation: str, position: str
) -> None:
    create(store, OTHER, b"other")
    planted = store.layout.root / position
    target = tmp_path / "target"
    if planted.exists():
        planted.rename(target)
    elif ".parts" in position or "sha256" in position:
        target.write_bytes(b"size 5\n")
    else:
        target.mkdir()
        (target / "precious").write_bytes(b"x")
    planted.symlink_to(target)
    before = outside(tmp_path)
    try:
        OPERATIONS[operation](store)
    except LocalModelsError as error:
        assert str(tmp_path) not in error.message  # noqa: PT017 - no error tells a path of the host
    assert outside(tmp_path) == before
