"""Small files in which a store remembers what it found out, and can find out again.

The rule: a note may be lost. It is replaced in one step, not synced unless it must last, and one that a power cut or a
rotten disk has changed is told by its own checksum and is no note. So whoever reads one must be as safe without it.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress

from localmodels.core.errors import ModelDamaged
from localmodels.store.folders import Folder, write_all

_NOTE_BYTES = 64 * 1024
_NEW = ".new"


def read_note(folder: Folder, name: str) -> bytes | None:
    """What a note says; None if there is none, or none that is whole."""
    with suppress(OSError, ModelDamaged):
        data = folder.read(name, _NOTE_BYTES)
        if data is not None:
            checksum, _, text = data.partition(b"\n")
            if checksum == _checksum(text):
                return text
    return None


def write_note(folder: Folder, name: str, text: bytes, *, lasting: bool = False) -> None:
    """Replaces a note in one step; a ``lasting`` one is on disk when this returns.

    Raises:
        OSError: the disk does not take it; the old one stays.
    """
    file = f"{name}.{secrets.token_hex(4)}{_NEW}"
    descriptor = folder.create(file)
    try:
        try:
            write_all(descriptor, _checksum(text) + b"\n" + text)
            if lasting:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        folder.move(file, folder, name)
        if lasting:
            folder.sync()
    except OSError:
        folder.remove(file)
        raise


def sweep_notes(folder: Folder, needed: Callable[[str, os.stat_result], bool]) -> None:
    """Removes the notes that are not needed, and what a dead process left half written."""
    for name in folder.names():
        status = folder.look(name)
        if status is not None and stat.S_ISREG(status.st_mode) and (name.endswith(_NEW) or not needed(name, status)):
            folder.remove(name)


def _checksum(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest().encode()
