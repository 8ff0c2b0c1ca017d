"""``python -m benchmarks.quantize --llama-quantize PATH``: what quantising takes beside llama.cpp's own program.

The program is built by ``python -m tools.llama_quantize``. Rounds alternate between the sides, and a figure is the
median of the rounds' ratios. Ours is what the server does: a confined child, its bytes through a pipe; once into
a plain file as llama-quantize's, once into a store, which hashes them on their way and waits until they are on disk.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from tools.random_model import Shape, write_random_model

from benchmarks.report import Figure
from benchmarks.rounds import Sides, interleaved
from localmodels.artifacts.quantize import TARGETS, Job, Quantizer, plan
from localmodels.store.model_store import ModelStore

# 177 million weights in rows of 256: 354 MB of F16, as many layers as make the mixtures show.
SHAPE = Shape(width=1024, layers=12, heads=16, kv_heads=8, head_width=64, feed_forward=2816, context=4096, vocab=16_000)
ROUNDS = {"Q4_K_M": 5, "Q8_0": 9, "Q4_0": 9}
CHILD = "localmodels.engine.quantizer"


def main() -> int:
    """Exit status 1 when a bar was missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quantize")
    parser.add_argument("--llama-quantize", type=Path, required=True, help="the program")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args()
    with TemporaryDirectory(dir=Path.cwd()) as name:
        found = figures(asked.llama_quantize, Path(name), asked.threads)
    for figure in found:
        print(figure)
    return 0 if all(figure.met for figure in found) else 1


def figures(program: Path, folder: Path, threads: int) -> list[Figure]:
    """All of them; what is written goes to ``folder``."""
    model = write_random_model(folder / "f16.gguf", shape=SHAPE, type="f16")
    found = []
    for target, rounds in ROUNDS.items():
        sides: Sides = {
            "theirs": partial(theirs, program, model, folder / "theirs.gguf", target, threads),
            "file": partial(into_file, model, folder / "ours.gguf", target, threads),
            "store": partial(into_store, model, folder / "store", target, threads),
        }
        times = interleaved(sides, rounds)
        assert (folder / "theirs.gguf").read_bytes() == (folder / "ours.gguf").read_bytes()
        rate = model.stat().st_size / 1e6 / median(times["file"])
        found.append(ratio(f"{target}, ours : llama-quantize", times, "file", f"{rate:.0f} MB/s of F16", bar=1.0))
        found.append(ratio(f"{target}, into the store : llama-quantize", times, "store", "hashed and synced", bar=1.25))
    return found


def ratio(name: str, times: dict[str, list[float]], side: str, note: str, *, bar: float) -> Figure:
    """Time of a side over theirs."""
    ratios = [ours / other for ours, other in zip(times[side], times["theirs"], strict=True)]
    value = median(ratios)
    return Figure(name, value, "", f"≤ {bar:g}", value <= bar, f"{min(ratios):.2f} to {max(ratios):.2f}, {note}")


def theirs(program: Path, model: Path, to: Path, target: str, threads: int) -> None:
    """llama.cpp's own."""
    subprocess.run([program, model, to, target, str(threads)], check=True, capture_output=True)


def into_file(model: Path, to: Path, target: str, threads: int) -> None:
    """Ours, to a plain file."""
    with Quantizer(Job(str(model), target, threads), module=CHILD) as child, to.open("wb") as file:
        for piece in child.pieces():
            file.write(piece)


def into_store(model: Path, root: Path, target: str, threads: int) -> None:
    """Ours, as a blob of a store."""
    store = ModelStore(root)
    made = plan(model, TARGETS[target])
    with (
        store.lease("benchmark", reserve=made.size) as lease,
        Quantizer(Job(str(model), target, threads), module=CHILD) as child,
    ):
        store.write(lease, child.pieces(), size=made.size)


if __name__ == "__main__":
    sys.exit(main())
