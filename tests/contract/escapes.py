"""A stand-in for a runner that has been taken over: it is confined as one, then tries to get out.

    python escapes.py control|landlock|full|crash   (its orders on standard input, a JSON Orders)

Answers one JSON object: for each attempt the name of the errno, or "allowed". Arguments are chosen so that an attempt
that succeeds does no harm: signals are 0, pointers are null, requests are ones that no kernel knows. The one rule: it
imports nothing that starts a thread, and is confined before the first attempt.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import socket
import struct
import sys
from _thread import start_new_thread
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec
from msgspec import Struct

from localmodels.engine.command import RunnerConfig
from localmodels.engine.confine import Layer, Policy, apply, landlock, runner_policy
from localmodels.engine.confine.kernel import Machine, this_machine
from localmodels.engine.confine.numbers import PROCESSORS

PR_SET_NO_NEW_PRIVS, PR_SET_PDEATHSIG = 38, 1
NEW_USER, THREAD = 0x10000000, 0x00010000


class Orders(Struct, frozen=True):
    """Where things lie: a runner's configuration, and what is none of its business."""

    config: RunnerConfig
    other_model: str
    outside: str
    home: str
    tcp_port: int
    abstract: str


class Findings(Struct, frozen=True):
    """What the child saw."""

    layers: tuple[Layer, ...]
    answers: dict[str, str]
    open_files: tuple[int, int]


Attempts = dict[str, Callable[[], object]]


def main(mode: str) -> None:
    orders = msgspec.json.decode(sys.stdin.buffer.read(), type=Orders)
    machine = this_machine()
    assert machine is not None
    slots = Path(orders.config.slot_dir)
    (slots / "own").write_bytes(b"own")
    parent = os.getppid()
    attempts = (
        duties(orders)
        | files(orders)
        | links(orders, slots)
        | network(orders)
        | processes(machine, parent)
        | programs(machine, orders.config.binary)
        | kernel(machine)
        | limits(machine, slots)
    )
    resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
    layers = confine(mode, machine, runner_policy(orders.config))
    if mode == "crash":
        os.abort()
    answers = {name: answer(attempt) for name, attempt in attempts.items()}
    open_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    sys.stdout.buffer.write(msgspec.json.encode(Findings(layers, answers, open_files)))


def confine(mode: str, machine: Machine, policy: Policy) -> tuple[Layer, ...]:
    """Everything, Landlock alone, or nothing."""
    prctl = partial(machine.syscall, PROCESSORS[machine.name].numbers["prctl"])
    if mode in {"full", "crash"}:
        prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        return apply(policy)
    if mode == "landlock":
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        landlock.restrict(machine.syscall, policy)
    return ()


def answer(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return "allowed"


def duties(orders: Orders) -> Attempts:
    """What a runner must be able to do."""
    own = Path(orders.config.slot_dir) / "saved"
    return {
        "read its model": Path(orders.config.model).read_bytes,
        "write, read and remove a slot": partial(write_and_remove, own),
        "listen on its socket": partial(talk, socket.AF_UNIX, socket.SOCK_STREAM, "bind", orders.config.socket),
        "start a thread": partial(start_new_thread, int, ()),
        "write to /dev/null": partial(Path(os.devnull).write_bytes, b"x"),
    }


def files(orders: Orders) -> Attempts:
    model = Path(orders.config.model)
    outside = Path(orders.outside)
    return {
        "read the list of users": Path("/etc/passwd").read_bytes,
        "list the home directory": partial(os.listdir, orders.home),
        "list the root directory": partial(os.listdir, "/"),
        "list the models": partial(os.listdir, model.parent),
        "read another model": Path(orders.other_model).read_bytes,
        "read another model through /proc/self/root": Path(f"/proc/self/root{orders.other_model}").read_bytes,
        "write outside": partial((outside / "new").write_bytes, b"x"),
        "make a directory outside": partial(make_and_remove, outside / "folder"),
        "write to /dev/shm": partial(write_and_remove, Path("/dev/shm/localmodels-escape")),  # noqa: S108 - that is the attempt
        "write to /tmp": partial(write_and_remove, Path("/tmp/localmodels-escape")),  # noqa: S108
        "open the model for writing": partial(open_and_close, model, os.O_RDWR),
        "truncate the model": partial(os.truncate, model, model.stat().st_size),
        "empty a file outside": partial(open_and_close, outside / "victim", os.O_RDONLY | os.O_TRUNC),
        "rename the model": partial(there_and_back, model, model.with_suffix(".moved")),
        "rename the model into the slots": partial(there_and_back, model, Path(orders.config.slot_dir) / "model"),
        "remove a file beside the model": Path(orders.other_model).with_suffix(".spare").unlink,
        "change the model's mode": partial(model.chmod, 0o600),
        "change the model's owner": partial(os.chown, model, os.getuid(), os.getgid()),
        "change the model's times": partial(os.utime, model),
        "set an attribute on the model": partial(os.setxattr, model, "user.localmodels", b"x"),
        "read physical memory": Path("/dev/mem").read_bytes,
        "write to a device": partial(Path("/dev/zero").write_bytes, b"x"),
        "read the kernel's settings": Path("/proc/sys/kernel/hostname").read_bytes,
    }


def links(orders: Orders, slots: Path) -> Attempts:
    outside = Path(orders.outside)
    return {
        "link the model into the slots": partial(os.link, orders.config.model, slots / "hard"),
        "link out of the slots": partial(os.link, slots / "own", outside / "hard"),
        "move out of the slots": partial(there_and_back, slots / "own", outside / "moved"),
        "point a link in the slots outside": partial(os.symlink, "/etc/passwd", slots / "soft"),
        "make a directory in the slots": partial(make_and_remove, slots / "folder"),
        "make a pipe in the slots": partial(os.mkfifo, slots / "pipe"),
    }


def network(orders: Orders) -> Attempts:
    elsewhere = str(Path(orders.outside) / "elsewhere.sock")
    port = orders.tcp_port
    return {
        "connect by TCP": partial(talk, socket.AF_INET, socket.SOCK_STREAM, "connect", ("127.0.0.1", port)),
        "connect by TCP 6": partial(talk, socket.AF_INET6, socket.SOCK_STREAM, "connect", ("::ffff:127.0.0.1", port)),
        "listen on TCP": partial(talk, socket.AF_INET, socket.SOCK_STREAM, "bind", ("127.0.0.1", 0)),
        "listen on TCP 6": partial(talk, socket.AF_INET6, socket.SOCK_STREAM, "bind", ("::ffff:127.0.0.1", 0)),
        "send by UDP": partial(talk, socket.AF_INET, socket.SOCK_DGRAM, "connect", ("127.0.0.1", port)),
        "talk to the kernel by netlink": partial(talk, socket.AF_NETLINK, socket.SOCK_RAW, "bind", (0, 0)),
        "connect to another unix socket": partial(talk, socket.AF_UNIX, socket.SOCK_STREAM, "connect", elsewhere),
        "connect to an abstract socket": partial(
            talk, socket.AF_UNIX, socket.SOCK_STREAM, "connect", f"\0{orders.abstract}"
        ),
        "make a unix datagram socket": partial(talk, socket.AF_UNIX, socket.SOCK_DGRAM, "getsockname"),
        "make a pair of datagram sockets": partial(socket.socketpair, socket.AF_UNIX, socket.SOCK_DGRAM),
        "listen on a unix socket elsewhere": partial(
            talk, socket.AF_UNIX, socket.SOCK_STREAM, "bind", f"{orders.outside}/mine.sock"
        ),
    }


def processes(machine: Machine, parent: int) -> Attempts:
    call = caller(machine)
    return {
        "signal the parent": partial(os.kill, parent, 0),
        "signal the parent's thread": partial(call, "tgkill", parent, parent, 0),
        "signal everybody": partial(call, "kill", -1, 0),
        "queue a signal to the parent": partial(call, "rt_sigqueueinfo", parent, 0, 0),
        "get a handle on the parent": partial(call, "pidfd_open", parent, 0),
        "trace the parent": partial(call, "ptrace", -1, parent, 0, 0),
        "read the parent's memory": partial(call, "process_vm_readv", parent, 0, 0, 0, 0, 0),
        "write the parent's memory": partial(call, "process_vm_writev", parent, 0, 0, 0, 0, 0),
        "open the parent's memory": partial(open_and_close, f"/proc/{parent}/mem", os.O_RDWR),
        "read the parent's environment": Path(f"/proc/{parent}/environ").read_bytes,
        "read the parent's command line": Path(f"/proc/{parent}/cmdline").read_bytes,
        "list the processes": partial(os.listdir, "/proc"),
        "change the parent's limits": partial(resource.prlimit, parent, resource.RLIMIT_CORE),
        "slow the parent down": partial(os.setpriority, os.PRIO_PROCESS, parent, 0),
    }


def programs(machine: Machine, own: str) -> Attempts:
    call = caller(machine)
    allowed: Attempts = {"run its own program": partial(run, own)} if own else {}
    return allowed | {
        "run a shell": partial(run, "/bin/sh", "-c", "exit 0"),
        "run a setuid program": partial(run, "/bin/su", "--version"),
        "run itself": partial(run, sys.executable, "-c", ""),
        "replace itself by nothing": partial(call, "execve", 0, 0, 0),
        "fork": fork,
        "clone into a user namespace": partial(call, "clone", NEW_USER | THREAD, 0, 0, 0, 0),
        "clone3": partial(call, "clone3", 0, 0),
    }


def kernel(machine: Machine) -> Attempts:
    call = caller(machine)
    null = {
        "mount": 5, "umount2": 2, "pivot_root": 2, "chroot": 1, "setns": 2, "unshare": 1, "open_tree": 3, "fsopen": 2,
        "bpf": 3, "perf_event_open": 5, "io_uring_setup": 2, "userfaultfd": 1, "keyctl": 5, "add_key": 5,
        "request_key": 4, "init_module": 3, "delete_module": 2, "kexec_load": 4, "reboot": 4, "swapon": 2,
        "personality": 1, "open_by_handle_at": 3, "shmget": 3, "msgget": 2, "syslog": 3, "sethostname": 2,
        "settimeofday": 2, "quotactl": 4,
    }  # fmt: skip
    return {f"call {name}": partial(call, name, *HARMLESS.get(name, (0,) * count)) for name, count in null.items()}


# Where zeroes would do something, or would be answered with EPERM by any kernel.
HARMLESS = {
    "personality": (0xFFFFFFFF,),
    "userfaultfd": (1,),
    "syslog": (10, 0, 0),
    "keyctl": (0, -2 & 0xFFFFFFFF, 0, 0, 0),
    "sethostname": (0, -1),
    "settimeofday": (1, 0),
    "kexec_load": (0, 0, 0, 0xFFFF),
    "msgget": (0x4C4D, 0),
}


def limits(machine: Machine, slots: Path) -> Attempts:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    same = ctypes.create_string_buffer(struct.pack("=QQ", hard, hard), 16)
    return {
        "open 300 files": open_many,
        "write a file that is too large": partial(write_far, slots / "large"),
        # By number: Python turns the refusal into a ValueError.
        "raise its limit of files": partial(caller(machine), "prlimit64", 0, resource.RLIMIT_NOFILE, same, 0),
    }


def caller(machine: Machine) -> Callable[..., int]:
    """System calls by name."""
    numbers = PROCESSORS[machine.name].numbers
    return lambda name, *arguments: machine.syscall(numbers[name], *arguments)


def open_and_close(path: Path | str, flags: int) -> None:
    os.close(os.open(path, flags))


def there_and_back(source: Path, target: Path) -> None:
    source.rename(target)
    target.rename(source)


def write_and_remove(path: Path) -> None:
    path.write_bytes(b"x")
    path.unlink()


def make_and_remove(path: Path) -> None:
    path.mkdir()
    path.rmdir()


def talk(family: int, kind: int, verb: str, *address: object) -> None:
    with socket.socket(family, kind) as end:
        getattr(end, verb)(*address)


def run(*command: str) -> None:
    """In a child, so that the rest can still be tried where it is allowed."""
    silence = (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)
    child = os.posix_spawn(command[0], command, {}, file_actions=[silence])
    os.waitpid(child, 0)


def fork() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def open_many() -> None:
    opened: list[int] = []
    try:
        opened.extend(os.open("/dev/null", os.O_RDONLY) for _ in range(300))
    finally:
        for descriptor in opened:
            os.close(descriptor)


def write_far(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 42)


if __name__ == "__main__":
    main(sys.argv[1])
