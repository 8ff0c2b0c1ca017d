"""What a confined runner cannot do, asked of the real kernel (reliability figure F23), and what it must still do.

Each attempt to get out is a row: what it is, which errno it must meet, which layer stands in its way. The same attempts
without confinement must be answered differently, or the row would prove nothing.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import platform
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import gguf
import msgspec
import numpy as np
import pytest
from msgspec import Struct
from tools.random_model import write_random_model

from localmodels.engine.command import Adapter, RunnerConfig
from localmodels.engine.confine import Layer
from localmodels.engine.confine.numbers import PROCESSORS
from localmodels.engine.process import INHERITED, Process

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the layers are Linux's"),
    pytest.mark.skipif(platform.machine() not in PROCESSORS, reason=f"no table of calls for {platform.machine()}"),
]

CHILD = Path(__file__).with_name("escapes.py")
FILES = "landlock"


class Row(Struct, frozen=True):
    """An attempt and the errnos it may meet; ``open`` is False where some kernels refuse it to everybody."""

    attempt: str
    errnos: tuple[str, ...]
    layer: str
    open: bool = True


def rows(layer: str, errnos: str, *attempts: str, **more: bool) -> list[Row]:
    return [Row(attempt, tuple(errnos.split()), layer, **more) for attempt in attempts]


TABLE = [
    *rows(
        FILES,
        "EACCES",
        "read the list of users", "list the home directory", "list the root directory", "list the models",
        "read another model", "read another model through /proc/self/root", "write outside", "make a directory outside",
        "write to /dev/shm", "write to /tmp", "open the model for writing", "empty a file outside",
        "remove a file beside the model", "write to a device", "read the kernel's settings",
        "point a link in the slots outside", "make a directory in the slots", "list the processes",
        "read the parent's environment", "read the parent's command line", "open the parent's memory",
        "listen on a unix socket elsewhere",
    ),
    *rows(FILES, "EACCES EPERM ENOENT", "read physical memory", open=False),
    *rows(
        FILES,
        "EACCES EXDEV",
        "rename the model", "rename the model into the slots", "link the model into the slots", "link out of the slots",
        "move out of the slots",
    ),
    *rows(
        "seccomp",
        "EPERM",
        "truncate the model", "change the model's mode", "change the model's owner", "change the model's times",
        "set an attribute on the model", "make a pipe in the slots",
        "connect by TCP", "connect by TCP 6", "listen on TCP", "listen on TCP 6", "send by UDP",
        "talk to the kernel by netlink", "connect to another unix socket", "connect to an abstract socket",
        "make a unix datagram socket", "make a pair of datagram sockets",
        "signal the parent", "signal the parent's thread", "signal everybody", "queue a signal to the parent",
        "get a handle on the parent", "trace the parent", "read the parent's memory", "write the parent's memory",
        "change the parent's limits", "slow the parent down", "run a shell", "run a setuid program", "run itself",
        "replace itself by nothing", "fork", "raise its limit of files",
    ),
    *rows("seccomp", "ENOSYS", "clone3", open=False),
    *rows(
        "seccomp",
        "EPERM",
        "clone into a user namespace",
        "call bpf", "call io_uring_setup", "call userfaultfd", "call keyctl", "call add_key", "call request_key",
        "call perf_event_open", "call unshare", "call setns", "call personality", "call shmget", "call msgget",
        "call fsopen", "call open_tree", "call syslog", "call settimeofday", "call mount", "call umount2",
        "call pivot_root", "call chroot", "call init_module", "call delete_module", "call kexec_load", "call reboot",
        "call swapon", "call open_by_handle_at", "call sethostname", "call quotactl",
        open=False,
    ),
    *rows("limits", "EMFILE", "open 300 files"),
    *rows("limits", "EFBIG", "write a file that is too large"),
]  # fmt: skip

DUTIES = (
    "read its model", "write, read and remove a slot", "listen on its socket", "start a thread", "write to /dev/null",
)  # fmt: skip

# The same doors must be shut by Landlock where there is no filter (its TCP and scope layers have no other witness).
LANDLOCK_ALONE = [
    *(Row(row.attempt, row.errnos, row.layer) for row in TABLE if row.layer == FILES),
    *rows("landlock_tcp", "EACCES", "connect by TCP", "connect by TCP 6", "listen on TCP", "listen on TCP 6"),
    *rows(
        "landlock_scopes", "EPERM", "connect to an abstract socket", "signal the parent", "signal the parent's thread"
    ),
    *rows(FILES, "EACCES", "run a shell", "run a setuid program", "run itself", "truncate the model"),
]


class Findings(Struct, frozen=True):
    """What the child reports."""

    layers: tuple[Layer, ...]
    answers: dict[str, str]
    open_files: tuple[int, int]


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A directory with a short path: a unix socket's is limited to 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="lm-") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def found(place: Path) -> dict[str, Findings]:
    """The child's findings by mode."""
    return {mode: ask_child(place / mode, mode) for mode in ("full", "landlock", "control")}


def ask_child(place: Path, mode: str, *, binary: str = "") -> Findings:
    with socket.create_server(("127.0.0.1", 0)) as tcp, listener(f"\0{place}"):
        message = orders(place, tcp.getsockname()[1], binary=binary)
        with listener(str(place / "outside" / "elsewhere.sock")):
            child = subprocess.run([sys.executable, str(CHILD), mode], input=message, capture_output=True, check=False)
    assert child.returncode == 0, child.stderr.decode()
    return msgspec.json.decode(child.stdout, type=Findings)


def orders(place: Path, tcp_port: int, *, binary: str = "") -> bytes:
    """What the child needs to know (``escapes.Orders``), with the files it will try to reach."""
    for name in ("models", "slots", "run", "outside"):
        (place / name).mkdir(parents=True)
    models, outside = place / "models", place / "outside"
    for path in (models / "model.gguf", models / "other.gguf", models / "other.spare", outside / "victim"):
        path.write_bytes(b"GGUF")
    message = {
        "config": runner_config(place, models / "model.gguf", binary=binary),
        "other_model": models / "other.gguf",
        "outside": outside,
        "home": Path.home(),
        "tcp_port": tcp_port,
        "abstract": place,
    }
    return msgspec.json.encode(message, enc_hook=str)


def listener(address: str) -> socket.socket:
    server = socket.socket(socket.AF_UNIX)
    server.bind(address)
    server.listen()
    return server


def runner_config(
    place: Path, model: Path, *, mmap: bool = True, adapters: tuple[Adapter, ...] = (), binary: str = ""
) -> RunnerConfig:
    return RunnerConfig(
        model=str(model),
        socket=str(place / "run" / "r.sock"),
        slot_dir=str(place / "slots"),
        context=256,
        parallel=2,
        threads=1,
        mmap=mmap,
        adapters=adapters,
        binary=binary,
    )


def active(layers: tuple[Layer, ...], name: str) -> None:
    layer = next(layer for layer in layers if layer.name == name)
    if not layer.active:
        pytest.skip(f"{name}: {layer.detail}")


def held(layers: tuple[Layer, ...]) -> dict[str, bool]:
    return {layer.name: layer.active for layer in layers}


def test_at_least_thirty_attempts_and_each_has_its_row(found: dict[str, Findings]) -> None:
    assert sorted(found["full"].answers) == sorted([*DUTIES, *(row.attempt for row in TABLE)])
    assert len(TABLE) >= 30


@pytest.mark.parametrize("mode", ["full", "landlock", "control"])
@pytest.mark.parametrize("duty", DUTIES)
def test_a_runner_can_do_its_duty(duty: str, mode: str, found: dict[str, Findings]) -> None:
    assert found[mode].answers[duty] == "allowed"


def test_limits_are_lowered_for_good(found: dict[str, Findings]) -> None:
    assert found["full"].open_files == (256, 256)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.attempt)
def test_refused(row: Row, found: dict[str, Findings]) -> None:
    active(found["full"].layers, row.layer)
    assert found["full"].answers[row.attempt] in row.errnos


@pytest.mark.parametrize("row", LANDLOCK_ALONE, ids=lambda row: row.attempt)
def test_refused_by_landlock_alone(row: Row, found: dict[str, Findings]) -> None:
    active(found["full"].layers, row.layer)
    assert found["landlock"].answers[row.attempt] in row.errnos


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.attempt)
def test_answered_differently_without_confinement(row: Row, found: dict[str, Findings]) -> None:
    told = found["control"].answers[row.attempt]
    if told in row.errnos and not row.open:
        pytest.skip(f"nobody can {row.attempt} on this machine ({told}), so that we may not shows nothing")
    assert told not in row.errnos


def test_a_runner_of_a_program_runs_that_one_only(place: Path) -> None:
    program = shutil.which("true")
    assert program is not None
    found = ask_child(place / "program", "full", binary=program)
    active(found.layers, FILES)
    assert found.answers["run its own program"] == "allowed"
    refused = {"run itself": "EACCES", "connect by TCP": "EPERM", "read the list of users": "EACCES"}
    assert {attempt: found.answers[attempt] for attempt in refused} == refused


HEADERS = {"x86_64": "x86_64-linux-gnu/asm/unistd_64.h", "aarch64": "asm-generic/unistd.h"}


@pytest.mark.parametrize("name", HEADERS)
def test_the_numbers_of_calls_are_the_kernel_s(name: str) -> None:
    """Against the C library's copy of the kernel's headers; those newer than the copy are left out."""
    header = Path("/usr/include") / HEADERS[name]
    if not header.exists():
        pytest.skip(f"no {header} (Debian: linux-libc-dev)")
    defined = re.findall(r"^#define __NR(?:3264)?_(\w+)\s+(\d+)$", header.read_text(), re.MULTILINE)
    theirs = {call: int(number) for call, number in defined}
    ours = PROCESSORS[name].numbers
    assert ours.items() & theirs.items() == {(call, ours[call]) for call in ours.keys() & theirs.keys()}
    assert len(ours.keys() & theirs.keys()) >= 80


def test_a_crash_leaves_no_core(place: Path) -> None:
    folder = place / "crash"
    child = subprocess.Popen([sys.executable, str(CHILD), "crash"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert child.stdin is not None
    with socket.create_server(("127.0.0.1", 0)) as tcp:
        child.stdin.write(orders(folder, tcp.getsockname()[1]))
        child.stdin.close()
        _, status, _ = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)  # so that Popen does not wait again
    assert os.WTERMSIG(status) == signal.SIGABRT
    assert not os.WCOREDUMP(status)


@pytest.fixture(scope="module")
def model(place: Path) -> Path:
    path = place / "tiny.gguf"
    write_random_model(path)
    return path


@pytest.fixture(scope="module")
def adapter(place: Path) -> Adapter:
    """A LoRA adapter of rank 4 for one matrix of the tiny model (64 by 64)."""
    path = place / "adapter.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 4.0)
    writer.add_tensor("blk.0.attn_q.weight.lora_a", np.ones((4, 64), dtype=np.float32))
    writer.add_tensor("blk.0.attn_q.weight.lora_b", np.ones((64, 4), dtype=np.float32))
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    return Adapter(str(path))


@pytest.mark.parametrize("mmap", [True, False], ids=["mapped", "read"])
def test_a_real_runner_works_behind_all_layers(
    place: Path, model: Path, adapter: Adapter, found: dict[str, Findings], *, mmap: bool
) -> None:
    config = prepared(place / f"real-{mmap}", model, mmap=mmap, adapters=(adapter,))
    layers = asyncio.run(living(config, partial(converse, config)))
    assert held(layers) == held(found["full"].layers)
    assert stat.S_IMODE((Path(config.slot_dir) / "slot").stat().st_mode) == 0o600


@pytest.mark.skipif(os.getuid() != 0, reason="behind no_dump, only root may look into a runner")
def test_a_runner_inherits_nothing(place: Path, model: Path) -> None:
    config = prepared(place / "heir", model)
    asyncio.run(living(config, inherits_nothing))


def prepared(folder: Path, model: Path, *, mmap: bool = True, adapters: tuple[Adapter, ...] = ()) -> RunnerConfig:
    for name in ("slots", "run"):
        (folder / name).mkdir(parents=True)
    return runner_config(folder, model, mmap=mmap, adapters=adapters)


async def living(config: RunnerConfig, look: Callable[[int], None]) -> tuple[Layer, ...]:
    """A runner's layers, after ``look`` has been at it."""
    runner = await Process.start(config)
    try:
        await runner.ready()
        await asyncio.to_thread(look, runner.pid)
    finally:
        await runner.stop()
    return runner.layers


ONE_TURN = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4, "ignore_eos": True, "id_slot": 0}


def converse(config: RunnerConfig, _: int) -> None:
    """Answers, saves a slot and restores it into the other, has the adapter; the socket is for its owner alone."""
    answer = exchange(config.socket, "POST", "/v1/chat/completions", ONE_TURN)
    assert answer["usage"]["completion_tokens"] == ONE_TURN["max_tokens"]
    saved = exchange(config.socket, "POST", "/slots/0?action=save", {"filename": "slot"})
    restored = exchange(config.socket, "POST", "/slots/1?action=restore", {"filename": "slot"})
    assert restored["n_restored"] == saved["n_saved"] > 0
    assert [one["id"] for one in exchange(config.socket, "GET", "/lora-adapters")] == [0]
    assert stat.S_IMODE(Path(config.socket).stat().st_mode) & 0o077 == 0


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket; the address is its path."""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.host)


def exchange(path: str, method: str, target: str, body: object = None) -> Any:
    with closing(UnixConnection(path)) as connection:
        connection.request(method, target, json.dumps(body), {"Content-Type": "application/json", "Host": "runner"})
        response = connection.getresponse()
        content = response.read()
    assert response.status == 200, content
    return json.loads(content)


def inherits_nothing(pid: int) -> None:
    """The environment holds what is on the list; every descriptor is a pipe of ours or was opened by the runner."""
    environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    names = {line.partition(b"=")[0].decode() for line in environment if line}
    assert names <= {*INHERITED, "GGML_NO_BACKTRACE", "OMP_WAIT_POLICY"}
    open_now = {int(fd.name): str(fd.readlink()).partition(":")[0] for fd in Path(f"/proc/{pid}/fd").iterdir()}
    assert {0, 1, 2} <= open_now.keys()
    assert set(open_now.values()) <= {"pipe", "socket", "anon_inode"}
