"""Artifacts after a crash: every operation is killed at its system calls, or has one of them fail.

A kill loses what the process had in mind, not what it had written: what a power cut would lose is told from the order
of the calls. Only some points are tried here; ``POINTS`` raised to some hundreds tries all of them.
"""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from tools.crash.sweep import ERRORS
from tools.crash.trace import REFUSED, Call, disturb, trace

from localmodels.core.artifacts import Artifact
from localmodels.store.artifacts import ArtifactStore
from localmodels.store.exchange import Exchange, exchange
from localmodels.store.folders import Folder

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not here")

POINTS = 14
KILL = "signal=KILL"
BODY = b"the uploaded file" * 100
OLD: Mapping[str, bytes] = {"config.json": b"{}", "model.safetensors": b"old" * 100}
NEW: Mapping[str, bytes] = {"config.json": b'{"new": 1}', "1_Pooling/config.json": b"[]"}
# If one of these fails, the content or the name is not on disk: to say `done` then is a lie, whatever lies there.
MUST = frozenset({"write", "fsync", "rename", "renameat"})

Content = Mapping[str, bytes]
_OWN = re.compile(r"^\d+<(?P<path>[^>]*)>")
_NAMED = re.compile(r'\d+<(?P<above>[^>]*)>, "(?P<name>[^"]*)"')


def never(one: Folder, name: str, other: Folder, its: str) -> bool:
    """As on a file system where two names cannot change places."""
    return False


def make(store: ArtifactStore, files: Content, name: str, job: str) -> None:
    with store.draft(job) as draft:
        for file, data in files.items():
            with draft.file(file, len(data)) as writer:
                writer.write(data)
                writer.commit()
        draft.publish(Artifact(name=name, kind="model", size=0))
        draft.discard()


def save(store: ArtifactStore) -> None:
    with store.draft("job") as draft, draft.save(len(BODY)) as writer:
        writer.write(BODY)
        writer.commit()


def publish(store: ArtifactStore) -> None:
    make(store, NEW, "mine", "job")


def delete(store: ArtifactStore) -> None:
    store.delete("mine")


def take(store: ArtifactStore) -> None:
    with store.draft("job") as draft:
        draft.take("mine.gguf")
        draft.publish(Artifact(name="mine", kind="gguf", size=0))
        draft.discard()


class Operation:
    """What is tried: what has the name before and after, None for nothing, and whether a file was saved before."""

    def __init__(
        self,
        work: Callable[[ArtifactStore], None],
        before: Content | None,
        after: Content | None,
        swap: Exchange = exchange,
        *,
        saved: bool = False,
    ) -> None:
        self.work, self.before, self.after, self.swap, self.saved = work, before, after, swap, saved

    def lay(self, root: Path) -> None:
        shutil.rmtree(root, ignore_errors=True)
        store = ArtifactStore(root)
        make(store, OLD, "bystander", "bystander")
        if self.before is not None:
            make(store, self.before, "mine", "before")
        if self.saved:
            save(store)

    def on(self, root: Path) -> Callable[[], None]:
        return lambda: self.work(ArtifactStore(root, swap=self.swap))


OPERATIONS = {
    "save": Operation(save, OLD, OLD),
    "publish": Operation(publish, None, NEW, saved=True),
    "replace": Operation(publish, OLD, NEW, saved=True),
    "replace in two steps": Operation(publish, OLD, NEW, never, saved=True),
    "take": Operation(take, OLD, {"mine.gguf": BODY}, saved=True),
    "delete": Operation(delete, OLD, None),
}


def content(root: Path, name: str) -> Content | None:
    """What has a name, read without the code that wrote it; fails if that is not whole."""
    place = root / name
    if not place.exists():
        return None
    about = json.loads((place / "artifact.json").read_bytes())
    files = place / "files"
    found = {path.relative_to(files).as_posix(): path.read_bytes() for path in files.rglob("*") if path.is_file()}
    assert {file["name"]: file["size"] for file in about["files"]} == {name: len(data) for name, data in found.items()}
    assert about["name"] == name
    return found


def check(root: Path, operation: Operation, *, acknowledged: bool) -> None:
    """Nothing is half there, and nothing else was disturbed."""
    found = content(root, "mine")
    allowed = [operation.after] if acknowledged else [operation.before, operation.after]
    assert found in allowed
    assert content(root, "bystander") == OLD
    upload = root / ".drafts" / "job" / "upload"
    assert not upload.exists() or upload.read_bytes() == BODY
    if acknowledged and operation.work is save:
        assert upload.exists()


def check_restart(root: Path, operation: Operation, *, acknowledged: bool) -> None:
    """What a new process makes of what is left: it is as before or as after, and can be repeated."""
    upload = root / ".drafts" / "job" / "upload"
    saved = upload.exists()
    ArtifactStore(root).recover(keep=["job"])
    check(root, operation, acknowledged=acknowledged)
    assert upload.exists() == saved
    assert {path.name for path in (root / ".drafts").iterdir()} <= {"lock", "job"}
    possible = saved if operation.saved else content(root, "mine") is not None
    if possible:
        operation.on(root)()
        check(root, operation, acknowledged=True)
    ArtifactStore(root).recover()
    assert [path.name for path in (root / ".drafts").iterdir()] == ["lock"]


def calls_of(operation: Operation, root: Path, tmp_path: Path) -> list[Call]:
    operation.lay(root)
    return trace(operation.on(root), tmp_path / "trace", root)


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_kill_leaves_the_old_or_the_new(name: str, tmp_path: Path) -> None:
    operation, root = OPERATIONS[name], tmp_path / "artifacts"
    found = calls_of(operation, root, tmp_path)
    check(root, operation, acknowledged=True)
    for call in random.Random(name).sample(found, min(POINTS, len(found))):
        operation.lay(root)
        ended = disturb(operation.on(root), tmp_path / "trace", call, KILL)
        assert ended.landed
        if operation.swap is exchange:
            check(root, operation, acknowledged=False)
        check_restart(root, operation, acknowledged=False)


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_error_is_told_and_leaves_the_old_or_the_new(name: str, tmp_path: Path) -> None:
    operation, root = OPERATIONS[name], tmp_path / "artifacts"
    found = [(call, error) for call in calls_of(operation, root, tmp_path) for error in ERRORS.get(call.call, ())]
    for call, error in random.Random(name).sample(found, min(POINTS, len(found))):
        operation.lay(root)
        ended = disturb(operation.on(root), tmp_path / "trace", call, f"error={error}")
        what = f"{call.call} #{call.number} {call.arguments}: {error}: {ended.said}"
        assert ended.landed, what
        assert ended.status in {0, REFUSED}, what
        if ended.status == REFUSED and error in {"ENOSPC", "EDQUOT"}:
            assert ended.said.startswith("DiskFull"), what
        # What was cleared away and comes back is cleared away at the next start.
        clearing = call.arguments.endswith("/.drafts>")
        assert not (ended.status == 0 and call.call in MUST and not clearing), what
        check(root, operation, acknowledged=ended.status == 0)
        check_restart(root, operation, acknowledged=ended.status == 0)


@pytest.mark.parametrize("name", OPERATIONS)
def test_what_has_its_name_is_on_disk(name: str, tmp_path: Path) -> None:
    root = tmp_path / "artifacts"
    assert list(unsafe(calls_of(OPERATIONS[name], root, tmp_path), root)) == []


def unsafe(calls: list[Call], root: Path) -> Iterator[str]:
    """What a power cut could lose although it has its name, or was said to be done."""
    draft = root / ".drafts" / "job"
    unsynced: set[Path] = set()
    for call in calls:
        own = _OWN.match(call.arguments)
        named = [Path(one["above"]) / one["name"] for one in _NAMED.finditer(call.arguments)]
        if call.result.startswith("-"):
            continue
        if own and call.call == "write":
            unsynced.add(Path(own["path"]))
        elif own and call.call == "fsync":
            unsynced.discard(Path(own["path"]))
        elif named and (call.call in {"mkdir", "mkdirat", "linkat"} or "O_CREAT" in call.arguments):
            unsynced.add(named[-1].parent)
        elif named and call.call.startswith("rename"):
            source, target = named
            if target.parent == root:
                yield from (f"{path} before {call.arguments}" for path in unsynced if source in (path, *path.parents))
            unsynced |= {source.parent, target.parent}
    lost = {path for path in unsynced if path == root or path.name == "upload.part"}
    yield from (f"{path} at the end" for path in lost)
    if draft in unsynced and any('"upload.part"' in call.arguments for call in calls):
        yield "the name of the saved file, at the end"


def test_a_file_system_without_second_names_gets_a_copy(tmp_path: Path) -> None:
    operation, root = OPERATIONS["take"], tmp_path / "artifacts"
    (link,) = [call for call in calls_of(operation, root, tmp_path) if call.call in {"link", "linkat"}]
    operation.lay(root)
    ended = disturb(operation.on(root), tmp_path / "trace", link, "error=EPERM")
    assert (ended.landed, ended.status) == (True, 0)
    check(root, operation, acknowledged=True)
