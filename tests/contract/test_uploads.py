"""Uploads from the body to the artifact, with the children that unpack and inspect, as the server runs them."""

from __future__ import annotations

import asyncio
import io
import json
import os
import resource
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from tests.awaited import DEADLINE, awaited
from tests.hostile_folders.bases import write_llama
from tests.hostile_folders.corpus import CORPUS
from tests.unit.store.ollama_store import write_gguf
from tests.weight_folders import drawn, llama_tensors, safetensors

from localmodels.artifacts.inspection import Inspector, Job
from localmodels.core.artifacts import Artifact
from localmodels.core.deploys import is_uploaded, uploaded_as
from localmodels.core.errors import (
    Conflict,
    DiskFull,
    EngineError,
    InvalidRequest,
    InvalidValue,
    LocalModelsError,
    NotFound,
    QuotaFull,
    Unsupported,
    UnsupportedMedia,
)
from localmodels.core.tasks import Step
from localmodels.flows.deploy.uploads import Uploads
from localmodels.store.artifacts import ArtifactStore
from localmodels.store.folders import Folder
from localmodels.store.space import Space

MEMORY = 256 * 2**20  # bytes that a child may come to, whatever it is sent

# Gives up its rights as the child does, then tries what that must not do: for each attempt the name of the errno.
TRIES_TO_GET_OUT = """
import errno, json, os, socket, sys
from localmodels.artifacts.inspection import Job
from localmodels.engine.confine import apply
from localmodels.engine.inspector import policy

root, other, outside = sys.argv[1:]

def answer(attempt):
    try:
        attempt()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "allowed"

attempts = {
    "read the files": lambda: open(root + "/config.json", "rb").close(),
    "write the files": lambda: open(root + "/config.json", "ab").close(),
    "read another file": lambda: open(other, "rb").close(),
    "write a file": lambda: open(outside, "wb").close(),
    "reach the network": lambda: socket.socket(socket.AF_INET),
    "run a program": lambda: os.execv("/bin/true", ["true"]),
}
layers = {layer.name: layer.active for layer in apply(policy(Job(root, ("config.json",))))}
print(json.dumps([layers, {name: answer(attempt) for name, attempt in attempts.items()}]))
"""

TELLS_ITS_PEAK = """
import json, resource, sys
from pathlib import Path
from localmodels.artifacts.inspection import Inspector, Job
from localmodels.core.errors import LocalModelsError

place = Path(sys.argv[1])
names = tuple(path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file())
with Inspector(Job(str(place), names), module="localmodels.engine.inspector") as inspector:
    try:
        told = inspector.findings().kind
    except LocalModelsError as error:
        told = error.code
print(json.dumps([told, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    place = tmp_path_factory.mktemp("folder") / "it"
    write_llama(place)
    return {path.name: path.read_bytes() for path in place.iterdir()}


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


@pytest.fixture
def uploads(store: ArtifactStore) -> Uploads:
    return Uploads(store)


def zipped(files: Mapping[str, bytes], top: str = "") -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(top + name, data)
    return made.getvalue()


def tarred(files: Mapping[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return made.getvalue()


def large(folder: Mapping[str, bytes]) -> dict[str, bytes]:
    """The same model with 16 MiB more of weights."""
    return {**folder, "model.safetensors": safetensors({**llama_tensors(), "more": drawn(2**22)})}


async def sent(data: bytes, piece: int = 64 * 1024) -> AsyncIterator[bytes]:
    for at in range(0, len(data), piece):
        yield data[at : at + piece]


async def steps_of(uploads: Uploads, filename: str, job: str = "job") -> list[Step]:
    return [step async for step in uploads.unpack(job, filename)]


async def uploaded(uploads: Uploads, data: bytes, filename: str = "mine.zip", job: str = "job") -> list[Step]:
    await uploads.save(job, filename, sent(data), len(data))
    return await steps_of(uploads, filename, job)


def content(store: ArtifactStore, name: str = "mine") -> dict[str, bytes]:
    with store.held(name) as held:
        return {file: path.read_bytes() for file, path in held.files.items()}


def left(store_root: Path) -> list[str]:
    drafts = store_root / ".drafts"
    return sorted(str(path.relative_to(drafts)) for path in drafts.rglob("*") if path.name != "lock")


@contextmanager
def descriptors_above(number: int) -> Iterator[None]:
    """What is opened meanwhile has a larger number."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] < number + 100:
        pytest.skip(f"this system allows {before[1]} open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], number + 100), before[1]))
    opened = [os.open(os.devnull, os.O_RDONLY)]
    try:
        while opened[-1] < number:
            opened.append(os.dup(opened[0]))
        yield
    finally:
        for one in opened:
            os.close(one)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def children() -> list[str]:
    return Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()


T = TypeVar("T")


class LateStore(ArtifactStore):
    """Gives and takes away no further than a test lets it."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.begun, self.may_go_on = threading.Event(), threading.Event()

    def _give(self, draft: Folder, artifact: Artifact) -> None:
        super()._give(draft, artifact)
        self._waits()

    def delete(self, name: str) -> None:
        super().delete(name)
        self._waits()

    def _waits(self) -> None:
        self.begun.set()
        self.may_go_on.wait(DEADLINE)


@awaited
async def test_who_leaves_while_an_artifact_gets_its_name_or_goes_comes_too_late(
    folder: dict[str, bytes], tmp_path: Path
) -> None:
    store = LateStore(tmp_path / "artifacts")
    uploads = Uploads(store)

    async def leaves(work: Coroutine[Any, Any, T]) -> T:
        store.begun.clear()
        store.may_go_on.clear()
        task = asyncio.ensure_future(work)
        assert await asyncio.to_thread(store.begun.wait, DEADLINE)
        task.cancel()
        await asyncio.sleep(0)
        store.may_go_on.set()
        return await task

    steps = await leaves(uploaded(uploads, zipped(folder)))
    assert steps[-1].ratio == 1.0
    assert [found.name for found in store.all()] == ["mine"]
    await leaves(uploads.delete("mine"))
    assert (store.all(), left(tmp_path / "artifacts")) == ((), [])


# What becomes an artifact


@awaited
async def test_an_archive_becomes_an_artifact(
    uploads: Uploads, store: ArtifactStore, folder: dict[str, bytes], tmp_path: Path
) -> None:
    before = children()
    steps = await uploaded(uploads, zipped({**folder, ".DS_Store": b"", "training_args.bin": b"\x80\x02"}, "mine/"))
    said = [(step.action, step.ratio, step.whole) for step in steps if step.action != "Extract model."]
    assert said == [
        ("Started save model.", 0.0, "saved"),
        ("Start extracted model.", 0.66, ""),
        ("Inspect model.", 0.9, ""),
        ("Publish model.", 0.97, ""),
        ("Publish model.", 0.99, uploaded_as(store.get("mine").id)),
        ("Success upload model file.", 1.0, uploaded_as(store.get("mine").id)),
    ]
    ratios = [step.ratio for step in steps]
    assert ratios == sorted(ratios)
    assert all(step.details["model"] == "mine.zip" for step in steps)
    assert (steps[-1].details["artifact"], steps[-1].details["artifact_id"]) == ("mine", store.get("mine").id)
    assert content(store) == folder
    (found,) = await uploads.all()
    assert (found.kind, found.architecture, found.tokenizer, found.source) == (
        "model", "LlamaForCausalLM", "bpe", "mine.zip",
    )  # fmt: skip
    assert found.size == sum(map(len, folder.values()))
    assert any("training_args.bin" in note for note in found.notes)
    assert left(tmp_path / "artifacts") == []
    assert children() == before


@awaited
async def test_so_does_a_tar_and_a_file_alone(
    uploads: Uploads, store: ArtifactStore, folder: dict[str, bytes], tmp_path: Path
) -> None:
    await uploaded(uploads, tarred(folder), "packed.tar.gz")
    assert content(store, "packed") == folder
    data = write_gguf(tmp_path / "tiny.gguf").read_bytes()
    steps = await uploaded(uploads, data, "tiny.gguf", "other")
    assert steps[-1].details["kind"] == "gguf"
    assert content(store, "tiny") == {"tiny.gguf": data}
    assert store.get("tiny").dtype == "F32"
    assert left(tmp_path / "artifacts") == []


@awaited
async def test_the_next_of_the_name_takes_its_place(
    uploads: Uploads, store: ArtifactStore, folder: dict[str, bytes]
) -> None:
    await uploaded(uploads, zipped(folder))
    await uploaded(uploads, zipped({**folder, "generation_config.json": b"{}"}), job="again")
    assert content(store) == {**folder, "generation_config.json": b"{}"}
    assert len(await uploads.all()) == 1


@awaited
async def test_what_there_is_is_told_and_taken_away(uploads: Uploads, folder: dict[str, bytes]) -> None:
    assert [step async for step in uploads.list()] == []
    for name in ("one", "two"):
        await uploaded(uploads, zipped(folder), f"{name}.zip")
    steps = [step async for step in uploads.list()]
    assert [(step.action, step.ratio, step.details["model"]) for step in steps] == [
        ("Get model.", 0.5, "two"), ("Get model.", 1.0, "one"),
    ]  # fmt: skip
    await uploads.delete("one")
    with pytest.raises(NotFound):
        await uploads.delete("one")
    assert [artifact.name for artifact in await uploads.all()] == ["two"]


# What does not


def without_zeros(folder: Mapping[str, bytes]) -> dict[str, bytes]:
    return {**folder, "model.safetensors": folder["model.safetensors"][:-1]}


REFUSED: Mapping[str, tuple[Callable[[dict[str, bytes]], bytes], type[LocalModelsError]]] = {
    "no archive": (lambda _: b"this is no archive at all", InvalidRequest),
    "half an archive": (lambda folder: zipped(folder)[:-100], InvalidRequest),
    "a way out": (lambda folder: zipped({**folder, "../x.json": b"{}"}), InvalidRequest),
    "a pickle": (lambda folder: zipped({**folder, "pytorch_model.bin": b"\x80\x02"}), Unsupported),
    "a program": (lambda folder: zipped({**folder, "modeling.py": b"import os"}), Unsupported),
    "cut weights": (lambda folder: zipped(without_zeros(folder)), InvalidRequest),
    "no weights": (lambda _: zipped({"config.json": b"{}"}), LocalModelsError),
    "no configuration": (
        lambda folder: zipped({"model.safetensors": folder["model.safetensors"]}), InvalidRequest,
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
@awaited
async def test_what_is_wrong_with_it_leaves_nothing_but_what_was_there(
    uploads: Uploads, store: ArtifactStore, folder: dict[str, bytes], tmp_path: Path, what: str
) -> None:
    await uploaded(uploads, zipped(folder))
    make, kind = REFUSED[what]
    with pytest.raises(kind) as caught:
        await uploaded(uploads, make(folder), job="bad")
    assert 400 <= caught.value.status < 500
    assert content(store) == folder
    assert left(tmp_path / "artifacts") == []


@awaited
async def test_what_is_wrong_with_the_name_is_said_before_a_byte_is_read(uploads: Uploads, tmp_path: Path) -> None:
    async def unread() -> AsyncIterator[bytes]:
        yield b"PK"
        raise AssertionError("it was read")

    for name, kind in (("a.rar", UnsupportedMedia), ("../a.zip", InvalidValue), ("a b.zip", InvalidValue)):
        with pytest.raises(kind):
            await uploads.save("job", name, unread())
    assert not (tmp_path / "artifacts").exists()


@awaited
async def test_a_body_that_ends_badly_leaves_nothing(uploads: Uploads, tmp_path: Path) -> None:
    async def cut() -> AsyncIterator[bytes]:
        yield b"PK"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await uploads.save("job", "a.zip", cut(), 100)
    with pytest.raises(InvalidRequest, match="empty"):
        await uploads.save("job", "a.zip", sent(b""), 100)
    assert left(tmp_path / "artifacts") == []
    with pytest.raises(NotFound, match="upload it again"):
        await steps_of(uploads, "a.zip")
    assert left(tmp_path / "artifacts") == []


@awaited
async def test_room_is_looked_at_before_it_is_used(folder: dict[str, bytes], tmp_path: Path) -> None:
    data = zipped(folder)
    narrow = Uploads(ArtifactStore(tmp_path / "artifacts", quota=len(data) + 1000))
    with pytest.raises(QuotaFull):
        await narrow.save("job", "mine.zip", sent(data), len(data) + 1001)
    assert left(tmp_path / "artifacts") == []
    with pytest.raises(QuotaFull):
        await uploaded(narrow, data)
    assert left(tmp_path / "artifacts") == ["job", "job/upload"]  # a retry finds it when something was deleted
    wide = Uploads(ArtifactStore(tmp_path / "artifacts", quota=10 * len(data)))
    assert (await steps_of(wide, "mine.zip"))[-1].ratio == 1
    full = Uploads(ArtifactStore(tmp_path / "full", measure=lambda _: Space(10**9, 5 * 10**7 + len(data) + 1000)))
    with pytest.raises(DiskFull):
        await uploaded(full, data)
    assert left(tmp_path / "full") == ["job", "job/upload"]  # a retry finds it when there is room


@awaited
async def test_what_is_in_use_is_not_replaced(
    uploads: Uploads, store: ArtifactStore, folder: dict[str, bytes], tmp_path: Path
) -> None:
    await uploaded(uploads, zipped(folder))
    with store.held("mine"), pytest.raises(Conflict):
        await uploads.save("job", "mine.zip", sent(b"PK"))
    await uploads.save("job", "mine.zip", sent(zipped({**folder, "extra.json": b"{}"})))
    with store.held("mine"), pytest.raises(Conflict):
        await steps_of(uploads, "mine.zip")
    assert content(store) == folder
    assert left(tmp_path / "artifacts") == ["job", "job/upload"]
    await steps_of(uploads, "mine.zip")
    assert content(store) == {**folder, "extra.json": b"{}"}


# Ended on the way


@pytest.mark.parametrize(
    "action", ["Started save model.", "Start extracted model.", "Extract model.", "Publish model."]
)
@awaited
async def test_whoever_leaves_leaves_nothing_but_what_was_saved(
    uploads: Uploads, store: ArtifactStore, folder: dict[str, bytes], tmp_path: Path, action: str
) -> None:
    before = children()
    big = large(folder)
    await uploads.save("job", "mine.zip", sent(zipped(big)))
    async with aclosing(uploads.unpack("job", "mine.zip")) as steps:
        async for step in steps:
            if step.action == action:
                break
    assert children() == before
    assert left(tmp_path / "artifacts") == ["job", "job/upload"]
    assert store.all() == ()
    await uploads.recover(keep=["job"])
    ratios = [step.ratio for step in await steps_of(uploads, "mine.zip")]
    assert ratios == sorted(ratios)
    assert len(ratios) > 5
    assert content(store) == big
    assert left(tmp_path / "artifacts") == []


@awaited
async def test_a_cancelled_task_waits_for_its_thread_and_its_child(
    uploads: Uploads, store: ArtifactStore, folder: dict[str, bytes], tmp_path: Path
) -> None:
    before = children()
    await uploads.save("job", "mine.zip", sent(zipped(large(folder))))
    extracting = asyncio.Event()

    async def work() -> None:
        async for step in uploads.unpack("job", "mine.zip"):
            if step.action == "Extract model.":
                extracting.set()

    task = asyncio.create_task(work())
    await extracting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert children() == before
    assert left(tmp_path / "artifacts") == ["job", "job/upload"]
    await uploads.discard("job")
    assert left(tmp_path / "artifacts") == []


# The child that inspects


@pytest.mark.parametrize(
    "name",
    ["safetensors: 100,000 empty tensors", "safetensors: 131,073 tensors", "index: a million files",
     "tokenizer: merges, 10 million", "tokenizer: texts, 24 MB"],
)  # fmt: skip
def test_the_worst_that_is_sent_is_told_in_bounded_memory(tmp_path: Path, name: str) -> None:
    place = tmp_path / "it"
    CORPUS[name].write(place)
    ended = subprocess.run(
        [sys.executable, "-c", TELLS_ITS_PEAK, str(place)], capture_output=True, text=True, check=True
    )
    code, peak = json.loads(ended.stdout)
    assert code in {"model", "model_damaged", "unsupported"}
    assert peak * 1024 < MEMORY


def test_it_has_no_rights(tmp_path: Path) -> None:
    place = tmp_path / "it"
    write_llama(place)
    other = tmp_path / "other"
    other.write_bytes(b"secret")
    ended = subprocess.run(
        [sys.executable, "-c", TRIES_TO_GET_OUT, str(place), str(other), str(tmp_path / "outside")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    layers, answers = json.loads(ended.stdout)
    assert answers["read the files"] == "allowed"
    if layers["landlock"]:
        assert {answers[what] for what in ("write the files", "read another file", "write a file")} == {"EACCES"}
    if layers["seccomp"]:
        assert {answers[what] for what in ("reach the network", "run a program")} == {"EPERM"}
    if missing := [name for name in ("landlock", "seccomp") if not layers[name]]:
        pytest.skip(f"this system has no {' and no '.join(missing)}; the rest was checked")


def test_the_server_does_without_numpy() -> None:
    code = "import sys, localmodels.flows.deploy.uploads; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_whoever_takes_too_long_to_look_is_ended(tmp_path: Path) -> None:
    write_llama(tmp_path / "it")
    inspector = Inspector(Job(str(tmp_path / "it"), ("config.json",)))
    with inspector, pytest.raises(EngineError, match="not understood within 0 s"):
        inspector.findings(patience=0)
    assert not Path(f"/proc/{inspector.pid}").exists()


def test_it_is_heard_however_many_files_are_open(tmp_path: Path) -> None:
    write_llama(tmp_path / "it")
    names = tuple(path.name for path in (tmp_path / "it").iterdir())
    with descriptors_above(1023), Inspector(Job(str(tmp_path / "it"), names)) as inspector:
        assert inspector.findings().kind == "model"


@awaited
async def test_a_child_that_dies_or_is_too_slow_is_not_the_upload_s_fault(
    store: ArtifactStore, folder: dict[str, bytes], tmp_path: Path
) -> None:
    for broken in (Uploads(store, extractor="localmodels.none"), Uploads(store, inspector="localmodels.none")):
        with pytest.raises(EngineError):
            await uploaded(broken, zipped(folder))
        assert left(tmp_path / "artifacts") == ["job", "job/upload"]
    assert (await steps_of(Uploads(store), "mine.zip"))[-1].ratio == 1


@awaited
async def test_the_clearing_away_at_the_start_takes_no_upload_that_has_come_meanwhile(
    uploads: Uploads, store: ArtifactStore, folder: dict[str, bytes], tmp_path: Path
) -> None:
    async def slow(data: bytes) -> AsyncIterator[bytes]:
        yield data[:100]
        await uploads.recover(keep=())
        yield data[100:]

    await uploads.save("job", "mine.zip", slow(zipped(folder)))
    await uploads.recover(keep=())
    ArtifactStore(tmp_path / "artifacts").recover()  # as another server's start would
    assert [is_uploaded(step.whole) for step in await steps_of(uploads, "mine.zip")][-1]
    assert content(store) == folder


@awaited
async def test_what_waits_for_its_turn_is_let_go_at_the_end_and_stays(
    uploads: Uploads, store: ArtifactStore, folder: dict[str, bytes], tmp_path: Path
) -> None:
    await uploads.save("job", "mine.zip", sent(zipped(folder)))
    with pytest.raises(Conflict, match="is being worked on"):
        await Uploads(store).discard("job")
    await uploads.close()
    assert left(tmp_path / "artifacts") == ["job", "job/upload"]
    assert (await steps_of(Uploads(store), "mine.zip"))[-1].ratio == 1


# Written down before it is thrown away


@awaited
async def test_the_saved_file_stays_until_it_is_written_down_that_nobody_needs_it(
    uploads: Uploads, store: ArtifactStore, folder: dict[str, bytes], tmp_path: Path
) -> None:
    await uploads.save("job", "mine.zip", sent(zipped(folder)))
    async with aclosing(uploads.unpack("job", "mine.zip")) as steps:
        async for step in steps:
            if is_uploaded(step.whole):
                break
    assert step.ratio < 1  # so that it is written at once
    assert left(tmp_path / "artifacts") == ["job", "job/upload"]
    (last,) = [one async for one in uploads.done("job", "mine.zip", step.whole)]
    assert (last.ratio, last.whole, last.details) == (1.0, step.whole, step.details)
    assert left(tmp_path / "artifacts") == []
    (again,) = [one async for one in uploads.done("job", "mine.zip", step.whole)]
    assert again == last
    await uploaded(uploads, zipped(folder))
    with pytest.raises(Conflict, match="replaced meanwhile"):
        await anext(uploads.done("job", "mine.zip", step.whole))
    store.delete("mine")
    with pytest.raises(NotFound):
        await anext(uploads.done("job", "mine.zip", step.whole))
