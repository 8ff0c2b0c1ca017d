"""Every source is a file in a made-up tree, or a function; nothing of this machine is looked at."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from localmodels.engine.hardware import METAL_SHARE, NVIDIA_QUERY, Gpu, Hardware, Sources, probe

GIB = 2**30
Files = dict[str, str]


@pytest.fixture
def machine(tmp_path: Path) -> Callable[..., Sources]:
    """A machine of 16 processors, 8 cores and 64 GiB, 48 of them free, with these files."""

    def make(
        files: Files | None = None,
        *,
        run: Callable[[list[str]], str] = lambda _: "",
        memory: Callable[[], tuple[int, int]] = lambda: (64 * GIB, 48 * GIB),
        affinity: int = 16,
        kind: str = "Linux x86_64",
    ) -> Sources:
        for name, text in (files or {}).items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        return Sources(tmp_path, memory, lambda: affinity, lambda: 16, lambda: 8, run, kind)

    return make


Machine = Callable[..., Sources]


def test_without_limits_the_host_is_ours(machine: Machine) -> None:
    assert probe(machine()) == Hardware(cpus=16, cores=8, memory_total=64 * GIB, memory_available=48 * GIB)


def test_affinity_leaves_some_processors_and_their_cores(machine: Machine) -> None:
    hardware = probe(machine(affinity=6))
    assert (hardware.cpus, hardware.cores) == (6, 3)


V2 = {"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/here": ""}


def test_a_quota_of_version_2_binds(machine: Machine) -> None:
    assert probe(machine(V2 | {"sys/fs/cgroup/a/b/cpu.max": "250000 100000\n"})).cpus == 2


def test_a_quota_below_one_is_still_one_processor(machine: Machine) -> None:
    assert probe(machine(V2 | {"sys/fs/cgroup/a/b/cpu.max": "50000 100000\n"})).cpus == 1


def test_no_quota_of_version_2_binds_nothing(machine: Machine) -> None:
    assert probe(machine(V2 | {"sys/fs/cgroup/a/b/cpu.max": "max 100000\n"})).cpus == 16


def test_a_limit_two_levels_above_binds_too(machine: Machine) -> None:
    limits = {
        "sys/fs/cgroup/a/b/memory.max": f"{8 * GIB}\n",
        "sys/fs/cgroup/a/b/memory.current": f"{1 * GIB}\n",
        "sys/fs/cgroup/a/memory.max": f"{16 * GIB}\n",
        "sys/fs/cgroup/a/memory.current": f"{13 * GIB}\n",
    }
    hardware = probe(machine(V2 | limits))
    assert (hardware.memory_total, hardware.memory_available) == (8 * GIB, 3 * GIB)


def test_page_cache_in_the_group_is_not_used_up(machine: Machine) -> None:
    limits = {
        "sys/fs/cgroup/a/b/memory.max": f"{8 * GIB}",
        "sys/fs/cgroup/a/b/memory.current": f"{7 * GIB}",
        "sys/fs/cgroup/a/b/memory.stat": f"anon 1\ninactive_file {5 * GIB}\nactive_file 7\n",
    }
    assert probe(machine(V2 | limits)).memory_available == 6 * GIB


def test_a_group_over_its_limit_leaves_nothing(machine: Machine) -> None:
    limits = {"sys/fs/cgroup/a/b/memory.max": "100", "sys/fs/cgroup/a/b/memory.current": "200"}
    assert probe(machine(V2 | limits)).memory_available == 0


V1 = {"proc/self/cgroup": "5:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n1:name=systemd:/\n"}


def test_version_1_binds_at_the_top_when_the_path_is_the_hosts(machine: Machine) -> None:
    limits = {
        "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{4 * GIB}\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{3 * GIB}\n",
        "sys/fs/cgroup/memory/memory.stat": f"total_inactive_file {2 * GIB}\n",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "400000\n",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
    }
    hardware = probe(machine(V1 | limits))
    assert (hardware.memory_total, hardware.memory_available, hardware.cpus) == (4 * GIB, 3 * GIB, 4)


def test_no_limit_of_version_1_binds_nothing(machine: Machine) -> None:
    limits = {
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
    }
    hardware = probe(machine(V1 | limits))
    assert (hardware.memory_total, hardware.cpus) == (64 * GIB, 16)


def test_garbage_in_a_limit_is_no_limit(machine: Machine) -> None:
    garbage = {"sys/fs/cgroup/a/b/memory.max": "\x00\xff?", "sys/fs/cgroup/a/b/cpu.max": "lots"}
    assert probe(machine(V2 | garbage)).memory_total == 64 * GIB


NVIDIA = {"proc/driver/nvidia/version": ""}


def test_nvidia_cards_are_those_that_the_driver_lists(machine: Machine) -> None:
    listing = "0, NVIDIA L4, 23034, 22000\n1, NVIDIA GB10, [N/A], [N/A]\n"
    asked: list[list[str]] = []

    def run(command: list[str]) -> str:
        asked.append(command)
        return listing

    assert probe(machine(NVIDIA, run=run)).gpus == (Gpu("NVIDIA L4", 0, 23_034 << 20, 22_000 << 20, "cuda"),)
    assert asked == [NVIDIA_QUERY]


@pytest.mark.parametrize(
    "failure", [FileNotFoundError("no nvidia-smi"), subprocess.TimeoutExpired("nvidia-smi", 2.0), OSError("x")]
)
def test_a_driver_that_fails_is_noted(machine: Machine, failure: Exception) -> None:
    def run(_: list[str]) -> str:
        raise failure

    hardware = probe(machine(NVIDIA, run=run))
    assert hardware.gpus == ()
    assert [note.partition(":")[0] for note in hardware.notes] == ["NVIDIA"]


def test_without_a_driver_nothing_is_started(machine: Machine) -> None:
    def run(_: list[str]) -> str:
        raise AssertionError

    assert probe(machine(run=run)).gpus == ()


def test_amd_cards_are_in_sysfs(machine: Machine) -> None:
    card = "sys/class/drm/card1/device"
    files = {
        f"{card}/mem_info_vram_total": f"{16 * GIB}\n",
        f"{card}/mem_info_vram_used": f"{1 * GIB}\n",
        f"{card}/product_name": "RX 7800\n",
    }
    assert probe(machine(files)).gpus == (Gpu("RX 7800", 0, 16 * GIB, 15 * GIB, "rocm"),)


def test_apples_memory_is_the_gpus(machine: Machine) -> None:
    (gpu,) = probe(machine(kind="Darwin arm64")).gpus
    assert (gpu.backend, gpu.memory_total, gpu.memory_free) == ("metal", int(64 * GIB * METAL_SHARE), 48 * GIB)


def test_memory_that_cannot_be_read_is_noted_and_none(machine: Machine) -> None:
    def unreadable() -> tuple[int, int]:
        raise PermissionError("no /proc/meminfo")

    hardware = probe(machine(memory=unreadable))
    assert (hardware.memory_total, hardware.memory_available) == (0, 0)
    assert hardware.notes == ("memory: no /proc/meminfo",)
