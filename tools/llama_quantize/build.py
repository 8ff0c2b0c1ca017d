"""Builds ``llama-quantize`` from the source distribution of the engine's wheel. Needs cmake and a C++ compiler."""

from __future__ import annotations

import subprocess
from pathlib import Path

# Nothing that quantising does not need; one file that runs by itself.
SETTINGS = {
    "CMAKE_BUILD_TYPE": "Release",
    "BUILD_SHARED_LIBS": "OFF",
    "LLAMA_BUILD_TESTS": "OFF",
    "LLAMA_BUILD_EXAMPLES": "OFF",
    "LLAMA_BUILD_SERVER": "OFF",
    "LLAMA_BUILD_TOOLS": "ON",
    "LLAMA_BUILD_COMMON": "ON",
    "LLAMA_OPENSSL": "OFF",
    "GGML_NATIVE": "ON",
    "GGML_OPENMP": "OFF",
}


def llama_cpp(sdist: Path) -> Path:
    """Where llama.cpp lies in an unpacked source distribution.

    Raises:
        FileNotFoundError: it does not.
    """
    for place in (sdist, sdist / "thirdparty" / "llama.cpp"):
        if (place / "src" / "llama-quant.cpp").is_file():
            return place
    raise FileNotFoundError(f"{sdist} holds no llama.cpp")


def llama_quantize(sdist: Path, build: Path, *, jobs: int) -> Path:
    """The program, made where it is not there yet.

    Args:
        sdist: the unpacked source distribution.
        build: directory for what the compiler makes.
        jobs: how many files are compiled at once.

    Raises:
        subprocess.CalledProcessError: it cannot be built.
    """
    program = build / "bin" / "llama-quantize"
    if not program.exists():
        settings = [f"-D{name}={value}" for name, value in SETTINGS.items()]
        subprocess.run(["cmake", "-S", llama_cpp(sdist), "-B", build, *settings], check=True)
        subprocess.run(["cmake", "--build", build, "--target", "llama-quantize", "--parallel", str(jobs)], check=True)
    return program
