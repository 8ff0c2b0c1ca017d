"""Two names that change places in one step: Linux' ``renameat2`` with ``RENAME_EXCHANGE``, which Python lacks."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable

from localmodels.store.folders import Folder

Exchange = Callable[[Folder, str, Folder, str], bool]
"""Lets an entry of one directory and one of another change places; False, and nothing is done, where that is not to be
had."""

_RENAME_EXCHANGE = 2  # linux/fs.h
_UNKNOWN = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})  # an old kernel, or a file system of the network


def exchange(one: Folder, name: str, other: Folder, its: str) -> bool:
    """See :data:`Exchange`."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    given = (one.descriptor, os.fsencode(name), other.descriptor, os.fsencode(its), _RENAME_EXCHANGE)
    if call(*given) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNKNOWN:
        return False
    raise OSError(number, os.strerror(number), name)
