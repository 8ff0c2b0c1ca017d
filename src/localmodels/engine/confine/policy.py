"""What one runner may touch: a value made from its configuration, with no effect on anything.

The one rule: a right is named here or it is gone. Nothing under a home directory, no other model and no directory of
programs is readable; paths that do not exist are left out, so the same rules serve every machine.
"""

from __future__ import annotations

import os
import re
import shutil
import struct
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from localmodels.engine.command import RunnerConfig

# What the C library, libgomp, ggml and Python read while they run (seen with strace); nothing that tells about users.
LIBRARIES = ("/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/local/lib", "/lib", "/lib64", "/etc/ld.so.cache")
MACHINE = ("/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system", "/dev/urandom")
DEVICES = ("/dev/null",)

# The drivers of CUDA, ROCm and Vulkan: device files to write to, descriptions of the hardware to read.
GPU_DEVICES = ("nvidia*", "nvidia-caps/*", "dri/*", "kfd")  # below /dev
GPU_READ = (
    "/proc/self", "/proc/driver/nvidia", "/proc/devices", "/proc/modules", "/sys/bus/pci", "/sys/class", "/sys/devices",
    "/sys/module", "/usr/local/cuda", "/opt/rocm", "/usr/share/vulkan", "/usr/share/drirc.d", "/usr/share/glvnd",
    "/etc/vulkan", "/etc/OpenCL", "/usr/share/nvidia",
)  # fmt: skip

# A saved slot holds its keys and values: 0.33 MiB a token for 70B with grouped queries, 2.5 MiB for 65B without (f16).
SLOT_BYTES_PER_TOKEN = 4 << 20
SLOT_BYTES_FIXED = 1 << 30  # recurrent models keep one state of fixed size instead

_PART = re.compile(r"(.+)-\d{5}-of-(\d{5})\.gguf")
_PT_INTERP = 3
_HEADER, _PROGRAM = "<4sB27xQ14xHH", "<I4xQ16xQ"  # Elf64_Ehdr and Elf64_Phdr up to the fields that we read


class Layer(Struct, frozen=True):
    """One layer of confinement: whether the kernel holds it, and what it covers or why it is missing."""

    name: str
    active: bool
    detail: str = ""


class Policy(Struct, frozen=True):
    """All that a confined process may still do with files, the network and other programs.

    Attributes:
        read: files and directories (with all below them) that may be read.
        browse: directories whose names may be listed, nothing more.
        write: directories in which plain files and sockets may be made, written and removed.
        devices: device files that may be read, written and controlled.
        execute: files that may be run.
        network: sockets that are not unix stream sockets are allowed: TCP, UDP and the rest.
        may_exec: children, ``connect`` to unix sockets and other programs are allowed; which programs, ``execute``
            says where Landlock is present.
        max_files: open files.
        max_file_size: bytes of one written file.
        max_data: bytes of memory of its own, mapped files not counted; 0 is without bound.
    """

    read: tuple[str, ...] = ()
    browse: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    execute: tuple[str, ...] = ()
    network: bool = False
    may_exec: bool = False
    max_files: int = 256
    max_file_size: int = SLOT_BYTES_FIXED
    max_data: int = 0


def runner_policy(config: RunnerConfig) -> Policy:
    """The rights of the runner of ``config``. Reads directories and the head of ``binary``; changes nothing."""
    gpu = config.gpu_layers != 0
    binary = Path(shutil.which(config.binary) or config.binary).resolve() if config.binary else None
    read = [*model_files(config), *LIBRARIES, *MACHINE, *python_places(), *(GPU_READ if gpu else ())]
    return Policy(
        read=existing([*read, *(companions(binary) if binary else ())]),
        browse=existing([str(binary.parent)] if binary else ()),
        write=existing([config.slot_dir, str(Path(config.socket).parent)]),
        devices=existing([*DEVICES, *(gpu_devices() if gpu else ())]),
        execute=existing([str(binary), *interpreter(binary)] if binary else ()),
        may_exec=binary is not None,
        max_file_size=SLOT_BYTES_FIXED + config.context * SLOT_BYTES_PER_TOKEN,
        max_data=config.memory_mib << 20,
    )


def existing(paths: Iterable[str]) -> tuple[str, ...]:
    """Those that exist as far as we may see, each once, in order."""
    return tuple(path for path in dict.fromkeys(paths) if os.access(path, os.F_OK))


def model_files(config: RunnerConfig) -> Iterator[str]:
    """The model with all its parts, the projector, the adapters."""
    yield from split_parts(config.model)
    yield from split_parts(config.projector)
    for adapter in config.adapters:
        yield adapter.path


def split_parts(path: str) -> Iterator[str]:
    """``x-00001-of-00003.gguf`` and its two companions (the names that llama.cpp's ``gguf-split`` gives), or the path.

    >>> list(split_parts("m-00001-of-00002.gguf"))
    ['m-00001-of-00002.gguf', 'm-00002-of-00002.gguf']
    """
    parts = _PART.fullmatch(path)
    if parts is None:
        yield path
        return
    stem, count = parts.groups()
    yield from (f"{stem}-{number:05d}-of-{count}.gguf" for number in range(1, int(count) + 1))


def python_places() -> tuple[str, ...]:
    """Where modules may still be imported from: the standard library, the installed packages, our own."""
    paths = sysconfig.get_paths()
    ours = str(Path(__file__).resolve().parents[2])
    return (*(paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")), ours)


def gpu_devices(root: str = "/dev") -> Iterator[str]:
    """The device files of graphics cards that this machine has."""
    for pattern in GPU_DEVICES:
        yield from sorted(str(path) for path in Path(root).glob(pattern) if not path.is_dir())


def companions(binary: Path) -> list[str]:
    """The program and the shared libraries beside it, where release archives of llama.cpp put them."""
    folders = (binary.parent, binary.parent.parent / "lib")
    return [str(binary), *(str(path) for folder in folders for path in sorted(folder.glob("*.so*")))]


def interpreter(binary: Path) -> tuple[str, ...]:
    """The loader that the kernel runs for ``binary`` (ELF's PT_INTERP); empty for a static program."""
    try:
        with binary.open("rb") as file:
            return tuple(_interpreters(file))
    except (OSError, struct.error, UnicodeDecodeError):
        return ()  # not a 64-bit ELF file: running it will fail and say so


def _interpreters(file: BinaryIO) -> Iterator[str]:
    magic, width, table, size, count = struct.unpack(_HEADER, file.read(struct.calcsize(_HEADER)))
    if magic != b"\x7fELF" or width != 2:
        return
    file.seek(table)
    entries = file.read(size * count)
    for start in range(0, len(entries), size):
        kind, offset, length = struct.unpack_from(_PROGRAM, entries, start)
        if kind == _PT_INTERP:
            file.seek(offset)
            yield file.read(length).rstrip(b"\0").decode()
