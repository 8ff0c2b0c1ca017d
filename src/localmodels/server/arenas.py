"""The C library's memory: kept in few places, and given back when it is free.

What was once needed for a moment is otherwise kept for ever, in pieces between what is still used: over hours a server
looks like one that leaks. glibc alone knows of these; elsewhere nothing is done.
"""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

# malloc.h. Each new thread gets a place of its own to allocate from, up to eight a core, and none of them is given
# back; one of ours computes at a time. Large blocks are given back as soon as they are free, but glibc raises what it
# takes for large, up to 32 MiB, with each one that is freed: a figure that was set stays.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
LARGE = 256 * 2**10  # bytes
BOUNDS: Mapping[int, int] = {_M_ARENA_MAX: 2, _M_MMAP_THRESHOLD: LARGE, _M_TRIM_THRESHOLD: LARGE}
EVERY = 60.0  # seconds

Sleep = Callable[[float], Awaitable[object]]


def keep_few() -> bool:
    """Bounds what is kept for good, before threads begin; false where the C library has no such thing."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(name, value) for name, value in BOUNDS.items())


def give_back() -> bool:
    """Gives the system whatever is free; was there anything?"""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim is not None and bool(trim(0))


@asynccontextmanager
async def given_back(sleep: Sleep = asyncio.sleep) -> AsyncIterator[None]:
    """Does so again and again, in a thread, for as long as the context lasts."""

    async def rounds() -> None:
        while True:
            await sleep(EVERY)
            await asyncio.to_thread(give_back)

    task = asyncio.create_task(rounds())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
