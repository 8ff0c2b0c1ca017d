"""The filter on system calls: what Landlock cannot see, and a second lock on what it can.

A filter is a small program for the kernel's BPF machine, put together here by hand from one table a processor. The one
rule: a call that is not listed stays allowed, except those newer than this table, which answer ENOSYS as on an older
kernel; so llama.cpp and drivers keep working, and nothing that we never judged gets through.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from collections.abc import Iterable, Iterator

from msgspec import Struct

from localmodels.engine.confine.kernel import Syscall
from localmodels.engine.confine.numbers import NEWEST, Processor
from localmodels.engine.confine.policy import Policy


class Check(Struct, frozen=True):
    """An argument, masked, is one of ``values``.

    The machine sees 32 bits at a time: the low ones (``half`` 0) are all the kernel reads of a domain, a type, a
    process id or clone's flags; of a pointer both halves count.
    """

    values: tuple[int, ...]
    argument: int = 0
    half: int = 0
    mask: int = 0xFFFFFFFF


class Rule(Struct, frozen=True):
    """A call that is refused with ``code`` unless it passes all ``checks``; without any it never passes."""

    name: str
    checks: tuple[Check, ...] = ()
    code: int = errno.EPERM


# What a process that computes and answers on one unix socket never needs.
INSPECT = (
    "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "process_mrelease", "kcmp", "pidfd_getfd",
    "pidfd_open", "perf_event_open", "migrate_pages",
)  # fmt: skip
KERNEL = (
    "init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "bpf", "userfaultfd", "reboot",
    "swapon", "swapoff", "acct", "quotactl", "quotactl_fd", "syslog", "iopl", "ioperm", "modify_ldt", "personality",
    "settimeofday", "clock_settime", "clock_adjtime", "adjtimex", "sethostname", "setdomainname", "vhangup",
    "nfsservctl", "uselib", "lookup_dcookie", "io_uring_setup", "io_uring_enter", "io_uring_register", "add_key",
    "request_key", "keyctl", "lsm_set_self_attr",
)  # fmt: skip
PLACES = (
    "mount", "umount2", "pivot_root", "chroot", "unshare", "setns", "open_tree", "open_tree_attr", "move_mount",
    "fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr", "statmount", "listmount", "open_by_handle_at",
    "name_to_handle_at", "fanotify_init",
)  # fmt: skip
# Landlock has no right for these: who owns a file, its mode, times and attributes.
INODES = (
    "chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "fchown", "lchown", "fchownat", "setxattr", "lsetxattr",
    "fsetxattr", "setxattrat", "removexattr", "lremovexattr", "fremovexattr", "removexattrat", "utime", "utimes",
    "utimensat", "futimesat", "truncate", "mknod", "mknodat", "file_setattr",
)  # fmt: skip
# Ways to reach other processes of the same user.
NEIGHBOURS = (
    "shmget", "shmat", "shmctl", "msgget", "semget", "mq_open", "setpriority", "ioprio_set", "sched_setscheduler",
    "sched_setparam", "sched_setattr", "tkill", "rt_sigqueueinfo", "pidfd_send_signal",
)  # fmt: skip
PROGRAMS = ("execve", "execveat", "fork", "vfork")

CLONE_THREAD = 0x00010000
CLONE_NEW = 0x7E020000  # mount, cgroup, UTS, IPC, user, PID and network namespaces
SOCKET_TYPE = 0xF  # above it lie SOCK_NONBLOCK and SOCK_CLOEXEC
# Datagrams could be sent to any address without a connect. CUDA's driver makes SOCK_SEQPACKET sockets for itself.
SOCKET_TYPES = (int(socket.SOCK_STREAM), int(socket.SOCK_SEQPACKET))


def rules(policy: Policy, pid: int) -> list[Rule]:
    """What is refused, and when, to the process ``pid``."""
    return [
        *(Rule(name) for name in (*INSPECT, *KERNEL, *PLACES, *INODES, *NEIGHBOURS)),
        # Limits may be read, our own; root could raise them again otherwise, and lower its neighbours'.
        Rule("setrlimit"),
        Rule("prlimit64", (Check((0, pid)), Check((0,), argument=2), Check((0,), argument=2, half=1))),
        # glibc falls back to clone, whose flags can be read; those of clone3 lie in memory, out of a filter's sight.
        Rule("clone3", code=errno.ENOSYS),
        *(() if policy.network else SOCKETS),
        *((Rule("clone", (Check((0,), mask=CLONE_NEW),)),) if policy.may_exec else _alone(pid)),
    ]


SOCKETS = (
    Rule("socket", (Check((int(socket.AF_UNIX),)), Check(SOCKET_TYPES, argument=1, mask=SOCKET_TYPE))),
    Rule("socketpair", (Check(SOCKET_TYPES, argument=1, mask=SOCKET_TYPE),)),
)


def _alone(pid: int) -> Iterator[Rule]:
    """No child, no other program, no signal to anybody else, and nobody to call: it only listens.

    A runner that starts a program does all four: the keeper asks the program's socket whether it is ready.
    """
    yield from (Rule(name) for name in ("connect", *PROGRAMS))
    yield Rule("clone", (Check((CLONE_THREAD,), mask=CLONE_NEW | CLONE_THREAD),))
    yield from (Rule(name, (Check((pid,)),)) for name in ("kill", "tgkill", "rt_tgsigqueueinfo"))


# Bits of an instruction, from linux/bpf_common.h and linux/filter.h; answers from linux/seccomp.h.
LOAD, AND, RETURN = 0x20, 0x54, 0x06
JUMP_EQUAL, JUMP_ABOVE = 0x15, 0x25
KILL_PROCESS, REFUSE, ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
AT_NUMBER, AT_ARCH, AT_ARGUMENTS = 0, 4, 16  # struct seccomp_data; both processors here are little-endian


class Instruction(Struct, frozen=True):
    """``struct sock_filter``."""

    code: int
    value: int
    if_true: int = 0
    if_false: int = 0


def program(processor: Processor, wanted: Iterable[Rule]) -> list[Instruction]:
    """The filter. A call made with another architecture's numbers kills the process."""
    head = [
        Instruction(LOAD, AT_ARCH),
        Instruction(JUMP_EQUAL, processor.audit, if_true=1),
        Instruction(RETURN, KILL_PROCESS),
        Instruction(LOAD, AT_NUMBER),
        Instruction(JUMP_ABOVE, NEWEST, if_false=1),
        Instruction(RETURN, REFUSE | errno.ENOSYS),
    ]
    known = (rule for rule in wanted if rule.name in processor.numbers)
    blocks = [block for rule in known for block in _block(processor.numbers[rule.name], rule)]
    return [*head, *blocks, Instruction(RETURN, ALLOW)]


def _block(number: int, rule: Rule) -> list[Instruction]:
    """Skipped for other calls; never left for this one."""
    refuse = Instruction(RETURN, REFUSE | rule.code)
    body = [instruction for check in rule.checks for instruction in (*_check(check), refuse)]
    body.append(Instruction(RETURN, ALLOW) if rule.checks else refuse)
    return [Instruction(JUMP_EQUAL, number, if_false=len(body)), *body]


def _check(check: Check) -> Iterator[Instruction]:
    """Falls through to the next instruction, a refusal, unless the check passes; then it jumps over it."""
    yield Instruction(LOAD, AT_ARGUMENTS + 8 * check.argument + 4 * check.half)
    yield Instruction(AND, check.mask)
    for left, value in zip(reversed(range(len(check.values))), check.values, strict=True):
        yield Instruction(JUMP_EQUAL, value, if_true=left + 1)


def assemble(instructions: Iterable[Instruction]) -> bytes:
    """As the kernel reads it, 8 bytes an instruction."""
    return b"".join(struct.pack("=HBBI", i.code, i.if_true, i.if_false, i.value) for i in instructions)


SET_MODE_FILTER = 1
# SPEC_ALLOW: before Linux 5.16 a filter also switched on a guard against speculative stores that slows all computing.
# It protects a process from code that it runs itself in a sandbox; a runner runs none.
ON_ALL_THREADS, SPEC_ALLOW = 1, 4


def install(syscall: Syscall, processor: Processor, policy: Policy, pid: int) -> int:
    """Puts the filter on every thread of this process and gives its length. Cannot be undone; needs no_new_privs.

    Raises:
        OSError: the kernel has no filters, or a thread holds one of its own (ESRCH).
    """
    instructions = program(processor, rules(policy, pid))
    code = ctypes.create_string_buffer(assemble(instructions))
    header = ctypes.create_string_buffer(struct.pack("=HxxxxxxQ", len(instructions), ctypes.addressof(code)))
    thread = syscall(processor.numbers["seccomp"], SET_MODE_FILTER, ON_ALL_THREADS | SPEC_ALLOW, header)
    if thread:
        raise OSError(errno.ESRCH, f"thread {thread} has a filter of its own")
    return len(instructions)
