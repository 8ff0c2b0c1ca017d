"""``python -m tests.fidelity [NAME…]``: does a converted model compute what transformers computes?

Tiny random models of every family, converted by ours, run by the engine, compared over the whole vocabulary; encoders
by their embeddings, rerankers by their scores; models spoilt on purpose, which must fail; every file type, which must
load; then tokenizers (:mod:`.vocab`) and adapters (:mod:`.lora`). Needs an environment with torch and transformers,
which no other test does. Ends with 1 if anything is further off than allowed, or a spoilt model is not.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import transformers
from tests.fidelity import lora, vocab
from tests.fidelity.comparison import GREEDY, compare, convert, experts_equal
from tests.fidelity.controls import APART, CONTROLS
from tests.fidelity.encoders import ENCODERS, REAL, compare_encoder, cosine_of, real_folder
from tests.fidelity.models import CASES, make
from tests.fidelity.rankers import RANKERS, compare_ranker
from tests.fidelity.types import TYPES, compare_type

from localmodels.artifacts.convert.drawing import Model


def main(names: list[str]) -> int:
    """The cases whose names begin with one of these, or all. Answers how many failed, at most 1."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    checks: dict[str, Callable[[Path], tuple[bool, str]]] = {
        **{name: lambda place, name=name: _decoder(place, name) for name in CASES},
        **{name: lambda place, name=name: _encoder(place, name) for name in ENCODERS},
        **{name: lambda place, name=name: _real(place, name) for name in REAL},
        **{name: lambda place, name=name: compare_ranker(RANKERS[name], place) for name in RANKERS},
        **{name: lambda place, name=name: _control(place, name) for name in CONTROLS},
        **{f"type {name}": lambda place, name=name: compare_type(place, name) for name in TYPES},
    }
    failed = 0
    for name, check in checks.items():
        if names and not name.startswith(tuple(names)):
            continue
        begun = time.monotonic()
        with tempfile.TemporaryDirectory() as directory:
            good, found = check(Path(directory))
        failed += not good
        took = time.monotonic() - begun
        sys.stdout.write(f"{'ok  ' if good else 'FAIL'} {name:44} {found}  {took:.1f} s\n")
        sys.stdout.flush()
    if not names or "vocab" in names:
        failed += vocab.main()
    if not names or "lora" in names:
        failed += lora.main()
    sys.stdout.write(f"{failed or 'nothing'} failed\n")
    return 1 if failed else 0


def _decoder(place: Path, name: str, alter: Callable[[Model], Model] = lambda model: model) -> tuple[bool, str]:
    case = CASES[name]
    folder, path = place / name, place / "model.gguf"
    folder.mkdir()
    model = make(case, folder)
    convert(folder, path, alter=alter)
    found = compare(case, model, path)
    agree = experts_equal(model, path) if case.packed else found.agreeing == GREEDY
    good = found.difference <= case.most and agree
    return good, f"{found.difference:9.2e} (<= {case.most:.0e})  {found.agreeing}/{GREEDY}"


def _encoder(place: Path, name: str) -> tuple[bool, str]:
    case = ENCODERS[name]
    cosine = compare_encoder(case, place)
    return cosine >= case.least, f"cosine {cosine:.7f} (>= {case.least})"


def _real(place: Path, name: str) -> tuple[bool, str]:
    case = REAL[name]
    cosine = cosine_of(real_folder(), place / "model.gguf", case, transformers.BertModel)
    return cosine >= case.least, f"cosine {cosine:.7f} (>= {case.least})"


def _control(place: Path, name: str) -> tuple[bool, str]:
    control = CONTROLS[name]
    case = CASES[control.case]
    folder, path = place / control.case, place / "model.gguf"
    folder.mkdir()
    model = make(case, folder)
    convert(folder, path, alter=control.spoil)
    found = compare(case, model, path)
    least = APART * case.most if case.most < 1e-3 else 10 * case.most
    return found.difference >= least, f"{found.difference:9.2e} (>= {least:.0e})  {found.agreeing}/{GREEDY}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
