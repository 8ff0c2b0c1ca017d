"""The one door to the kernel: a function that makes a system call by number.

The one rule: everything in this room takes the door as an argument, so a test can hand it a kernel that lacks a layer.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import threading
from collections.abc import Callable
from ctypes import Array, c_char, c_long
from pathlib import Path

from msgspec import Struct

Syscall = Callable[..., int]


class Machine(Struct, frozen=True):
    """The kernel that we run on.

    Attributes:
        syscall: its door.
        name: of the processor, which decides the numbers of calls.
        threads: of this process; what a thread does to itself misses the others.
    """

    syscall: Syscall
    name: str
    threads: int = 1


def this_machine() -> Machine | None:
    """None where the kernel is not Linux: its calls have no stable numbers."""
    if sys.platform != "linux":
        return None
    return Machine(linux_syscall(), platform.machine(), count_threads())


def count_threads() -> int:
    """All of this process; without /proc, those that Python knows."""
    try:
        return sum(1 for _ in Path("/proc/self/task").iterdir())
    except OSError:
        return threading.active_count()


def linux_syscall() -> Syscall:
    """``syscall(2)``: takes integers and buffers, gives what the kernel gives, raises OSError where it refuses."""
    call = ctypes.CDLL(None, use_errno=True).syscall
    call.restype = c_long

    def syscall(number: int, *arguments: int | Array[c_char]) -> int:
        widened = [c_long(value) if isinstance(value, int) else value for value in arguments]
        result = int(call(c_long(number), *widened))
        if result == -1:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return result

    return syscall
