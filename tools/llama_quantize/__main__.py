"""``python -m tools.llama_quantize --sdist PATH [--build DIR] [--jobs N] [--snapshots]``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tools.llama_quantize.build import llama_cpp, llama_quantize
from tools.llama_quantize.compare import Pair
from tools.llama_quantize.models import FAMILIES, write_family
from tools.llama_quantize.snapshots import differences
from tools.random_model import QWEN_HALF_B, write_random_model

from localmodels.artifacts.quantize import TARGETS
from localmodels.artifacts.quantize.ggml import Ggml, find_library

# A model of real sizes too, whose tensors are computed in many pieces. One of each family of types: some are slow.
LARGE = ("Q4_0", "Q8_0", "Q4_K_M", "Q3_K_M", "IQ4_XS", "BF16")


def main() -> int:
    """Compares; 1 if anything differs."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.llama_quantize", description="Our quantisation beside llama.cpp's own."
    )
    parser.add_argument("--sdist", type=Path, required=True, help="the engine's unpacked source distribution")
    parser.add_argument("--build", type=Path, help="where llama-quantize is built, or was")
    parser.add_argument("--jobs", type=int, default=2, help="files compiled at once")
    parser.add_argument("--snapshots", action="store_true", help="only compare with llama.cpp's own records; no build")
    asked = parser.parse_args()
    compared, wrong = differences(llama_cpp(asked.sdist) / "tests" / "snapshots")
    print(f"records of real models: {compared} tensors, {len(wrong)} differ")
    if not asked.snapshots:
        build = asked.build or asked.sdist / "build-llama-quantize"
        program = llama_quantize(asked.sdist, build, jobs=asked.jobs)
        wrong += compare(program)
    print("\n".join(wrong) or "no difference")
    return 1 if wrong else 0


def compare(program: Path) -> list[str]:
    """What differs in any model."""
    ggml = Ggml(find_library())
    wrong = []
    with TemporaryDirectory() as name:
        folder = Path(name)
        for title, family in FAMILIES.items():
            model = write_family(folder / "model.gguf", family)
            for requantize in (False, True) if family.source == "Q8_0" else (False,):
                pair = Pair(program, ggml, folder, requantize=requantize)
                found = [(target, pair.difference(model, target)) for target in TARGETS.values()]
                bad = [f"{title}, {target.name}: {said}" for target, said in found if said]
                print(f"{title}: {len(found)} file types, {len(bad)} differ", flush=True)
                wrong += bad
        model = write_random_model(folder / "model.gguf", shape=QWEN_HALF_B, type="f16", vocab=4000)
        pair = Pair(program, ggml, folder)
        for target in LARGE:
            said = pair.difference(model, TARGETS[target])
            print(f"half a billion weights, {target}: {'differs' if said else 'the same'}", flush=True)
            wrong += [f"half a billion weights, {target}: {said}"] if said else []
    return wrong


if __name__ == "__main__":
    sys.exit(main())
