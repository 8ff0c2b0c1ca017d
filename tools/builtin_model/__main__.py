"""The one command: ``tools/builtin_model/run.sh``, which ends with the GGUF in place and ``RESULTS.md`` written.

In an environment that has ``requirements.txt`` it is ``python -m tools.builtin_model``.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

# Before PyTorch loads: a thread that waits must sleep, or on a shared machine it spins away the core of the one it
# waits for. Measured on two busy cores: 3,400 tokens/s instead of 600.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

import torch

from . import corpus, tokenizer
from .evaluate import report
from .export import export
from .train import Plan, train

_HERE = Path(__file__).parent
_OUT = _HERE.parent.parent / "src" / "localmodels" / "store" / "builtin.gguf"
_TOKENIZER_DOCUMENTS = 40_000
_VOCABULARY = 4096


def _keep_memory() -> None:
    """Asks glibc to keep freed blocks.

    Else each step returns gigabytes to the kernel and faults them in again: a quarter of the time.
    """
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return
    trim, top_pad, mmap_max = -1, -2, -4
    libc = ctypes.CDLL(None)
    libc.mallopt(mmap_max, 0)
    libc.mallopt(trim, 2**31 - 1)
    libc.mallopt(top_pad, 256 << 20)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tools.builtin_model", description=__doc__)
    parser.add_argument("--out", type=Path, default=_OUT, help="the GGUF to write")
    parser.add_argument("--work", type=Path, default=_HERE / "build", help="folder for checkpoints and the tokenizer")
    parser.add_argument("--results", type=Path, default=_HERE / "RESULTS.md", help="the page of figures to write")
    parser.add_argument("--minutes", type=float, default=Plan.minutes, help="training ends by then, finished")
    parser.add_argument("--tokens", type=int, default=Plan.tokens, help="or after so many tokens")
    parser.add_argument("--rate", type=float, default=Plan.rate, help="highest learning rate")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 leaves it to PyTorch")
    parser.add_argument("--seed", type=int, default=Plan.seed)
    parser.add_argument("--start", type=Path, help="go on from this work folder's model instead of from nothing")
    parser.add_argument("--measure", action="store_true", help="train nothing, only measure what --out and --work hold")
    return parser.parse_args()


def _machine() -> str:
    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()} (PyTorch {torch.__version__})"
    return f"CPU, {platform.machine()}, {torch.get_num_threads()} threads (PyTorch {torch.__version__})"


def _make(options: argparse.Namespace) -> None:
    """Text, tokenizer, training, GGUF; and in ``run.json`` how it went, for the page."""
    began = time.monotonic()
    if options.start:
        words = tokenizer.load(options.start / "tokenizer.json")
    else:
        documents = islice(corpus.documents(options.seed), _TOKENIZER_DOCUMENTS)
        words = tokenizer.train(("".join(text for text, _ in document) for document in documents), _VOCABULARY)
    words.save(str(options.work / "tokenizer.json"))
    plan = replace(Plan(), minutes=options.minutes, tokens=options.tokens, rate=options.rate, seed=options.seed)
    run = train(words, plan, options.work, options.start and options.start / "model.pt")
    export(run.model, words, options.out)
    facts = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": _machine(),
        "origin": "going on from an earlier run" if options.start else "from nothing",
        "minutes": round((time.monotonic() - began) / 60, 1),
        "million_tokens": round(run.tokens / 1e6, 2),
        "steps": run.steps,
        "tokens_per_second": round(run.speed),
        "seed": plan.seed,
        "million_parameters": round(sum(weight.numel() for weight in run.model.parameters()) / 1e6, 2),
    }
    (options.work / "run.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")


_PAGE = """# Results of the built-in model

Written by `tools/builtin_model`. Trained {origin} on {date} in {minutes} minutes ({machine}; the cores may have been
shared): {million_tokens} million tokens, {steps} steps, {tokens_per_second} tokens/s, seed {seed}. The model has
{million_parameters} million parameters.

The questions were written by hand in other words than the writer's patterns. Of `heldback.txt` every second one
("seen") was looked at while the writer was improved, the others ("unseen") were only counted; `fresh.txt` was written
when the writer was finished, and only counted. Eight plain prompts of the manuals ("Hello!", "Count to 5", …) are in
`heldback.txt` and in the training as well. A question is right when the answer holds the wanted words, is in the
right language and ends its turn. All goes through llama.cpp's own server, chat template and tool parser.

{figures}
## Misses

{misses}"""


def main() -> None:
    """Text, tokenizer, training, GGUF, measurement, page of results."""
    options = _arguments()
    _keep_memory()
    if options.threads:
        torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    if not options.measure:
        _make(options)
    figures, misses = report(options.out, tokenizer.load(options.work / "tokenizer.json"))
    facts = json.loads((options.work / "run.json").read_text(encoding="utf-8"))
    listed = "".join(f"- {' '.join(miss.split())[:240]}\n" for miss in misses)
    options.results.write_text(_PAGE.format(figures=figures, misses=listed, **facts), encoding="utf-8")
    print(figures)


if __name__ == "__main__":
    main()
