"""Tries every point: one operation, one call, one disturbance."""

from __future__ import annotations

import random
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from msgspec import Struct, structs
from tools.crash import witness
from tools.crash.durable import Watch
from tools.crash.operations import STOCKS, scene_of
from tools.crash.scenes import write_scene
from tools.crash.trace import RAW, REFUSED, Call, Ended, disturb, trace

from localmodels.core.errors import LocalModelsError

KILL = "signal=KILL"
# What each call may answer on a disk or a system in trouble (the errors sections of their manual pages).
ERRORS: Mapping[str, tuple[str, ...]] = {
    "openat": ("EMFILE", "EIO", "ENOSPC", "EROFS", "EACCES"),
    "read": ("EIO",),
    "pread64": ("EIO",),
    "write": ("ENOSPC", "EDQUOT", "EIO"),
    "pwrite64": ("ENOSPC", "EDQUOT", "EIO"),
    "fsync": ("EIO", "ENOSPC"),
    "fdatasync": ("EIO", "ENOSPC"),
    "rename": ("ENOSPC", "EIO", "EROFS"),
    "renameat": ("ENOSPC", "EIO", "EROFS"),
    "renameat2": ("ENOSPC", "EIO", "EROFS"),
    "link": ("ENOSPC", "EPERM", "EXDEV"),
    "linkat": ("ENOSPC", "EPERM", "EXDEV"),
    "mkdir": ("ENOSPC", "EROFS", "EMLINK"),
    "mkdirat": ("ENOSPC", "EROFS", "EMLINK"),
    "unlink": ("EIO", "EROFS"),
    "unlinkat": ("EIO", "EROFS"),
    "rmdir": ("EIO",),
    "ftruncate": ("EIO", "ENOSPC"),
    "newfstatat": ("EIO",),
    "getdents64": ("EIO",),
    "flock": ("ENOLCK",),
    "ioctl": ("EIO",),
}
# If one of these fails, the content or the name is not on disk: to say `done` then is a lie, whatever lies there.
_MUST = frozenset({"write", "pwrite64", "fsync", "fdatasync", "rename", "renameat", "renameat2", "ftruncate"})
_FULL = frozenset({"ENOSPC", "EDQUOT"})
# What the store only remembers, it may forget.
_MEMORY = re.compile(r"/\.localmodels/(verified|published)[/>]")


class Point(Struct, frozen=True):
    """One try. ``then``: a second kill, of the operation's repetition, which may have ended before that call."""

    stock: str
    operation: str
    call: Call
    what: str
    then: Call | None = None

    def __str__(self) -> str:
        second = f", then {self.then.call} #{self.then.number}" if self.then else ""
        return f"{self.stock}.{self.operation} {self.call.call} #{self.call.number} {self.what}{second}"


class Violation(Struct, frozen=True):
    """What was broken, and when; ``at`` tells how to see it again."""

    at: str
    what: str


def points(stock: str, operation: str, *, errors: bool, work: Path) -> tuple[list[Point], list[Violation]]:
    """All points of an operation, and what its undisturbed trace already shows."""
    with tempfile.TemporaryDirectory(dir=work) as directory:
        root = _laid(stock, operation, Path(directory))
        calls = trace(_act(stock, operation, root), Path(directory) / "trace", Path(directory))
        at = f"{stock}.{operation} undisturbed"
        shown = [Violation(at, what) for what in Watch(root).broken(calls)]
        shown += [Violation(at, what) for what in witness.broken(root, scene_of(operation), acknowledged=True)]
        shown += [Violation(at, what) for what in _cleared(stock, operation, root)]
    found = [
        Point(stock, operation, call, what)
        for call in calls
        for what in ([f"error={error}" for error in ERRORS.get(call.call, ())] if errors else [KILL])
    ]
    return found, shown


def attempt(point: Point, work: Path) -> list[Violation]:
    """Tries one point; what was broken by it."""
    with tempfile.TemporaryDirectory(dir=work) as directory:
        root = _laid(point.stock, point.operation, Path(directory))
        scene = scene_of(point.operation)
        act = _act(point.stock, point.operation, root)
        ended = disturb(act, Path(directory) / "trace", point.call, point.what)
        broken = list(_said(point, ended))
        broken += witness.broken(root, scene, acknowledged=ended.status == 0)
        if point.then:
            again = disturb(act, Path(directory) / "trace", point.then, KILL)
            broken += witness.broken(root, scene, acknowledged=0 in {ended.status, again.status})
        refused = _again(point.stock, point.operation, root)
        if refused:
            broken.append(f"I6 repeated, it fails: {refused}")
        else:
            broken += witness.broken(root, scene, acknowledged=True)
            broken += _cleared(point.stock, point.operation, root)
    return [Violation(str(point), what) for what in broken]


def sweep(tried: Iterable[Point], work: Path, pool: ProcessPoolExecutor) -> Iterator[list[Violation]]:
    """Tries points side by side; processes, because each try forks."""
    yield from pool.map(partial(attempt, work=work), tried)


def chosen(found: list[Point], count: int, seed: int) -> list[Point]:
    """So many of the points, of all operations alike; all of them if there are not so many."""
    return found if len(found) <= count else random.Random(seed).sample(found, count)


def twice(found: list[Point], seed: int) -> list[Point]:
    """The same points, each with a second kill at another point of the same operation."""
    source = random.Random(seed)
    calls = {point.operation: [one.call for one in found if one.operation == point.operation] for point in found}
    return [structs.replace(point, then=source.choice(calls[point.operation])) for point in found]


def _laid(stock: str, operation: str, directory: Path) -> Path:
    root = directory / "store"
    scene = scene_of(operation)
    write_scene(root, scene)
    if scene.litter:
        STOCKS[stock](root).litter()
    return root


def _act(stock: str, operation: str, root: Path) -> Callable[[], None]:
    """The operation, of a stock that is made when it is called."""

    def act() -> None:
        getattr(STOCKS[stock](root), operation)()

    return act


def _again(stock: str, operation: str, root: Path) -> str:
    """Does it undisturbed, in this process; why it was refused, if it was."""
    try:
        _act(stock, operation, root)()
    except (LocalModelsError, OSError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _said(point: Point, ended: Ended) -> Iterator[str]:
    """What the process should not have said."""
    error = point.what.removeprefix("error=")
    if not ended.landed:
        yield "the disturbance did not happen: the calls are numbered otherwise"
    if ended.hung:
        yield "it hangs"
    elif point.what == KILL:
        return
    elif ended.status == 0 and point.call.call in _MUST and not _MEMORY.search(point.call.arguments):
        yield f"I4 it says that it is done, though {point.call.call} failed with {error}"
    elif ended.status not in {0, REFUSED} and not (ended.status == RAW and point.stock != "Product"):
        yield f"an error that is not ours: {ended.said}"
    elif ended.status == REFUSED and error in _FULL and not ended.said.startswith("DiskFull"):
        yield f"a full disk is told as {ended.said}"


def _cleared(stock: str, operation: str, root: Path) -> Iterator[str]:
    """After a restart nothing is left over, and nothing else has changed."""
    refused = _again(stock, "recover", root)
    if refused:
        yield f"I5 it cannot be cleared away: {refused}"
    yield from witness.broken(root, scene_of(operation), acknowledged=True)
    yield from witness.unfinished(root)
    if scene_of(operation).orphans:
        yield from witness.uncollected(root)


def room() -> Path:
    """A directory for the tries: in memory where there is such a file system, since kills do not need a disk."""
    memory = Path("/dev/shm")  # noqa: S108 - made by mkdtemp, removed at the end
    return Path(tempfile.mkdtemp(prefix="crash-", dir=memory if memory.is_dir() else None))


def clear_room(work: Path) -> None:
    """Removes it."""
    shutil.rmtree(work, ignore_errors=True)
