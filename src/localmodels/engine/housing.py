"""Where runners live: a private directory each, in memory where the system has such a place.

Unix socket paths may be 107 bytes long and no more (``unix(7)``), so the directory is short and not in the home.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from shutil import rmtree
from tempfile import gettempdir, mkdtemp

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a directory of ours inside it, mode 0700, is what is used
PREFIX, LOCK = "localmodels-", "lock"


class Housing:
    """A directory for this server, with one in it for each runner.

    Saved slots are as large as a key and value cache; on a memory file system they are written and read in a tenth of
    a second where a disk would take as long as computing them.
    """

    def __init__(self, parent: Path | None = None) -> None:
        parent = parent or default_parent()
        sweep(parent)
        self.root = Path(mkdtemp(prefix=PREFIX, dir=parent))
        self._lock = os.open(self.root / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def place(self, runner_id: str) -> Path:
        """Where the runner's directory will be; it is made when the runner starts."""
        return self.root / runner_id

    def room(self, runner_id: str) -> Path:
        """A new, empty directory, mode 0700."""
        room = self.place(runner_id)
        room.mkdir(mode=0o700)
        return room

    def close(self) -> None:
        """Removes everything."""
        rmtree(self.root, ignore_errors=True)
        os.close(self._lock)


def sweep(parent: Path) -> None:
    """Removes what servers of this user left behind when they were killed: saved slots hold prompts, and take memory.

    A server that lives holds the lock in its directory.
    """
    for left in parent.glob(f"{PREFIX}*/{LOCK}"):
        try:
            lock = os.open(left, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:
            continue  # another user's, or gone in this moment
        try:
            if os.fstat(lock).st_uid == os.getuid():
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                rmtree(left.parent, ignore_errors=True)
        except BlockingIOError:
            continue
        finally:
            os.close(lock)


def default_parent() -> Path:
    """Shared memory where there is such a thing, else the place for temporary files."""
    return SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else Path(gettempdir())
