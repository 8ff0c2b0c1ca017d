"""A program run to its end, and the most memory that it and its children had together."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

EVERY = 0.05  # seconds between two looks: each costs a millisecond


def run(command: Sequence[str | Path]) -> tuple[str, int]:
    """What it printed last, and the bytes; pages that several of them map count for each.

    Raises:
        RuntimeError: it failed; with its last words.
    """
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    done = threading.Event()
    peaks = [0]
    watcher = threading.Thread(target=_watch, args=(child.pid, done, peaks))
    watcher.start()
    try:
        said, failed = child.communicate()
    finally:
        done.set()
        watcher.join()
    if child.returncode:
        raise RuntimeError(f"{command[0]} ended with {child.returncode}: {failed[-800:]}")
    return (said.splitlines() or [""])[-1], max(peaks)


def _watch(pid: int, done: threading.Event, peaks: list[int]) -> None:
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        while not done.wait(EVERY):
            peaks.append(sum(_memory(process) for process in (root, *root.children(recursive=True))))


def _memory(process: psutil.Process) -> int:
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        return int(process.memory_info().rss)
    return 0
