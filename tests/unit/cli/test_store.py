"""``store``: what is wrong is a line each, and the exit code says whether anything is."""

from __future__ import annotations

import json

import pytest
from tests.unit.cli.conftest import Shell
from tests.unit.store.written import NAME, WEIGHTS, age, create, digest

from localmodels.store.model_store import ModelStore

BLOB = f"blobs/sha256-{digest(WEIGHTS).hex}"
MANIFEST = "manifests/registry.ollama.ai/library/tiny/1b"


@pytest.fixture
def store(shell: Shell) -> ModelStore:
    """A store with one model, in the home of the shell."""
    store = ModelStore(shell.home / "models")
    create(store)
    return store


def test_a_sound_store(shell: Shell, store: ModelStore) -> None:
    for words in (("check",), ("check", "--read-data"), ("repair",)):
        done = shell("store", *words)
        assert (done.code, done.out) == (0, "")
        assert done.err.endswith("the store is sound\n")
    assert shell("store", "gc").err == "0 B freed\n"
    assert json.loads(shell("store", "check", "--json").out) == []


def test_a_store_that_is_not_there_yet_is_not_made(shell: Shell) -> None:
    for action in ("check", "repair", "gc"):
        done = shell("store", action)
        assert (done.code, done.out) == (0, "")
        assert done.err == f"there is no store at {shell.home / 'models'} yet\n"
    assert not shell.home.exists()


def test_what_is_missing_is_told_and_stays_wrong(shell: Shell, store: ModelStore) -> None:
    (store.layout.root / BLOB).unlink()
    done = shell("store", "check")
    assert (done.code, done.err) == (1, "1 defect; repair puts right what can be\n")
    assert done.out == f"missing blob: {MANIFEST}: {BLOB.removeprefix('blobs/')}: missing\n"
    done = shell("store", "repair")
    assert (done.code, done.err) == (1, "0 put right, 1 left\n")
    assert done.out.endswith(": left (pull or create the model again)\n")
    (row,) = json.loads(shell("store", "check", "--json").out)
    assert (row["kind"], row["path"], row["harmless"]) == ("missing blob", MANIFEST, False)


def test_a_torn_manifest_is_put_aside(shell: Shell, store: ModelStore) -> None:
    (store.layout.root / MANIFEST).write_bytes(b'{"schemaVersion": 2,')
    assert shell("store", "check").code == 1
    (row,) = [row for row in json.loads(shell("store", "repair", "--json").out) if not row["harmless"]]
    assert (row["kind"], row["action"]) == ("damaged manifest", "quarantined")
    assert row["note"].startswith("quarantine/")
    assert shell("store", "check").code == 0  # what is left of it is a blob without a model, which harms nobody


def test_a_flipped_byte_is_found_only_by_reading(shell: Shell, store: ModelStore) -> None:
    path = store.layout.root / BLOB
    path.write_bytes(WEIGHTS.replace(b"w", b"W", 1))
    assert shell("store", "check").code == 0
    done = shell("store", "check", "--read-data")
    assert (done.code, done.out.startswith(f"wrong content: {BLOB}: ")) == (1, True)
    assert "reading blobs 100% of 8.1 KB\n" in done.err
    assert shell("store", "check", "--read-data", "--json").err.count("\n") == 1


def test_what_is_put_aside_is_then_missing(shell: Shell, store: ModelStore) -> None:
    (store.layout.root / BLOB).write_bytes(WEIGHTS.replace(b"w", b"W", 1))
    done = shell("store", "repair", "--read-data")
    wrong, missing = (line for line in done.out.splitlines() if "orphan" not in line)
    assert "quarantined (quarantine/" in wrong
    assert missing.endswith("missing: left (pull or create the model again)")
    assert (done.code, done.err.endswith("1 put right, 1 left\n")) == (1, True)
    create(store)
    assert shell("store", "check", "--read-data").code == 0


def test_gc_removes_what_no_model_needs(shell: Shell, store: ModelStore) -> None:
    store.delete(NAME)
    young = shell("store", "gc")
    assert (young.code, young.err) == (0, "0 B freed\n")
    assert young.out.count("kept, it may be part of a model that is just being made: blobs/") == 3
    age(store)
    done = shell("store", "gc", "--json")
    rows = {row["blob"]: row for row in json.loads(done.out)}
    assert rows[str(digest(WEIGHTS))] == {"blob": str(digest(WEIGHTS)), "size": len(WEIGHTS), "fate": "removed"}
    assert done.err == "8.1 KB freed\n"
    assert not (store.layout.root / BLOB).exists()


def test_another_home_and_another_word(shell: Shell) -> None:
    assert "/elsewhere/models" in shell("store", "check", "--home", "/elsewhere").err
    done = shell("store", "destroy")
    assert (done.code, "check" in done.err) == (2, True)


def test_what_was_not_finished_is_given_back_when_it_is_asked_for(shell: Shell, store: ModelStore) -> None:
    half = b"half of it" * 1000
    with store.lease("pull") as lease:
        store.write(lease, [b"an upload"])
        with store.partial(lease, digest(half), len(half)) as partial:
            partial.write(0, half[:5000])
            partial.finish(0, 5000)
    assert shell("store", "gc").err == "0 B freed\n"
    with store.lease("pull") as lease, store.partial(lease, digest(half), len(half)):
        assert "not finished" not in shell("store", "gc", "--partial").out  # somebody works on it
    done = shell("store", "gc", "--partial")
    assert done.out == (
        f"removed, a download that was not finished: .localmodels/partials/sha256-{digest(half).hex} 5.0 KB\n"
    )
    assert done.err == "5.0 KB freed\n"
    assert shell("store", "check").err == "the store is sound\n"
    assert shell("store", "check").out == ""
