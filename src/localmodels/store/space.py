"""How much of a disk may be filled: a pure decision over what the disk says and what others have reserved."""

from __future__ import annotations

import os

from msgspec import Struct

from localmodels.core.errors import DiskFull

# What is kept free for the rest of the machine: logs, databases and the desktop need it more than a model does. On a
# small disk 5 % is enough; on a large one 2 GB is, since what needs it does not grow with the disk.
KEEP_SHARE = 0.05
KEEP_BYTES = 2 * 10**9


class Space(Struct, frozen=True):
    """A file system's size, and what an ordinary user may still write; both in bytes."""

    total: int
    free: int


def space_of(descriptor: int) -> Space:
    """The space of the file system that an open file lies on."""
    found = os.fstatvfs(descriptor)
    return Space(total=found.f_blocks * found.f_frsize, free=found.f_bavail * found.f_frsize)


def kept(space: Space) -> int:
    """Bytes that are never reserved."""
    return min(KEEP_BYTES, int(space.total * KEEP_SHARE))


def admit(needed: int, space: Space, reserved: int) -> None:
    """Lets ``needed`` bytes be reserved beside those that others have ``reserved``.

    Raises:
        DiskFull: they do not fit.
    """
    keep = kept(space)
    left = space.free - reserved - keep
    if needed <= left:
        return
    others = f", {_gb(reserved)} of them reserved by other downloads" if reserved else ""
    raise DiskFull(
        f"disk full: {_gb(needed)} are needed, {_gb(space.free)} are free{others}, and {_gb(keep)} are kept free; "
        f"free {_gb(needed - left)} more, or use another disk"
    )


def _gb(size: int) -> str:
    """Decimal units, as disks are sold; bytes below a megabyte, so that no need is ever told as 0."""
    for unit, name in ((10**9, "GB"), (10**6, "MB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} bytes"
