"""How the server stands, seen from outside: the kernel's account of its processes, its files, its own figures.

``/proc`` of Linux, since USS and PSS are told nowhere else without reading the whole map; what it does not tell is 0.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil
from msgspec import Struct

KIB = 1024
_FIGURE = re.compile(rb"^(localmodels_[a-z_]+)(?:\{[^}]*\})? ([0-9.e+-]+)$", re.MULTILINE)


class Memory(Struct, frozen=True):
    """Bytes: all that is resident, the same with shared pages shared out, and what is nobody else's."""

    rss: int = 0
    pss: int = 0
    uss: int = 0


class Sample(Struct, frozen=True):
    """One look.

    Attributes:
        at: seconds since the soak began.
        memory: of the server.
        runners: the memory of its children, all together.
        descriptors, threads: of the server.
        children: processes below it.
        files, temporary: how many are in the server's home, and in the directory for what is temporary.
        kept: bytes of the files in its home.
        series: lines of ``/metrics``.
        figures: of ``/metrics``, summed over their labels.
        visits: of clients, under way.
    """

    at: float
    memory: Memory
    runners: Memory
    descriptors: int
    threads: int
    children: int
    files: int
    kept: int
    temporary: int
    series: int = 0
    figures: Mapping[str, float] = {}
    visits: int = 0


def memory(pid: int) -> Memory:
    """Of a process; zeros where it has gone."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return Memory()
    sizes = {words[0].rstrip(":"): int(words[1]) * KIB for words in map(str.split, text.splitlines()[1:])}
    return Memory(sizes["Rss"], sizes["Pss"], sizes["Private_Clean"] + sizes["Private_Dirty"])


def files_below(directory: Path) -> tuple[int, int]:
    """How many files, and their bytes together."""
    many = size = 0
    for root, _, names in os.walk(directory):
        for name in names:
            with suppress(OSError):
                size += (Path(root) / name).lstat().st_size
                many += 1
    return many, size


def figures(page: bytes) -> tuple[int, Mapping[str, float]]:
    """Series of a page of metrics, and the value of each of our names, summed over its labels."""
    sums: dict[str, float] = {}
    for name, value in _FIGURE.findall(page):
        sums[name.decode()] = sums.get(name.decode(), 0.0) + float(value)
    return sum(bool(line) and not line.startswith(b"#") for line in page.split(b"\n")), sums


def look(pid: int, home: Path, temporary: Path, *, at: float, page: bytes = b"", visits: int = 0) -> Sample:
    """One sample of a server and all below it."""
    server = psutil.Process(pid)
    children = server.children(recursive=True)
    below = [memory(child.pid) for child in children]
    files, kept = files_below(home)
    series, sums = figures(page)
    return Sample(
        at,
        memory(pid),
        Memory(sum(one.rss for one in below), sum(one.pss for one in below), sum(one.uss for one in below)),
        server.num_fds(),
        server.num_threads(),
        len(children),
        files,
        kept,
        files_below(temporary)[0],
        series,
        sums,
        visits,
    )
