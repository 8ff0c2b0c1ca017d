"""What this machine has to run models on: a probe at the edge, one frozen value out.

The rule: a source that cannot be read is absent and noted, never an error. A machine without a readable ``/sys`` still
serves models. The system as a whole is not ours in a container, so every figure is the smaller of what the host has and
what our control groups leave us, all the way up (a limit two levels above binds as well).

NVIDIA cards are asked for through ``nvidia-smi``, which comes with every driver, not through a library: no dependency,
and a driver that hangs costs a child process a second, not the server. AMD cards are read from sysfs, Apple's memory is
the GPU's. A card found is not yet a card that the engine was built for; who plans leaves those out.
"""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import psutil
from msgspec import Struct

T = TypeVar("T")

# Apple lets the GPU have about this share of the memory (recommendedMaxWorkingSetSize); the rest stays the system's.
METAL_SHARE = 0.75
CHILD_SECONDS = 2.0
# Version 1 says "no limit" with the largest multiple of a page; nobody has a fraction of it.
_NO_LIMIT = 2**60

NVIDIA_QUERY = ["nvidia-smi", "--query-gpu=index,name,memory.total,memory.free", "--format=csv,noheader,nounits"]


class Gpu(Struct, frozen=True):
    """A graphics card; sizes in bytes. ``backend`` is the part of ggml that drives it: cuda, rocm or metal."""

    name: str
    index: int
    memory_total: int
    memory_free: int
    backend: str


class Hardware(Struct, frozen=True):
    """What there is, at one moment; sizes in bytes.

    Attributes:
        cpus: logical processors that we may use at once, by affinity and quota.
        cores: physical ones among them; more threads than these slow the engine down.
        memory_available: could be had now without swapping, page cache given up.
        notes: what could not be found out, and why.
    """

    cpus: int
    cores: int
    memory_total: int
    memory_available: int
    gpus: tuple[Gpu, ...] = ()
    notes: tuple[str, ...] = ()


def _host_memory() -> tuple[int, int]:
    memory = psutil.virtual_memory()
    return int(memory.total), int(memory.available)


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _run(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=CHILD_SECONDS).stdout


class Sources(Struct, frozen=True):
    """Where the figures come from. ``root`` is the directory above ``proc`` and ``sys``."""

    root: Path = Path("/")
    memory: Callable[[], tuple[int, int]] = _host_memory
    affinity: Callable[[], int] = _affinity
    logical: Callable[[], int | None] = os.cpu_count
    cores: Callable[[], int | None] = lambda: psutil.cpu_count(logical=False)
    run: Callable[[list[str]], str] = _run
    machine: str = f"{platform.system()} {platform.machine()}"


def probe(sources: Sources | None = None) -> Hardware:
    """Looks at everything once: some milliseconds, up to two seconds where an NVIDIA driver has to wake up."""
    sources = sources or Sources()
    notes: list[str] = []
    total, available = _tried(sources.memory, (0, 0), "memory", notes)
    for limit, used in _memory_limits(sources.root):
        total, available = min(total, limit), min(available, max(0, limit - used))
    cpus, cores = _processors(sources, notes)
    return Hardware(
        cpus=cpus,
        cores=cores,
        memory_total=total,
        memory_available=available,
        gpus=_gpus(sources, total, available, notes),
        notes=tuple(notes),
    )


def _tried(read: Callable[[], T], otherwise: T, what: str, notes: list[str]) -> T:
    try:
        return read()
    except (OSError, ValueError, subprocess.SubprocessError, psutil.Error) as error:
        notes.append(f"{what}: {error}")
        return otherwise


# Processors


def _processors(sources: Sources, notes: list[str]) -> tuple[int, int]:
    """Logical processors and cores that are ours; a quota of 2.5 is 2, since one thread put to sleep stops all."""
    usable = max(1, _tried(sources.affinity, 1, "affinity", notes))
    logical = _tried(lambda: sources.logical() or 0, 0, "processors", notes) or usable
    physical = _tried(lambda: sources.cores() or 0, 0, "cores", notes) or logical
    quota = min(_quotas(sources.root), default=float(usable))
    cpus = max(1, min(usable, int(quota)))
    per_core = max(1, logical // physical)
    return cpus, max(1, min(cpus, -(-usable // per_core)))


def _quotas(root: Path) -> Iterator[float]:
    for directory in _groups(root, "cpu"):
        words = _read(directory / "cpu.max").split()  # version 2: "QUOTA PERIOD" or "max PERIOD"
        if not words:
            words = [_read(directory / "cpu.cfs_quota_us"), _read(directory / "cpu.cfs_period_us")]
        quota, period = (_number(word) for word in (*words, "", "")[:2])
        if quota > 0 and period > 0:
            yield quota / period


# Memory


def _memory_limits(root: Path) -> Iterator[tuple[int, int]]:
    """Limit and use of each control group that we are in. Page cache that can be given up does not count as used."""
    for directory in _groups(root, "memory"):
        for limit_file, use_file, cache in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            limit = _number(_read(directory / limit_file))
            if 0 < limit < _NO_LIMIT:
                used = _number(_read(directory / use_file)) - _statistic(_read(directory / "memory.stat"), cache)
                yield limit, max(0, used)


def _statistic(text: str, name: str) -> int:
    return next((_number(line.split()[-1]) for line in text.splitlines() if line.startswith(f"{name} ")), 0)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Directories of our control groups for a controller, from our own up to the top."""
    top = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            yield from _upwards(top, path)
        elif controller in controllers.split(","):
            for mount in dict.fromkeys((controllers, controller)):
                yield from _upwards(top / mount, path)


def _upwards(top: Path, path: str) -> Iterator[Path]:
    # Inside a container the path may be the host's, of which only the top is mounted: what is not there is left out.
    parts = [part for part in path.split("/") if part not in {"", ".."}]
    for count in range(len(parts), -1, -1):
        directory = top.joinpath(*parts[:count])
        if directory.is_dir():
            yield directory


# Graphics cards


def _gpus(sources: Sources, total: int, available: int, notes: list[str]) -> tuple[Gpu, ...]:
    if sources.machine == "Darwin arm64":
        share = int(total * METAL_SHARE)
        return (Gpu("Apple", 0, share, min(share, available), "metal"),)
    return (*_nvidia(sources, notes), *_amd(sources.root))


def _nvidia(sources: Sources, notes: list[str]) -> list[Gpu]:
    if not (sources.root / "proc/driver/nvidia").exists():
        return []
    gpus: list[Gpu] = []
    for line in _tried(lambda: sources.run(NVIDIA_QUERY), "", "NVIDIA", notes).splitlines():
        words = [word.strip() for word in line.split(",")]
        # A card that shares the host's memory reports "[N/A]": it has none of its own to plan with.
        if len(words) == 4 and all(word.isdecimal() for word in (words[0], *words[2:])):
            gpus.append(Gpu(words[1], int(words[0]), int(words[2]) << 20, int(words[3]) << 20, "cuda"))
    return gpus


def _amd(root: Path) -> list[Gpu]:
    gpus: list[Gpu] = []
    for file in sorted((root / "sys/class/drm").glob("card*/device/mem_info_vram_total")):
        total, used = _number(_read(file)), _number(_read(file.with_name("mem_info_vram_used")))
        if total > 0:
            name = _read(file.with_name("product_name")) or "AMD"
            gpus.append(Gpu(name, len(gpus), total, max(0, total - used), "rocm"))
    return gpus


def _read(file: Path) -> str:
    """The text of a small file, or an empty one: it is absent on most machines, which is no news."""
    try:
        return file.read_text(errors="replace").strip()
    except OSError:
        return ""


def _number(text: str) -> int:
    return int(text) if text.removeprefix("-").isdecimal() else 0
