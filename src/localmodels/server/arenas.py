"""The C library's memory, kept in few places."""

from __future__ import annotations

import ctypes

# glibc gives each new thread a place of its own to allocate from, up to eight a core, and gives none of them back: a
# server whose pool of threads fills up over hours would look like one that leaks. One of ours computes at a time.
M_ARENA_MAX = -8  # malloc.h
ARENAS = 2


def keep_few() -> bool:
    """Bounds their number for good, before threads begin; false where the C library has no such thing."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(M_ARENA_MAX, ARENAS))
