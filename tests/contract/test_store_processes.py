"""Several processes on one store: what they hold keeps others off, and what the killed held does not."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.unit.store.written import MANIFEST, NAME, WEIGHTS, age, blob, blobs, create, digest, leftovers

from localmodels.core.catalog import ModelName
from localmodels.core.errors import Conflict, DiskFull, Unavailable
from localmodels.store.model_store import ModelStore

HOME = Path(__file__).parents[2]
Start = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    store = ModelStore(tmp_path / "models")
    store.layout.prepare()
    return store


@pytest.fixture
def start(store: ModelStore) -> Iterator[Start]:
    """Starts a writer, and returns when it is in the middle of what it does."""
    with ExitStack() as stack:

        def started(what: str) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("store_writer.py")), str(store.layout.root), what],
                env={**os.environ, "PYTHONPATH": f"{HOME / 'src'}{os.pathsep}{HOME}"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            stack.callback(process.__exit__, None, None, None)
            stack.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            return process

        yield started


def killed(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()


def finished(process: subprocess.Popen[str]) -> int:
    process.communicate("\n")
    return process.returncode


def test_a_writer_that_is_killed_leaves_nothing_that_stays(store: ModelStore, start: Start) -> None:
    process = start("create")
    assert len(leftovers(store)) == 2  # its claim and its unfinished file
    assert store.recover() == ()
    killed(process)
    assert len(store.recover()) == 1
    assert leftovers(store) == []
    assert blobs(store) == set()
    assert finished(start("create")) == 0
    assert store.read_manifest(NAME) == MANIFEST


def test_a_slow_writer_stops_nobody_else(store: ModelStore, start: Start) -> None:
    process = start("create")
    other = ModelName.parse("other")
    quick = ModelStore(store.layout.root, patience=0.0)
    create(quick, other)
    quick.copy(other, ModelName.parse("third"))
    assert quick.collect().leased == ()
    assert finished(process) == 0
    assert store.read_manifest(NAME) == MANIFEST
    assert store.check(read_data=True) == ()


def test_a_blob_that_another_process_needs_is_not_collected(store: ModelStore, start: Start) -> None:
    create(store)
    store.delete(NAME)
    age(store)
    process = start("protect")
    assert store.collect().leased == (blob(WEIGHTS),)
    killed(process)
    assert store.collect().doomed == (blob(WEIGHTS),)


def test_one_process_fetches_a_blob_and_the_next_goes_on_where_it_was_killed(store: ModelStore, start: Start) -> None:
    process = start("pull")
    with store.lease("pull") as lease:
        with pytest.raises(Conflict, match="by another process"):
            store.partial(lease, digest(WEIGHTS), len(WEIGHTS))
        killed(process)
        with store.partial(lease, digest(WEIGHTS), len(WEIGHTS)) as partial:
            assert partial.missing == ((5000, len(WEIGHTS)),)
            partial.write(5000, WEIGHTS[5000:])
            partial.finish(5000, len(WEIGHTS) - 5000)
            partial.commit()
    assert store.find(digest(WEIGHTS)) == blob(WEIGHTS)


def test_the_lock_of_a_killed_process_is_free(store: ModelStore, start: Start) -> None:
    create(store)
    process = start("lock")
    impatient = ModelStore(store.layout.root, patience=0.0)
    with pytest.raises(Unavailable):
        impatient.delete(NAME)
    assert store.read_manifest(NAME) == MANIFEST  # readers take no lock
    killed(process)
    assert impatient.delete(NAME)


def test_many_threads_make_many_models_of_the_same_blobs(store: ModelStore) -> None:
    names = [ModelName.parse(f"model:{number}") for number in range(24)]

    def life(name: ModelName) -> None:
        create(store, name)
        store.copy(name, ModelName.parse(f"copy-of-{name}"))
        store.collect(grace=-1.0)
        store.delete(name)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(life, names))
    assert len(list(store.layout.names())) == len(names)
    assert store.check(read_data=True) == ()
    assert leftovers(store) == []


def _limited(size: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_a_file_that_may_not_grow_is_told_as_a_full_disk_and_leaves_nothing(store: ModelStore) -> None:
    """The limit is the kernel's, for files of a process; what a full disk does to a write it does too."""
    create(store, ModelName.parse("kept"))
    script = (
        "import sys; from pathlib import Path; from localmodels.core.errors import DiskFull\n"
        "from localmodels.store.model_store import ModelStore\n"
        "store = ModelStore(Path(sys.argv[1]))\n"
        "with store.lease('x') as lease:\n"
        "    try: store.write(lease, [b'x' * 60_000] * 3)\n"
        "    except DiskFull as error: print(error.message)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, str(store.layout.root)],
        env={**os.environ, "PYTHONPATH": str(HOME / "src")},
        preexec_fn=_limited(100_000),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ended.stdout.startswith("disk full: ")
    assert leftovers(store) == []
    assert store.check(read_data=True) == ()


def test_more_than_the_disk_has_is_refused_before_a_byte_is_written(store: ModelStore) -> None:
    with pytest.raises(DiskFull, match="are needed"):
        store.lease("pull", reserve=10**18)
    assert leftovers(store) == []
