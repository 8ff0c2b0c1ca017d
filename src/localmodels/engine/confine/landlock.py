"""Landlock: files, TCP and scopes, through three raw system calls (numbers and bits from ``linux/landlock.h``).

The one rule: every right that this kernel's ABI knows is taken away, then a policy's few are given back. A right that
the kernel does not know yet is not asked for, because it would refuse the whole ruleset.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct

from msgspec import Struct

from localmodels.engine.confine.kernel import Syscall
from localmodels.engine.confine.policy import Policy

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same on every architecture
VERSION_FLAG = 1
RULE_PATH_BENEATH = 1

(EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE, MAKE_CHAR, MAKE_DIR, MAKE_REG, MAKE_SOCK, MAKE_FIFO,
 MAKE_BLOCK, MAKE_SYM, REFER, TRUNCATE, IOCTL_DEV) = (1 << bit for bit in range(16))  # fmt: skip
ON_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV  # what a rule on something not a directory may hold

READING = READ_FILE | READ_DIR
WRITING = READING | WRITE_FILE | TRUNCATE | MAKE_REG | MAKE_SOCK | REMOVE_FILE
CONTROLLING = READ_FILE | WRITE_FILE | IOCTL_DEV

# What each ABI added: file system rights, TCP rights (bind, connect), scopes (abstract unix sockets, signals).
FILES_BY_ABI = {1: (1 << 13) - 1, 2: REFER, 3: TRUNCATE, 5: IOCTL_DEV}
TCP_BY_ABI = {4: 0b11}
SCOPES_BY_ABI = {6: 0b11}


class Rights(Struct, frozen=True):
    """What a ruleset takes away: three bit masks, ``struct landlock_ruleset_attr``."""

    files: int
    tcp: int
    scopes: int


class Outcome(Struct, frozen=True):
    """What became of a ruleset: the rights taken away, and how many paths were given back or could not be."""

    abi: int
    rights: Rights
    given: int
    missing: int

    @property
    def words(self) -> str:
        """For a layer's detail."""
        short = f", {self.missing} could not be opened" if self.missing else ""
        return f"ABI {self.abi}, {self.given} places allowed{short}"


def version(syscall: Syscall) -> int:
    """The kernel's Landlock ABI, from 1.

    Raises:
        OSError: ENOSYS, the kernel was built without it; EOPNOTSUPP, it was switched off at boot.
    """
    return syscall(CREATE_RULESET, 0, 0, VERSION_FLAG)


def rights(abi: int, *, network: bool = False) -> Rights:
    """All that ABI can take away, but TCP where ``network`` is allowed."""
    tcp = 0 if network else _upto(abi, TCP_BY_ABI)
    return Rights(_upto(abi, FILES_BY_ABI), tcp, _upto(abi, SCOPES_BY_ABI))


def _upto(abi: int, table: dict[int, int]) -> int:
    return sum(bits for since, bits in table.items() if since <= abi)


def grants(policy: Policy) -> list[tuple[str, int]]:
    """What is given back: paths, each with its rights."""
    table = (
        (policy.read, READING),
        (policy.browse, READ_DIR),
        (policy.write, WRITING),
        (policy.devices, CONTROLLING),
        (policy.execute, EXECUTE | READ_FILE),
    )
    return [(path, bits) for paths, bits in table for path in paths]


def restrict(syscall: Syscall, policy: Policy) -> Outcome:
    """Holds this thread, and those that it starts from now on, to ``policy``. Cannot be undone.

    Raises:
        OSError: the kernel has no Landlock or refuses; then nothing is restricted.
    """
    abi = version(syscall)
    taken = rights(abi, network=policy.network)
    attributes = ctypes.create_string_buffer(struct.pack("=QQQ", taken.files, taken.tcp, taken.scopes), 24)
    ruleset = syscall(CREATE_RULESET, attributes, len(attributes), 0)
    try:
        given = [_give(syscall, ruleset, path, bits & taken.files) for path, bits in grants(policy)]
        syscall(RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return Outcome(abi, taken, given.count(True), given.count(False))


def _give(syscall: Syscall, ruleset: int, path: str, bits: int) -> bool:
    """False where the path cannot be opened: less is allowed then, never more."""
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            bits &= ON_FILES
        rule = ctypes.create_string_buffer(struct.pack("=Qi", bits, place), 12)
        syscall(ADD_RULE, ruleset, RULE_PATH_BENEATH, rule, 0)
    except OSError:
        return False
    finally:
        os.close(place)
    return True
