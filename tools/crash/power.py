"""Cuts the power: takes what has reached the disk at one system call, and starts again from that.

    python -m tools.crash --power --points 100     needs root, loop devices and ext4

The store lies on an ext4 in a file. The operation is stopped at a call, the file is copied as it is then (dirty pages
of the mounted file system are not in it), the process is killed, and the copy is mounted, which replays its journal.
The kernel's own timer would save what nobody synced, so it is set to an hour.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.crash import witness
from tools.crash.operations import STOCKS, scene_of
from tools.crash.scenes import write_scene
from tools.crash.sweep import Point, Violation
from tools.crash.trace import stopped

_SIZE = 64 * 2**20
_OPTIONS = "loop,commit=3600,noatime"


class Disk:
    """An ext4 in a file, mounted; a snapshot is what has reached the file."""

    def __init__(self, work: Path) -> None:
        self.image = work / "disk"
        self.snapshot = work / "cut"
        self._at = work / "mounted"
        self._cut_at = work / "cut-mounted"

    @contextmanager
    def mounted(self) -> Iterator[Path]:
        """Makes it and mounts it; the directory to put things in."""
        with self.image.open("wb") as stream:
            stream.truncate(_SIZE)
        _run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(self.image))
        self._at.mkdir(exist_ok=True)
        self._cut_at.mkdir(exist_ok=True)
        with _mounted(self.image, self._at):
            yield self._at

    def cut(self) -> None:
        """Keeps what has reached the disk by now."""
        _run("cp", "--sparse=always", str(self.image), str(self.snapshot))

    @contextmanager
    def after(self) -> Iterator[Path]:
        """The disk as it is found when the power is back."""
        with _mounted(self.snapshot, self._cut_at):
            yield self._cut_at


def cut_at(point: Point, disk: Disk, at: Path) -> list[Violation]:
    """One cut, before a call of an operation; what was broken by it."""
    return _tried(point, disk, at, lambda act, log: _stop(act, log, point, disk), acknowledged=False)


def cut_after(point: Point, disk: Disk, at: Path) -> list[Violation]:
    """A cut right after an operation has said that it is done."""

    def run(act: Callable[[], None], _log: Path) -> None:
        act()
        disk.cut()

    return _tried(point, disk, at, run, acknowledged=True)


def _stop(act: Callable[[], None], log: Path, point: Point, disk: Disk) -> None:
    stopped(act, log, point.call, disk.cut)


def _tried(
    point: Point, disk: Disk, at: Path, run: Callable[[Callable[[], None], Path], None], *, acknowledged: bool
) -> list[Violation]:
    scene, place = scene_of(point.operation), Path("run") / "store"
    shutil.rmtree(at / "run", ignore_errors=True)
    write_scene(at / place, scene)
    if scene.litter:
        STOCKS[point.stock](at / place).litter()
    _run("sync", "-f", str(at))
    run(_act(point, at / place), disk.image.with_name("trace"))
    with disk.after() as found:
        broken = list(witness.broken(found / place, scene, acknowledged=acknowledged))
        if not broken:
            _act(point, found / place)()
            broken += witness.broken(found / place, scene, acknowledged=True)
            STOCKS[point.stock](found / place).recover()
            broken += witness.unfinished(found / place)
    when = "after it was done" if acknowledged else f"at {point.call.call} #{point.call.number}"
    return [Violation(f"{point.stock}.{point.operation} power cut {when}", what) for what in broken]


def _act(point: Point, root: Path) -> Callable[[], None]:
    def act() -> None:
        getattr(STOCKS[point.stock](root), point.operation)()

    return act


@contextmanager
def _mounted(image: Path, at: Path) -> Iterator[None]:
    _run("mount", "-o", _OPTIONS, str(image), str(at))
    try:
        yield
    finally:
        _run("umount", str(at))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True, env=dict(os.environ))
