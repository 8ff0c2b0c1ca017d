"""Runs an operation under ``strace``: numbers its system calls, kills it at one of them, or has one fail.

The operation runs in a fork of this process, so nothing is imported under ``strace``: the fork waits at a pipe until it
is watched. Call it in a process without other threads. ``--seccomp-bpf`` would be faster still, but strace 6.1 then
drops the signals that it is told to send; that each disturbance has happened is therefore read from the trace.
"""

from __future__ import annotations

import ctypes
import os
import re
import select
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from msgspec import Struct

from localmodels.core.errors import LocalModelsError

# An operation takes a tenth of a second; what takes this long hangs.
DEADLINE = 60.0

# How a fork ends that was refused: in our own words, in the system's, or by a mistake of the program.
REFUSED, RAW, MISTAKE = 3, 5, 7

CALLS = (
    "openat", "write", "pwrite64", "read", "pread64", "rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir",
    "fsync", "fdatasync", "mkdir", "mkdirat", "ftruncate", "close", "link", "linkat", "flock", "newfstatat",
    "getdents64", "fstatfs", "ioctl",
)  # fmt: skip

# Name, arguments, result; with -y every descriptor is followed by its path.
_LINE = re.compile(r"(?:\d+ +)?(?P<call>\w+)\((?P<arguments>.*)\) += (?P<result>-?\d+)(?P<rest>.*)")
_PR_SET_PTRACER, _ANY = 0x59616D61, ctypes.c_ulong(-1)  # linux/prctl.h; only Yama asks


class Call(Struct, frozen=True):
    """One system call on the store: the ``number``-th of its name in the process, from 1."""

    call: str
    number: int
    arguments: str
    result: str


class Ended(Struct, frozen=True):
    """How a process ended: its exit status (negative: by that signal), and what it said.

    ``landed``: it was disturbed as it should be.
    """

    status: int
    said: str
    landed: bool
    hung: bool = False


def trace(operation: Callable[[], None], log: Path, below: Path) -> list[Call]:
    """Every call of the operation that names a path below a directory, in order.

    Raises:
        RuntimeError: it fails undisturbed.
    """
    ended = _watched(operation, log, (f"trace={','.join(CALLS)}",))
    if ended.status:
        raise RuntimeError(f"it fails undisturbed: {ended.said}")
    counts: Counter[str] = Counter()
    calls = []
    for line in log.read_text(errors="replace").splitlines():
        found = _LINE.match(line)
        if found is None:
            continue
        counts[found["call"]] += 1
        if f"{below}" in line:
            calls.append(Call(found["call"], counts[found["call"]], found["arguments"], found["result"]))
    return calls


def disturb(operation: Callable[[], None], log: Path, call: Call, what: str) -> Ended:
    """The operation, with that call disturbed: ``signal=KILL`` or ``error=ENOSPC``."""
    return _watched(operation, log, _injected(call, what))


def stopped(operation: Callable[[], None], log: Path, call: Call, meanwhile: Callable[[], None]) -> None:
    """The operation, stopped at that call while something else is done, then killed.

    Raises:
        RuntimeError: it did not come to that call.
    """
    with _Fork(operation) as fork, fork.watched(log, _injected(call, "signal=STOP")):
        fork.begin()
        # A stop is told to the parent although strace is the one who watches.
        _, status = os.waitpid(fork.pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            fork.pid = 0
            raise RuntimeError(f"it did not come to {call.call} #{call.number}")
        meanwhile()


def _injected(call: Call, what: str) -> tuple[str, ...]:
    # Only that call is traced, so all others are as fast as ever; the numbers are by name.
    return f"trace={call.call}", f"inject={call.call}:{what}:when={call.number}"


def _watched(operation: Callable[[], None], log: Path, expressions: Sequence[str]) -> Ended:
    with _Fork(operation) as fork, fork.watched(log, expressions):
        fork.begin()
        said, hung = fork.heard()
        status = fork.ended()
    text = log.read_text(errors="replace")
    return Ended(status, said, landed="(INJECTED)" in text or "killed by SIGKILL" in text, hung=hung)


class _Fork:
    """A fork of this process that does one operation; a context manager that leaves none behind."""

    def __init__(self, operation: Callable[[], None]) -> None:
        self._start, self._go = os.pipe()
        self._answer, self._say = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._go)
            os.close(self._answer)
            _be_watched(operation, self._start, self._say)
        os.close(self._start)
        os.close(self._say)
        os.read(self._answer, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._go)
        os.close(self._answer)
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            self.ended()

    @contextmanager
    def watched(self, log: Path, expressions: Sequence[str]) -> Iterator[None]:
        """Has ``strace`` watch it, until it has ended."""
        options = [option for expression in expressions for option in ("-e", expression)]
        command = ["strace", "-f", "-y", "-o", str(log), *options, "-p", str(self.pid)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL) as strace:
            assert strace.stderr is not None
            attached = strace.stderr.readline()
            if b"attached" not in attached:
                raise RuntimeError(f"strace cannot watch: {attached.decode()}")
            try:
                yield
            finally:
                if self.pid:
                    os.kill(self.pid, signal.SIGKILL)

    def begin(self) -> None:
        """Lets it go."""
        os.write(self._go, b"\n")

    def heard(self) -> tuple[str, bool]:
        """What it says until it ends, and whether it had to be ended."""
        said, hung = b"", False
        while True:
            ready, _, _ = select.select([self._answer], [], [], DEADLINE)
            if not ready:
                hung = True
                os.kill(self.pid, signal.SIGKILL)
            piece = os.read(self._answer, 1000)
            if not piece:
                return said.decode(), hung
            said += piece

    def ended(self) -> int:
        """Its exit status; negative: by that signal."""
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self.pid = 0
        return status


def _be_watched(operation: Callable[[], None], start: int, say: int) -> None:
    """The fork's whole life; it never returns."""
    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _ANY, 0, 0, 0)
    os.write(say, b".")
    select.select([start], [], [])  # no call that is counted: it may begin before it is watched, or after
    status, said = 0, "done"
    try:
        operation()
    except LocalModelsError as error:
        status, said = REFUSED, f"{type(error).__name__}: {error}"
    except OSError as error:
        status, said = RAW, f"{type(error).__name__}: {error}"
    except BaseException as error:  # noqa: BLE001 - a fork must not go on as its parent; the sweep tells what it was
        status, said = MISTAKE, f"{type(error).__name__}: {error}"
    os.write(say, said.encode()[:1000])
    os._exit(status)
