"""Processor time of processes, as the kernel counts it, and the cores that they may use."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import psutil

_TICK = 1 / os.sysconf("SC_CLK_TCK")
# Fields of /proc/PID/stat after the name (proc(5)): the 14th and 15th of the line are user and system time.
_USER, _SYSTEM = 11, 12


def spent(pid: int) -> float:
    """Seconds of processor time that a process and those below it have taken; a hundredth is the smallest."""
    pids = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    return sum(map(_spent_alone, pids))


def _spent_alone(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[_USER]) + int(fields[_SYSTEM])) * _TICK


@dataclass(frozen=True)
class Cores:
    """Which cores who may use: what is measured has one for itself, unless there is only one."""

    measured: frozenset[int]
    others: frozenset[int]

    @property
    def apart(self) -> bool:
        """Does the load leave what it measures alone?"""
        return not self.measured & self.others


def share_out() -> Cores:
    """The last core of those that this process may use is for what is measured."""
    *others, last = sorted(os.sched_getaffinity(0))
    return Cores(frozenset({last}), frozenset(others or {last}))
