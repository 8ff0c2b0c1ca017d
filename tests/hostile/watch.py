"""The watchers: what a server under attack must keep up, seen from a process of its own.

``python -m tests.hostile.watch PORT PID`` asks ``/health`` every 50 ms and looks at the server's memory, until its
standard input ends; then it prints what it saw, one line of JSON. A process of its own, so that neither the attackers'
work nor their interpreter's lock is taken for the server's.
"""

from __future__ import annotations

import http.client
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import PIPE, Popen
from time import monotonic

import msgspec
import psutil
from msgspec import Struct, field

EVERY = 0.05  # seconds
PATIENCE = 5.0
SLOW = 0.1


class Seen(Struct):
    """What was seen.

    Attributes:
        probes: how often the health was asked for.
        unwell: answers that were not 200, or none.
        slowest: seconds that an answer took.
        slowest_own: the same, without the time for which a thread of the server, or this one, waited for a processor.
        slow: answers that took more than a tenth of a second: when, how long, and how long without that waiting.
        rss: of the server, at first.
        rss_most: the most that was seen.
        rss_last: at the end.
    """

    probes: int = 0
    unwell: int = 0
    slowest: float = 0.0
    slowest_own: float = 0.0
    slow: list[tuple[float, float, float]] = field(default_factory=list)
    rss: int = 0
    rss_most: int = 0
    rss_last: int = 0


class Watch:
    """A watching process."""

    def __init__(self, process: Popen[str]) -> None:
        self._process = process
        self.seen = Seen()

    def end(self) -> None:
        """Has it tell what it saw."""
        said, _ = self._process.communicate(timeout=2 * PATIENCE)
        self.seen = msgspec.json.decode(said, type=Seen)


@contextmanager
def watching(port: int, pid: int) -> Iterator[Watch]:
    """Watches a server; what was seen is there when the block has ended."""
    command = [sys.executable, "-m", "tests.hostile.watch", str(port), str(pid)]
    with Popen(command, stdin=PIPE, stdout=PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        watch = Watch(process)
        try:
            yield watch
            watch.end()
        finally:
            process.kill()


def waiting(pid: int) -> dict[str, float]:
    """Seconds that each thread of a process was ready to run and did not, as the kernel counts.

    The second figure of ``schedstat`` (Linux, Documentation/scheduler/sched-stats.rst); empty where it is not told. All
    threads count, since the main one waits for whoever holds the interpreter's lock.
    """
    found = {}
    for file in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with suppress(OSError, IndexError):
            found[file.parent.name] = int(file.read_text().split()[1]) / 1e9
    return found


def waited(before: dict[str, float], after: dict[str, float]) -> float:
    """The longest that one of the threads waited in between."""
    return max((after[name] - before.get(name, 0.0) for name in after), default=0.0)


def look(port: int, pid: int, ended: threading.Event) -> Seen:
    """Probes until it is told to end."""
    server = psutil.Process(pid)
    seen = Seen(rss=server.memory_info().rss)
    while not ended.wait(EVERY):
        before, mine, start = waiting(pid), waiting(os.getpid()), monotonic()
        well = _well(port)
        took = monotonic() - start
        own = max(0.0, took - waited(before, waiting(pid)) - waited(mine, waiting(os.getpid())))
        seen.probes += 1
        seen.unwell += not well
        if took > SLOW:
            seen.slow.append((start, took, own))
        seen.slowest, seen.slowest_own = max(seen.slowest, took), max(seen.slowest_own, own)
        try:
            seen.rss_last = server.memory_info().rss
        except psutil.NoSuchProcess:
            break
        seen.rss_most = max(seen.rss_most, seen.rss_last)
    return seen


def _well(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", "/health")
        answer = connection.getresponse()
        answer.read()
    except OSError:
        return False
    finally:
        connection.close()
    return answer.status == 200


def main() -> int:
    """Looks until nobody holds its standard input any more."""
    port, pid = map(int, sys.argv[1:])
    ended = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    print("ready", flush=True)
    print(msgspec.json.encode(look(port, pid, ended)).decode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
