"""Leases: what one writer is making, and which blobs must stay while he does.

A lease is a directory of its own with three kinds of files: ``lock``, held open and locked for as long as the writer
lives; ``claim``, the blobs that he needs and the room that he has reserved; and his unfinished files. The rule: a lease
whose lock can be taken belongs to a dead process, and whoever finds it clears it away. So a crash leaves nothing that
needs an operator, whatever a process id may mean by then, and in whichever container it was.
"""

from __future__ import annotations

import os
import secrets
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Self

import msgspec
from msgspec import Struct

from localmodels.core.catalog import Digest
from localmodels.store.folders import Folder, disk_errors, write_all
from localmodels.store.layout import LOCK, Layout, blob_name
from localmodels.store.lock import StoreLock, try_lock
from localmodels.store.space import Space, admit, space_of

CLAIM = "claim"

_CLAIM_BYTES = 2**20
# A claim is written anew after so many bytes of its reservation were used. Until then others see too much reserved,
# never too little.
_STEP = 64 * 2**20

Measure = Callable[[int], Space]


class Claim(Struct, frozen=True):
    """What a lease holds.

    Attributes:
        purpose: for people, such as ``pull llama3:8b``.
        pid: of the process, for people too: whether it lives is told by the lock.
        reserved: bytes that are still to be written.
        digests: hexadecimal digits of the blobs that must stay.
        everything: all blobs must stay, since the claim of a living writer cannot be read.
    """

    purpose: str
    pid: int
    reserved: int = 0
    digests: tuple[str, ...] = ()
    everything: bool = False


class Lease:
    """A writer's own corner of the store; a context manager. Threads may share it.

    Made by :meth:`Leases.open`.
    """

    def __init__(
        self, layout: Layout, lock: StoreLock, measure: Measure, token: str, folder: Folder, alive: int, claim: Claim
    ) -> None:
        self.layout = layout
        self.lock = lock
        self.token = token
        self.folder = folder
        self._measure = measure
        self._alive = alive
        self._claim = claim
        self._unsaid = 0
        self._made = 0
        self._mutex = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def claim(self) -> Claim:
        """What the lease holds now."""
        return self._claim

    @disk_errors()
    def protect(self, *digests: Digest) -> None:
        """From now until the lease ends no collection takes these blobs, whether or not they are there already."""
        wanted = [digest.hex for digest in digests if blob_name(digest) and digest.hex not in self._claim.digests]
        if not wanted:
            return
        # A collection that is under way has already looked at the claims: it is waited for.
        with self.lock.held(), self._mutex:
            self._write(msgspec.structs.replace(self._claim, digests=(*self._claim.digests, *wanted)))

    @disk_errors()
    def release(self, digest: Digest) -> None:
        """A collection may take this blob from now on, as far as this lease is concerned."""
        with self.lock.held(), self._mutex:
            left = tuple(one for one in self._claim.digests if one != digest.hex)
            self._write(msgspec.structs.replace(self._claim, digests=left))

    @disk_errors()
    def reserve(self, size: int) -> None:
        """Sets room for ``size`` more bytes aside, until they are written or the lease ends.

        Raises:
            DiskFull: there is not so much.
        """
        with self.lock.held(), self._mutex:
            others = sum(claim.reserved for token, claim in living(self.layout) if token != self.token)
            reserved = max(0, self._claim.reserved - self._unsaid) + size
            admit(reserved, self._measure(self.folder.descriptor), others)
            self._unsaid = 0
            self._write(msgspec.structs.replace(self._claim, reserved=reserved))

    @disk_errors()
    def spend(self, size: int) -> None:
        """So many bytes of what was reserved are written."""
        with self._mutex:
            self._unsaid += size
            if self._claim.reserved and (self._unsaid >= _STEP or self._unsaid >= self._claim.reserved):
                left = max(0, self._claim.reserved - self._unsaid)
                self._unsaid = 0
                self._write(msgspec.structs.replace(self._claim, reserved=left))

    def new_file(self) -> str:
        """A file name that this lease has not given yet."""
        with self._mutex:
            self._made += 1
            return f"{self._made}.tmp"

    def close(self) -> None:
        """Ends the lease: removes what was not finished, and lets go of the rest. A second time does nothing."""
        with self._mutex:
            if self._alive < 0:
                return
            alive, self._alive = self._alive, -1
        try:
            with self.layout.leases() as leases, suppress(OSError):
                # What cannot be removed now (a disk that fails) is cleared away as a dead process's would be.
                clear(leases, self.token, self.folder)
        except OSError:
            pass
        finally:
            self.folder.close()
            os.close(alive)

    def _write(self, claim: Claim) -> None:
        """Replaces the claim in one step; it need not survive a power cut, since no lease does."""
        write_claim(self.folder, claim)
        self._claim = claim


class Leases:
    """Opens leases on one store."""

    def __init__(self, layout: Layout, lock: StoreLock, *, measure: Measure = space_of) -> None:
        self._layout = layout
        self._lock = lock
        self._measure = measure

    @disk_errors()
    def open(self, purpose: str) -> Lease:
        """A new lease; the directories of the store are made where they are missing."""
        self._layout.prepare()
        token = secrets.token_hex(8)
        # It is for people, and written as JSON: what is no text must not fail the writer.
        claim = Claim(purpose.encode(errors="replace").decode()[:200], os.getpid())
        # Under the lock, or somebody would clear it away between its making and its locking.
        with self._lock.held():
            folder = self._layout.lease(token, make=True)
            try:
                alive = _begun(folder, claim)
            except BaseException:
                folder.close()
                raise
        return Lease(self._layout, self._lock, self._measure, token, folder, alive, claim)


def _begun(folder: Folder, claim: Claim) -> int:
    """Locks and claims a lease's new directory; what is locked."""
    alive = folder.create(LOCK)
    try:
        try_lock(alive)
        write_claim(folder, claim)
    except BaseException:
        os.close(alive)
        raise
    return alive


def living(layout: Layout) -> Iterator[tuple[str, Claim]]:
    """Token and claim of every writer that lives; what the dead left is cleared away. Call it under the lock."""
    with layout.leases() as leases:
        for token in tokens(leases):
            with suppress(FileNotFoundError), leases.below(token) as folder:  # its writer may be just ending it
                claim = claim_of(folder)
                if claim is not None:
                    yield token, claim
                else:
                    clear(leases, token, folder)


def tokens(leases: Folder) -> list[str]:
    """All leases; what lies there and is no directory is none."""
    found = ((token, leases.look(token)) for token in leases.names())
    return [token for token, status in found if status is not None and stat.S_ISDIR(status.st_mode)]


def claim_of(folder: Folder) -> Claim | None:
    """The claim of a lease; None if its writer is dead."""
    alive = folder.open(LOCK, os.O_RDWR)
    if alive is None:
        return None
    try:
        if try_lock(alive):
            return None
    finally:
        os.close(alive)
    data = folder.read(CLAIM, _CLAIM_BYTES)
    if data is None:
        return Claim("ending", 0)
    try:
        return msgspec.json.decode(data, type=Claim)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Claim("unreadable", 0, everything=True)


def clear(leases: Folder, token: str, folder: Folder) -> None:
    """Removes a lease's directory; its lock last, so that it is a lease until it is gone."""
    for file in sorted(folder.names(), key=lambda file: file == LOCK):
        folder.remove(file)
    leases.remove_empty(token)


def write_claim(folder: Folder, claim: Claim) -> None:
    """Puts a claim in a lease's directory, in one step."""
    folder.remove(f"{CLAIM}.new")
    descriptor = folder.create(f"{CLAIM}.new")
    try:
        write_all(descriptor, msgspec.json.encode(claim))
    finally:
        os.close(descriptor)
    folder.move(f"{CLAIM}.new", folder, CLAIM)
