from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.unit.store.full_disk import no_file_longer_than

from localmodels.core.artifacts import Artifact, ArtifactFile
from localmodels.core.errors import (
    Conflict,
    ContentMismatch,
    DiskFull,
    InvalidRequest,
    InvalidValue,
    ModelDamaged,
    NotFound,
    QuotaFull,
    TooLarge,
)
from localmodels.store.artifacts import ArtifactStore
from localmodels.store.exchange import Exchange, exchange
from localmodels.store.folders import Folder
from localmodels.store.room import Room
from localmodels.store.space import Space

OLD: Mapping[str, bytes] = {"config.json": b"{}", "model.safetensors": b"old" * 1000}
NEW: Mapping[str, bytes] = {"config.json": b'{"new": true}', "1_Pooling/config.json": b"{}", "README.md": b""}


def never(one: Folder, name: str, other: Folder, its: str) -> bool:
    """As on a file system where two names cannot change places."""
    return False


SWAPS: list[Exchange] = [exchange, never]

# A process of its own that has a part of an upload written; it says so, and then waits for its input to end.
WRITES = """
import sys
from pathlib import Path
from localmodels.store.artifacts import ArtifactStore

draft = ArtifactStore(Path(sys.argv[1])).draft(sys.argv[2])
draft.save().write(b"zi")
print("written", flush=True)
sys.stdin.read()
"""


@contextmanager
def writing(root: Path, job: str) -> Iterator[None]:
    """Another process writes an upload; at the end it dies of it."""
    command = [sys.executable, "-c", WRITES, str(root), job]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        try:
            yield
        finally:
            process.kill()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "home" / "artifacts"


@pytest.fixture
def store(root: Path) -> ArtifactStore:
    return ArtifactStore(root)


def artifact(name: str = "mine", created_at: int = 0) -> Artifact:
    return Artifact(name=name, kind="model", size=0, architecture="LlamaForCausalLM", created_at=created_at)


def published(
    store: ArtifactStore, files: Mapping[str, bytes] = OLD, name: str = "mine", created_at: int = 0
) -> Artifact:
    with store.draft(f"job-{name}") as draft:
        with draft.save() as writer:
            writer.write(b"the archive")
            writer.commit()
        for file, data in files.items():
            with draft.file(file, len(data)) as writer:
                writer.write(data)
                writer.commit()
        made = draft.publish(artifact(name, created_at))
        draft.discard()
        return made


def content(store: ArtifactStore, name: str = "mine") -> dict[str, bytes]:
    with store.held(name) as held:
        return {file: path.read_bytes() for file, path in held.files.items()}


def left(root: Path) -> list[str]:
    """What lies among the drafts."""
    return sorted(path.name for path in (root / ".drafts").iterdir() if path.name != "lock")


# Published


def test_nothing_is_there_and_nothing_is_made_before_something_is_written(store: ArtifactStore, root: Path) -> None:
    store.recover()
    store.discard("job")
    assert store.all() == ()
    with pytest.raises(NotFound, match="artifact 'mine' not found"):
        store.get("mine")
    with pytest.raises(NotFound):
        store.held("mine")
    with pytest.raises(NotFound):
        store.delete("mine")
    assert not root.exists()


def test_what_is_published_is_there_whole(store: ArtifactStore, root: Path) -> None:
    made = published(store, NEW, created_at=5)
    assert made.files == (
        ArtifactFile("1_Pooling/config.json", 2), ArtifactFile("README.md", 0), ArtifactFile("config.json", 13),
    )  # fmt: skip
    assert made.size == 15
    assert store.get("mine") == made
    assert store.all() == (made,)
    assert content(store) == NEW
    assert left(root) == []
    assert ArtifactStore(root).get("mine") == made


def test_nobody_else_may_read_it(store: ArtifactStore, root: Path) -> None:
    published(store, NEW)
    with store.draft("other") as draft:
        draft.save().commit()
    modes = {
        stat.S_IMODE(path.stat().st_mode) for path in (root, *root.rglob("*")) if path.is_dir() or path.name != "lock"
    }
    assert modes == {0o700, 0o600}
    assert stat.S_IMODE((root / ".drafts" / "other" / "upload").stat().st_mode) == 0o600
    assert stat.S_IMODE((root / ".drafts" / "lock").stat().st_mode) == 0o600


@pytest.mark.parametrize("swap", SWAPS)
def test_one_takes_the_place_of_another(root: Path, swap: Exchange) -> None:
    store = ArtifactStore(root, swap=swap)
    published(store, OLD)
    made = published(store, NEW)
    assert store.all() == (made,)
    assert content(store) == NEW
    assert left(root) == []


def test_the_newest_comes_first(store: ArtifactStore) -> None:
    for name, moment in (("b", 1), ("a", 1), ("c", 3), ("d", 2)):
        published(store, name=name, created_at=moment)
    assert [one.name for one in store.all()] == ["c", "d", "a", "b"]


def test_two_that_come_at_once_leave_one_of_them_whole(store: ArtifactStore, root: Path) -> None:
    drafts = [store.draft(job) for job in ("one", "two")]
    for draft, files in zip(drafts, (OLD, NEW), strict=True):
        for file, data in files.items():
            with draft.file(file, len(data)) as writer:
                writer.write(data)
                writer.commit()
    barrier = threading.Barrier(2)
    ended = []

    def publish(number: int) -> None:
        barrier.wait()
        ended.append(drafts[number].publish(artifact()))
        drafts[number].discard()

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ended) == 2
    assert content(store) in (OLD, NEW)
    assert left(root) == []


def test_two_names_must_not_differ_in_case_alone(store: ArtifactStore) -> None:
    published(store)
    with pytest.raises(Conflict, match="'mine' is here, which differs in case alone"):
        published(store, NEW, name="Mine")
    with pytest.raises(Conflict, match="differs in case alone"):
        store.expect_free("MINE")
    with pytest.raises(NotFound):
        store.get("Mine")
    with pytest.raises(NotFound):
        store.delete("Mine")
    assert content(store) == OLD


@pytest.mark.parametrize("name", ["", ".drafts", "..", "../mine", "a/b", "a b", "x" * 129])
def test_what_cannot_be_a_name_is_none(store: ArtifactStore, name: str) -> None:
    for work in (store.get, store.held, store.delete, store.expect_free, lambda name: published(store, name=name)):
        with pytest.raises((InvalidValue, ValueError)):
            work(name)


# In use


def test_what_is_in_use_stays(store: ArtifactStore, root: Path) -> None:
    made = published(store)
    with store.held("mine") as held, store.held("mine") as again:
        assert held.artifact == again.artifact == made
        with pytest.raises(Conflict, match="'mine' is in use"):
            store.delete("mine")
        with pytest.raises(Conflict, match="'mine' is in use"):
            store.expect_free("mine")
        with pytest.raises(Conflict, match="'mine' is in use"):
            published(store, NEW)
        assert content(store) == OLD
        held.close()
        held.close()
        with pytest.raises(Conflict):
            store.delete("mine")
    published(store, NEW)
    assert content(store) == NEW
    store.delete("mine")
    assert store.all() == ()


def test_a_draft_that_was_in_the_way_of_nobody_can_be_published_later(store: ArtifactStore) -> None:
    published(store)
    with store.draft("later") as draft:
        with draft.file("config.json", 2) as writer:
            writer.write(b"[]")
            writer.commit()
        with store.held("mine"), pytest.raises(Conflict):
            draft.publish(artifact())
        draft.publish(artifact())
    assert content(store) == {"config.json": b"[]"}


def test_another_process_sees_that_it_is_in_use(store: ArtifactStore, root: Path) -> None:
    published(store)
    with store.held("mine"), pytest.raises(Conflict):
        ArtifactStore(root).delete("mine")


def test_deleting_takes_it_away_once(store: ArtifactStore, root: Path) -> None:
    published(store)
    published(store, NEW, name="other")
    store.delete("mine")
    with pytest.raises(NotFound):
        store.delete("mine")
    assert [one.name for one in store.all()] == ["other"]
    assert left(root) == []


# Drafts


def test_what_was_saved_is_found_again_and_what_was_not_is_gone(store: ArtifactStore, root: Path) -> None:
    with store.draft("whole") as draft:
        with draft.save(3) as writer:
            writer.write(b"zip")
            saved = [draft.saved]
            writer.commit()
        saved.append(draft.saved)
        assert saved == [None, root / ".drafts" / "whole" / "upload"]
        with draft.file("config.json", 2) as writer:
            writer.write(b"{}")
            writer.commit()
    with writing(root, "half"):
        pass
    again = ArtifactStore(root)
    again.recover(keep=["whole", "half"])
    with again.draft("whole") as draft:
        assert draft.saved == saved[1]
        assert (root / ".drafts" / "whole" / "upload").read_bytes() == b"zip"
        assert draft.files == ()
        assert not (root / ".drafts" / "whole" / "new").exists()
    with again.draft("half") as draft:
        assert draft.saved is None
        assert list((root / ".drafts" / "half").iterdir()) == []


def test_what_the_dead_left_is_cleared_away(store: ArtifactStore, root: Path) -> None:
    published(store)
    with writing(root, "dead"):
        pass
    (root / ".drafts" / "gone-1234" / "gone" / "files").mkdir(parents=True)
    (root / ".drafts" / "stray file").write_bytes(b"")
    (root / ".drafts" / "link").symlink_to(root / "mine")
    with store.draft("kept") as draft:
        draft.save().commit()
    ArtifactStore(root).recover(keep=["kept"])
    assert left(root) == ["kept"]
    assert content(store) == OLD


def test_what_another_process_writes_is_not_the_dead_s(store: ArtifactStore, root: Path) -> None:
    with writing(root, "live"):
        store.recover()
        assert (root / ".drafts" / "live" / "upload.part").read_bytes() == b"zi"
        with pytest.raises(Conflict, match="is being worked on"):
            store.draft("live")
        with pytest.raises(Conflict):
            store.discard("live")
    store.recover(keep=["live"])
    assert left(root) == ["live"]
    store.recover()
    assert left(root) == []


def test_a_draft_is_one_s_alone_until_it_is_closed_or_thrown_away(store: ArtifactStore, root: Path) -> None:
    again = ArtifactStore(root)
    draft = store.draft("job")
    with draft.save() as writer:
        writer.write(b"zip")
        writer.commit()
    for one in (store, again):
        with pytest.raises(Conflict):
            one.draft("job")
        one.recover()
    draft.close()
    with again.draft("job") as other:
        assert other.saved is not None
        with pytest.raises(Conflict):
            store.draft("job")
        other.discard()
    with store.draft("job") as draft:
        assert draft.saved is None


def test_what_a_crash_took_out_of_use_is_put_back(store: ArtifactStore, root: Path) -> None:
    published(store)
    (root / ".drafts" / "crashed" / "old").mkdir(parents=True)
    (root / "mine").rename(root / ".drafts" / "crashed" / "old" / "mine")
    assert store.all() == ()
    store.recover()
    assert content(store) == OLD
    assert left(root) == []


def test_what_was_replaced_is_not_put_back(store: ArtifactStore, root: Path) -> None:
    published(store, OLD)
    (root / ".drafts" / "crashed" / "old").mkdir(parents=True)
    (root / "mine").rename(root / ".drafts" / "crashed" / "old" / "mine")
    published(store, NEW)
    store.recover()
    assert content(store) == NEW


def test_a_draft_leaves_nothing_when_it_is_discarded(store: ArtifactStore, root: Path) -> None:
    draft = store.draft("job")
    with draft.save() as writer:
        writer.write(b"zip")
        writer.commit()
    draft.file("a/b.json", 3).write(b"{}")
    draft.discard()
    assert left(root) == []
    store.discard("job")
    assert left(root) == []


def test_starting_over_leaves_the_saved_file_alone(store: ArtifactStore, root: Path) -> None:
    with store.draft("job") as draft:
        with draft.save() as writer:
            writer.write(b"zip")
            writer.commit()
        for _ in range(2):
            with draft.file("config.json", 2) as writer:
                writer.write(b"{}")
                writer.commit()
            draft.start_over()
        assert draft.files == ()
        assert [path.name for path in (root / ".drafts" / "job").iterdir()] == ["upload"]


def test_a_file_can_be_the_artifact_itself(store: ArtifactStore) -> None:
    with store.draft("job") as draft:
        with pytest.raises(NotFound, match="upload it again"):
            draft.take("model.gguf")
        draft.start_over()
        with draft.save() as writer:
            writer.write(b"GGUF...")
            writer.commit()
        draft.take("model.gguf")
        assert draft.saved is not None
        assert draft.publish(artifact()).size == 7
        assert draft.files == ()
        draft.discard()
    assert content(store) == {"model.gguf": b"GGUF..."}
    assert (store.held("mine").files["model.gguf"]).stat().st_nlink == 1


@pytest.mark.parametrize(
    "name",
    [
        "", "/etc/passwd", "../x", "a/../../x", "a//b", "./a", "a/.", "a\\b", "C:\\x", "a\0b", "a\nb", "a/b/c/d/e",
        "x" * 300, "aux.json", "~/x",
    ],
)  # fmt: skip
def test_no_name_leads_out_of_the_draft(store: ArtifactStore, tmp_path: Path, name: str) -> None:
    with store.draft("job") as draft:
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(InvalidRequest):
            draft.file(name, 1)
        assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("first", "second"),
    [("a", "a"), ("a", "A"), ("x/a", "X/b"), ("a", "a/b"), ("a/b", "a"), ("\u00e9", "e\u0301"), ("a/B", "a/b")],
)
def test_names_that_some_file_system_takes_for_one_are_refused(store: ArtifactStore, first: str, second: str) -> None:
    with store.draft("job") as draft:
        with draft.file(first, 0) as writer:
            writer.commit()
        with pytest.raises(InvalidRequest):
            draft.file(second, 0)


def test_a_planted_link_is_not_followed(store: ArtifactStore, root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    with store.draft("job") as draft:
        with draft.file("config.json", 2) as writer:
            writer.write(b"{}")
            writer.commit()
        (root / ".drafts" / "job" / "new" / "files" / "sub").symlink_to(outside)
        with pytest.raises(ModelDamaged):
            draft.file("sub/x", 1)
    store.recover()
    assert list(outside.iterdir()) == []


def test_a_file_has_exactly_the_size_that_was_said(store: ArtifactStore) -> None:
    with store.draft("job") as draft:
        with draft.file("long", 2) as writer, pytest.raises(ContentMismatch, match="long: longer than the 2"):
            writer.write(b"{ }")
        with draft.file("short", 2) as writer:
            writer.write(b"{")
            with pytest.raises(ContentMismatch, match="short: 1 bytes, not the 2"):
                writer.commit()
        assert draft.files == ()
        assert list(draft.place.iterdir()) == []


# Which artifact it is


def test_an_artifact_is_known_by_more_than_its_name(store: ArtifactStore) -> None:
    first = published(store)
    assert len(first.id) == 32
    assert store.get("mine").id == first.id
    with store.held("mine", first.id) as held:
        assert held.artifact == first
    second = published(store)
    assert second.id not in {"", first.id}
    with pytest.raises(Conflict, match="'mine' was replaced meanwhile"):
        store.held("mine", first.id)
    with store.held("mine") as held:
        assert held.artifact == second
    store.delete("mine")  # the refused one holds nothing


# Room


def test_the_quota_counts_artifacts_and_drafts(root: Path) -> None:
    store = ArtifactStore(root, quota=10_000)
    published(store)
    used = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    with store.draft("one") as one, store.draft("two") as two:
        writer = one.save(5000)
        with pytest.raises(TooLarge, match=f"{10_000 - used - 5000} are left of the 10000"):
            two.save(10_000 - used - 5000 + 1)
        two.require(10_000 - used - 5000)
        writer.write(bytes(4000))
        writer.commit()
        two.require(10_000 - used - 4000)
        with pytest.raises(TooLarge):
            two.file("too large", 10_000 - used - 4000 + 1)
        one.discard()
        with two.file("model.safetensors", 10_000 - used) as file:
            file.write(bytes(10_000 - used))
            file.commit()
        with pytest.raises(TooLarge):
            two.file("more", 1)


def test_what_lies_there_is_counted_once_a_draft_and_not_once_a_file() -> None:
    counts = []

    def used() -> int:
        counts.append(1)
        return 100

    room = Room(10_000, used, lambda _: Space(10**12, 10**11))
    room.look_again()
    for _ in range(50):
        with room.share(0) as share:
            share.more(100)
            share.spend(100)
    assert len(counts) == 1
    with room.share(0) as share, room.share(0) as other:  # two at once, beside the 5,100 bytes that lie there
        share.more(4000)
        other.more(900)
        assert len(counts) == 1
        with pytest.raises(QuotaFull, match="5001 bytes are needed, and 5000 are left"):
            other.more(5001)
    assert len(counts) == 2  # nobody is refused without another look


def test_what_was_taken_away_by_others_makes_room_at_once() -> None:
    there = [900]
    room = Room(1000, lambda: there[0], lambda _: Space(10**12, 10**11))
    with room.share(0) as share:
        share.more(100)
        share.spend(100)
        there[0] = 1000
        with pytest.raises(QuotaFull, match="0 are left of the 1000"):
            share.more(1)
        there[0] = 300
        share.more(700)


def test_a_body_of_unknown_length_stops_at_the_quota(root: Path) -> None:
    store = ArtifactStore(root, quota=100 * 2**20)
    piece = bytes(2**20)
    with store.draft("job") as draft, draft.save() as writer:
        for _ in range(100):
            writer.write(piece)
        with pytest.raises(TooLarge, match="0 are left"):
            writer.write(b"x")
    assert list((root / ".drafts" / "job").iterdir()) == []


def test_what_is_not_written_is_given_back(root: Path) -> None:
    store = ArtifactStore(root, quota=1000)
    with store.draft("job") as draft:
        for _ in range(3):
            draft.save(900).cancel()
            with pytest.raises(ContentMismatch), draft.file("a", 900) as writer:
                writer.commit()
            draft.start_over()


def test_a_disk_without_room_is_said_to_be_full(root: Path) -> None:
    store = ArtifactStore(root, measure=lambda _: Space(total=10**12, free=3 * 10**9))
    with store.draft("job") as draft:
        draft.require(10**9)
        with pytest.raises(DiskFull, match=r"2\.0 GB are kept free"):
            draft.save(10**9 + 1)
        with draft.save(6 * 10**8), pytest.raises(DiskFull, match=r"0\.6 GB of them reserved|600\.0 MB of them"):
            draft.file("a", 5 * 10**8)


def test_a_disk_that_fills_up_meanwhile_leaves_what_was_there(store: ArtifactStore, root: Path) -> None:
    published(store)
    with store.draft("job") as draft:
        with draft.save() as writer:
            writer.write(b"zip")
            writer.commit()
        with no_file_longer_than(2**16), pytest.raises(DiskFull), draft.file("a", 2**20) as writer:
            writer.write(bytes(2**20))
        draft.start_over()
        with no_file_longer_than(10), pytest.raises(DiskFull):
            draft.publish(artifact())
        assert draft.saved is not None
    assert content(store) == OLD


# Damage


def in_its_place(place: Path) -> Path:
    """The place, free for something else."""
    place.rename(place.parent.parent / f"moved-{place.name}")
    return place


DAMAGE: Mapping[str, Callable[[Path], object]] = {
    "no artifact.json": lambda place: (place / "artifact.json").unlink(),
    "half an artifact.json": lambda place: os.truncate(place / "artifact.json", 20),
    "another artifact.json": lambda place: (place / "artifact.json").write_bytes(b'{"kind": 1}'),
    "a long artifact.json": lambda place: os.truncate(place / "artifact.json", 9 * 2**20),
    "an artifact.json that leads out": lambda place: (place / "artifact.json").write_bytes(
        b'{"name":"mine","kind":"model","size":1,"files":[{"name":"../../../secret","size":6}]}'
    ),
    "a file less": lambda place: (place / "files" / "config.json").unlink(),
    "a shorter file": lambda place: os.truncate(place / "files" / "config.json", 1),
    "no files": lambda place: (place / "files").rename(place / "elsewhere"),
    "a link in its place": lambda place: in_its_place(place).symlink_to("moved"),
    "a file in its place": lambda place: in_its_place(place).write_bytes(b""),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_one_hides_no_other_and_can_be_deleted_or_replaced(
    store: ArtifactStore, root: Path, damage: str
) -> None:
    root.parent.mkdir()
    (root.parent / "secret").write_bytes(b"secret")
    other = published(store, NEW, name="other", created_at=1)
    for name in ("deleted", "replaced"):
        published(store, name=name)
        DAMAGE[damage](root / name)
        for work in (store.get, store.held):
            with pytest.raises(ModelDamaged):
                work(name)
    listed = store.all()
    assert listed[0] == other
    assert [one.name for one in listed[1:]] == ["deleted", "replaced"]
    assert all(one.notes[0].startswith("damaged: ") for one in listed[1:])
    store.delete("deleted")
    published(store, NEW, name="replaced")
    assert content(store, "replaced") == NEW
    assert len(store.all()) == 2
    assert left(root) == []


def test_what_is_no_artifact_is_not_listed(store: ArtifactStore, root: Path) -> None:
    made = published(store)
    (root / ".DS_Store").write_bytes(b"")
    (root / "lost+found").mkdir()
    assert store.all() == (made,)
