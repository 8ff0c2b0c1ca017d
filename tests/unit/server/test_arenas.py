"""Few places to allocate from."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_threads_share_them() -> None:
    def reserved(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", MANY, how], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert reserved("few") <= 4 < 8 <= reserved("many")
