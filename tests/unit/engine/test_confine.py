"""The runner's confinement without a kernel: policies as values, the filter run by a small BPF machine, kernels that
lack a layer handed in as functions.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from pathlib import Path

import pytest

from localmodels.engine.command import Adapter, RunnerConfig
from localmodels.engine.confine import Policy, landlock, policy, runner_policy, seccomp
from localmodels.engine.confine.kernel import Machine
from localmodels.engine.confine.layers import LINUX_ONLY, on_linux
from localmodels.engine.confine.numbers import NEWEST, PROCESSORS, Processor

PID = 4711
X86, ARM = PROCESSORS["x86_64"], PROCESSORS["aarch64"]
ALLOW, KILL = seccomp.ALLOW, seccomp.KILL_PROCESS
EPERM, ENOSYS = seccomp.REFUSE | errno.EPERM, seccomp.REFUSE | errno.ENOSYS
POINTER_WITH_LOW_ZEROES = 0x7F00_0000_0000
THREAD_FLAGS = 0x3D0F00  # what glibc's pthread_create hands to clone
FORK_FLAGS = 0x01200011


def config(folder: Path, **changes: object) -> RunnerConfig:
    for name in ("run", "slots"):
        (folder / name).mkdir(exist_ok=True)
    model = folder / "model.gguf"
    model.touch()
    fields = {
        "model": str(model),
        "socket": str(folder / "run" / "r.sock"),
        "slot_dir": str(folder / "slots"),
        "context": 1024,
        "parallel": 2,
    }
    return RunnerConfig(**{**fields, **changes})  # type: ignore[arg-type]


# ---- what a runner may touch


def test_a_runner_reads_its_model_and_writes_to_two_directories(tmp_path: Path) -> None:
    may = runner_policy(config(tmp_path))
    assert str(tmp_path / "model.gguf") in may.read
    assert may.write == (str(tmp_path / "slots"), str(tmp_path / "run"))
    assert not may.network
    assert not may.may_exec
    assert may.execute == may.browse == ()


def test_nothing_above_the_model_and_nobody_s_home_is_readable(tmp_path: Path) -> None:
    may = runner_policy(config(tmp_path))
    readable = {Path(path) for path in may.read}
    assert readable.isdisjoint({tmp_path, *tmp_path.parents, Path.home(), Path("/etc"), Path("/usr"), Path("/proc")})


def test_projector_and_adapters_are_readable(tmp_path: Path) -> None:
    extra = [tmp_path / "eyes.gguf", tmp_path / "lora.gguf"]
    for path in extra:
        path.touch()
    may = runner_policy(config(tmp_path, projector=str(extra[0]), adapters=(Adapter(str(extra[1])),)))
    assert {str(path) for path in extra} <= set(may.read)


def test_all_parts_of_a_split_model_are_readable_and_only_its_own(tmp_path: Path) -> None:
    parts = [tmp_path / f"big-{number:05d}-of-00003.gguf" for number in (1, 2, 3)]
    for path in (*parts, tmp_path / "big-00001-of-00004.gguf", tmp_path / "big.gguf"):
        path.touch()
    may = runner_policy(config(tmp_path, model=str(parts[0])))
    assert [path for path in may.read if path.startswith(str(tmp_path))] == [str(path) for path in parts]


def test_a_hostile_part_count_costs_little() -> None:
    assert len(list(policy.split_parts("m-00001-of-99999.gguf"))) == 99_999
    assert list(policy.split_parts("m-00001-of-999999.gguf")) == ["m-00001-of-999999.gguf"]


def test_what_does_not_exist_is_left_out(tmp_path: Path) -> None:
    assert policy.existing([str(tmp_path), str(tmp_path / "no"), "", str(tmp_path)]) == (str(tmp_path),)


def test_graphics_cards_only_for_layers_on_them(tmp_path: Path) -> None:
    assert runner_policy(config(tmp_path)).devices == ("/dev/null",)
    assert set(policy.GPU_READ).isdisjoint(runner_policy(config(tmp_path)).read)
    with_gpu = set(runner_policy(config(tmp_path, gpu_layers=-1)).read)
    assert {path for path in policy.GPU_READ if Path(path).exists()} <= with_gpu


def test_graphics_devices_are_files_not_directories(tmp_path: Path) -> None:
    for name in ("nvidia0", "nvidiactl", "kfd", "sda"):
        (tmp_path / name).touch()
    for name in ("dri", "nvidia-caps"):
        (tmp_path / name).mkdir()
    (tmp_path / "dri" / "renderD128").touch()
    found = [Path(path).name for path in policy.gpu_devices(str(tmp_path))]
    assert found == ["nvidia0", "nvidiactl", "renderD128", "kfd"]


def test_a_program_may_be_run_with_its_loader_and_the_libraries_beside_it(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "llama-server"
    program.parent.mkdir()
    loader = tmp_path / "ld.so"
    loader.touch()
    program.write_bytes(elf(str(loader)))
    for name in ("libggml.so", "libllama.so.1", "secret.txt"):
        (program.parent / name).touch()
    may = runner_policy(config(tmp_path, binary=str(program)))
    assert may.may_exec
    assert may.execute == (str(program), str(loader))
    assert may.browse == (str(program.parent),)
    beside = [Path(path).name for path in may.read if path.startswith(str(program.parent))]
    assert beside == ["llama-server", "libggml.so", "libllama.so.1"]


def elf(loader: str) -> bytes:
    """A 64-bit ELF file with one program header, the loader's name."""
    name = loader.encode() + b"\0"
    header = struct.pack("<4sB11xHHIQQQIHHHHHH", b"\x7fELF", 2, 3, 62, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    program = struct.pack("<IIQQQQQQ", 3, 4, 120, 0, 0, len(name), len(name), 1)
    return header + program + name


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n", b"\x7fELF", elf("x")[:100], b"\x7fELF\x01" + bytes(100)])
def test_what_is_no_elf_file_has_no_loader(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "program").write_bytes(content)
    assert policy.interpreter(tmp_path / "program") == ()


def test_saved_slots_fit_the_limit(tmp_path: Path) -> None:
    widest = 80 * 8192 * 2 * 2  # bytes a token: 65B without grouped queries, f16
    assert runner_policy(config(tmp_path, context=2048)).max_file_size >= 2048 * widest


# ---- Landlock


@pytest.mark.parametrize(
    ("abi", "files", "tcp", "scopes"),
    [
        (1, 13, 0, 0),
        (2, 14, 0, 0),
        (3, 15, 0, 0),
        (4, 15, 2, 0),
        (5, 16, 2, 0),
        (6, 16, 2, 2),
        (7, 16, 2, 2),
        (99, 16, 2, 2),
    ],
)
def test_every_right_that_the_kernel_knows_is_taken(abi: int, files: int, tcp: int, scopes: int) -> None:
    taken = landlock.rights(abi)
    assert (taken.files, taken.tcp, taken.scopes) == tuple((1 << bits) - 1 for bits in (files, tcp, scopes))


def test_tcp_stays_where_the_network_is_allowed() -> None:
    assert landlock.rights(7, network=True).tcp == 0


def test_no_grant_makes_links_directories_or_devices() -> None:
    may = Policy(read=("r",), browse=("b",), write=("w",), devices=("d",), execute=("x",))
    never = landlock.MAKE_SYM | landlock.REFER | landlock.MAKE_DIR | landlock.MAKE_CHAR | landlock.MAKE_BLOCK
    given = dict(landlock.grants(may))
    assert all(bits & never == 0 for bits in given.values())
    assert [path for path, bits in given.items() if bits & landlock.EXECUTE] == ["x"]
    assert [path for path, bits in given.items() if bits & landlock.WRITE_FILE] == ["w", "d"]
    assert given["b"] == landlock.READ_DIR


# ---- the filter


def run(program: list[seccomp.Instruction], audit: int, number: int, arguments: tuple[int, ...] = ()) -> int:
    """What the kernel's BPF machine answers for a call (the instructions that we use, and no others)."""
    padded = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    data = struct.pack("<IIQ6Q", number, audit, 0, *padded)
    assert len(program) <= 4096  # BPF_MAXINSNS
    code_bytes = seccomp.assemble(program)
    accumulator, at = 0, 0
    while True:
        code, if_true, if_false, value = struct.unpack_from("<HBBI", code_bytes, 8 * at)
        at += 1
        if code == 0x06:
            return int(value)
        if code == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, value)
        elif code == 0x54:
            accumulator &= value
        else:
            holds = {0x15: accumulator == value, 0x25: accumulator > value}[code]
            at += if_true if holds else if_false


def verdict(processor: Processor, name: str, *arguments: int, may: Policy | None = None) -> int:
    program = seccomp.program(processor, seccomp.rules(may or Policy(), PID))
    return run(program, processor.audit, processor.numbers[name], arguments)


BOTH = pytest.mark.parametrize("processor", [X86, ARM], ids=["x86_64", "aarch64"])
STREAM, DATAGRAM, PACKET = int(socket.SOCK_STREAM), int(socket.SOCK_DGRAM), int(socket.SOCK_SEQPACKET)
UNIX, INET, INET6, NETLINK, VSOCK = 1, 2, 10, 16, 40
CLOEXEC_NONBLOCK = 0o2004000


@BOTH
@pytest.mark.parametrize(
    "name",
    [
        "ptrace", "process_vm_readv", "process_vm_writev", "mount", "umount2", "pivot_root", "kexec_load",
        "kexec_file_load", "init_module", "finit_module", "bpf", "perf_event_open", "keyctl", "add_key", "request_key",
        "userfaultfd", "unshare", "setns", "reboot", "swapon", "swapoff", "io_uring_setup", "io_uring_enter",
        "io_uring_register", "personality", "execve", "execveat", "connect", "fchmod", "fchmodat", "fchownat",
        "setxattr", "utimensat", "truncate", "mknodat", "setrlimit", "pidfd_open", "pidfd_getfd", "tkill",
    ],
)  # fmt: skip
def test_refused_whatever_the_arguments(processor: Processor, name: str) -> None:
    assert {verdict(processor, name, *([value] * 6)) for value in (0, 1, PID, 2**64 - 1)} == {EPERM}


CASES = [
    ("socket", (UNIX, STREAM), ALLOW),
    ("socket", (UNIX, STREAM | CLOEXEC_NONBLOCK), ALLOW),
    ("socket", (UNIX, PACKET), ALLOW),
    ("socket", (UNIX, DATAGRAM), EPERM),
    ("socket", (UNIX, DATAGRAM | CLOEXEC_NONBLOCK), EPERM),
    *(("socket", (domain, kind), EPERM) for domain in (0, INET, INET6, NETLINK, VSOCK) for kind in (1, 2, 3, 5)),
    ("socket", (UNIX + 2**32, STREAM), ALLOW),  # the kernel reads an int: this is AF_UNIX
    ("socket", (INET + 2**32, STREAM), EPERM),
    ("socketpair", (UNIX, STREAM), ALLOW),
    ("socketpair", (UNIX, DATAGRAM), EPERM),
    ("clone", (THREAD_FLAGS,), ALLOW),
    ("clone", (FORK_FLAGS,), EPERM),
    ("clone", (THREAD_FLAGS | 0x10000000,), EPERM),
    ("clone3", (), ENOSYS),
    ("kill", (PID, 9), ALLOW),
    ("kill", (PID - 1, 9), EPERM),
    ("kill", (2**64 - 1, 9), EPERM),
    ("kill", (0, 9), EPERM),
    ("tgkill", (PID, PID, 6), ALLOW),
    ("tgkill", (1, 1, 6), EPERM),
    ("prlimit64", (0, 7, 0, 1), ALLOW),
    ("prlimit64", (PID, 7, 0, 1), ALLOW),
    ("prlimit64", (1, 7, 0, 1), EPERM),
    ("prlimit64", (0, 7, 4096, 0), EPERM),
    ("prlimit64", (0, 7, POINTER_WITH_LOW_ZEROES, 0), EPERM),
]


@BOTH
@pytest.mark.parametrize(("name", "arguments", "expected"), CASES)
def test_judged_by_arguments(processor: Processor, name: str, arguments: tuple[int, ...], expected: int) -> None:
    assert verdict(processor, name, *arguments) == expected


@BOTH
def test_a_runner_of_a_program_may_start_it_but_in_no_namespace(processor: Processor) -> None:
    may = Policy(may_exec=True)
    expected = {("execve", 0): ALLOW, ("clone", FORK_FLAGS): ALLOW, ("kill", 1): ALLOW, ("connect", 3): ALLOW}
    assert {case: verdict(processor, *case, may=may) for case in expected} == expected
    assert verdict(processor, "clone", FORK_FLAGS | 0x10000000, may=may) == EPERM
    assert verdict(processor, "socket", INET, STREAM, may=may) == EPERM


@BOTH
def test_the_network_where_it_is_allowed(processor: Processor) -> None:
    assert verdict(processor, "socket", INET, STREAM, may=Policy(network=True)) == ALLOW


@pytest.mark.parametrize("number", [0, 1, 3, 9, 202, 231, 441, 449])  # read, write, close, mmap, futex, …
def test_other_calls_pass(number: int) -> None:
    assert run(seccomp.program(X86, seccomp.rules(Policy(), PID)), X86.audit, number) == ALLOW


@BOTH
@pytest.mark.parametrize("number", [NEWEST + 1, 1000, 0x40000000 + 59, 2**32 - 1])
def test_calls_that_nobody_judged_do_not_exist(processor: Processor, number: int) -> None:
    """Above the table lie newer calls and x86_64's second set (x32), which would be a way round the first."""
    assert run(seccomp.program(processor, seccomp.rules(Policy(), PID)), processor.audit, number) == ENOSYS


@pytest.mark.parametrize(
    ("processor", "audit"), [(X86, 0x40000003), (X86, ARM.audit), (ARM, X86.audit), (ARM, 0x40000028)]
)
def test_another_architecture_s_calls_kill(processor: Processor, audit: int) -> None:
    assert run(seccomp.program(processor, seccomp.rules(Policy(), PID)), audit, 0) == KILL


@BOTH
def test_every_rule_has_a_number_unless_the_processor_lacks_the_call(processor: Processor) -> None:
    named = {rule.name for may in (Policy(), Policy(may_exec=True)) for rule in seccomp.rules(may, PID)}
    assert named <= X86.numbers.keys()
    assert (X86.numbers.keys() - ARM.numbers.keys() if processor is ARM else set()) <= named
    assert len(set(processor.numbers.values())) == len(processor.numbers)
    assert max(processor.numbers.values()) <= NEWEST


def test_the_bytes_of_a_program() -> None:
    program = seccomp.program(Processor(0xC000003E, {"ptrace": 101}), [seccomp.Rule("ptrace"), seccomp.Rule("unknown")])
    assert seccomp.assemble(program).hex(" ", 8).split() == [
        "2000000004000000", "150001003e0000c0", "0600000000000080", "2000000000000000", "25000001d5010000",
        "0600000026000500", "1500000165000000", "0600000001000500", "060000000000ff7f",
    ]  # fmt: skip


# ---- kernels that lack something


def kernel(**answers: int | OSError) -> Machine:
    """A kernel that says yes to everything but what is named; it keeps nothing."""
    names = {number: name for name, number in X86.numbers.items()} | {444: "landlock", 445: "rule", 446: "restrict"}

    def syscall(number: int, *_: object) -> int:
        told = answers.get(names[number], 0)
        if isinstance(told, OSError):
            raise told
        return told

    return Machine(syscall, "x86_64")


def told(machine: Machine | None) -> dict[str, tuple[bool, str]]:
    return {layer.name: (layer.active, layer.detail) for layer in on_linux(Policy(), machine)}


def test_without_linux_every_layer_is_missing_and_says_so() -> None:
    assert told(None) == dict.fromkeys(LINUX_ONLY, (False, "not on this system"))


def test_on_an_unknown_processor_every_layer_is_missing_and_says_so() -> None:
    machine = Machine(kernel().syscall, "riscv64")
    assert told(machine) == dict.fromkeys(LINUX_ONLY, (False, "system calls of riscv64 are not in our table"))


@pytest.mark.parametrize(
    ("call", "code", "layers", "reason"),
    [
        ("landlock", errno.ENOSYS, {"landlock", "landlock_tcp", "landlock_scopes"}, "the kernel was built without it"),
        (
            "landlock",
            errno.EOPNOTSUPP,
            {"landlock", "landlock_tcp", "landlock_scopes"},
            "switched off when the kernel started",
        ),
        ("seccomp", errno.EINVAL, {"seccomp"}, "no"),
        ("prctl", errno.EINVAL, {"no_new_privs", "no_dump", "parent_death"}, "no"),
        ("capset", errno.EPERM, {"capabilities"}, "no"),
    ],
)
def test_a_missing_layer_says_why_and_stops_no_other(call: str, code: int, layers: set[str], reason: str) -> None:
    found = told(kernel(**{"landlock": OSError(errno.ENOSYS, ""), call: OSError(code, "no")}))
    assert {found[name] for name in layers} == {(False, reason)}
    assert {"no_new_privs", "capabilities", "seccomp"} - layers <= {name for name, (on, _) in found.items() if on}


def test_a_filter_that_misses_a_thread_is_not_active() -> None:
    machine = kernel(landlock=OSError(errno.ENOSYS, ""), seccomp=77)
    assert told(machine)["seccomp"] == (False, "thread 77 has a filter of its own")


def test_parent_death_is_looked_at_not_assumed() -> None:
    assert told(kernel(landlock=OSError(errno.ENOSYS, "")))["parent_death"] == (False, "not asked for")


def test_landlock_that_misses_a_thread_is_not_active(tmp_path: Path) -> None:
    def syscall(number: int, *arguments: object) -> int:
        if number == landlock.CREATE_RULESET and arguments[-1] == 0:
            return os.open(tmp_path, os.O_RDONLY)  # a descriptor that the caller closes
        return 7 if number == landlock.CREATE_RULESET else 0

    reason = "threads that were there before it are free of it"
    assert told(Machine(syscall, "x86_64", threads=1))["landlock"] == (True, "ABI 7, 0 places allowed")
    assert told(Machine(syscall, "x86_64", threads=2))["landlock"] == (False, reason)
