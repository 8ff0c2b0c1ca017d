"""Few places to allocate from, and what is free goes back."""

from __future__ import annotations

import asyncio
import platform
import subprocess
import sys

import pytest

from localmodels.server.arenas import EVERY, given_back

MANY = """
import sys, threading
from localmodels.server.arenas import keep_few
if sys.argv[1] == "few":
    assert keep_few()
begin, go = threading.Barrier(25), threading.Event()
def work():
    begin.wait()
    kept = [bytearray(50_000) for _ in range(40)]
    go.wait()
for _ in range(24):
    threading.Thread(target=work, daemon=True).start()
begin.wait()
with open("/proc/self/maps") as maps:  # each such place is reserved as 64 MiB
    print(sum(int(b, 16) - int(a, 16) >= 2**25 for a, b in (line.split()[0].split("-") for line in maps)))
go.set()
"""


# What a server has after a burst: many blocks, of which few are still used, so that the heap cannot simply end earlier.
BURST = """
import sys
from ctypes import CDLL, c_void_p
from localmodels.server.arenas import give_back, keep_few
libc = CDLL(None)
libc.malloc.restype, libc.free.argtypes = c_void_p, [c_void_p]
if sys.argv[1] == "few":
    assert keep_few()
blocks = [libc.malloc(int(sys.argv[2])) for _ in range(40 * 2**20 // int(sys.argv[2]))]
for block in blocks:
    libc.memset(c_void_p(block), 1, int(sys.argv[2]))
for block in blocks[:-1]:
    libc.free(block)
if sys.argv[3] == "back":
    assert give_back()
with open("/proc/self/statm") as figures:
    print(int(figures.read().split()[1]) * 4096)
"""

GLIBC = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")


def after(*how: str) -> int:
    done = subprocess.run([sys.executable, "-c", BURST, *how], capture_output=True, text=True, check=True)
    return int(done.stdout)


@GLIBC
def test_what_is_free_between_what_is_used_goes_back() -> None:
    assert after("few", "50000", "back") + 30 * 2**20 < after("few", "50000", "kept")


@GLIBC
def test_rounds_end_with_their_context() -> None:
    async def once() -> None:
        asked: list[float] = []
        turn = asyncio.Event()

        async def sleep(seconds: float) -> None:
            asked.append(seconds)
            if len(asked) > 1:
                turn.set()
                await asyncio.Event().wait()

        async with given_back(sleep):
            await turn.wait()
        assert asked == [EVERY, EVERY]
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(once())


@GLIBC
def test_threads_share_them() -> None:
    def reserved(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", MANY, how], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert reserved("few") <= 4 < 8 <= reserved("many")
