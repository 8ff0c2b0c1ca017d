"""``python -m tests.hostile_folders [PART OF A NAME]``: all hostile folders, and the engine on every file they become.

Minutes. Ends with 1 if one was neither refused as it must be nor became a sound file, took too long or too much.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from tests.contract.test_hostile_gguf import LOAD_AND_ANSWER
from tests.hostile_folders.batch import ENDS_THE_ENGINE, MEMORY, Told
from tests.hostile_folders.corpus import CORPUS, CUT
from tests.hostile_folders.kinds import Hostile

SECONDS = 2.0
ALL = {**CORPUS, **CUT}


def main() -> int:
    """The command line."""
    part = sys.argv[1] if len(sys.argv) > 1 else ""
    names = [name for name in ALL if part in name]
    fates: Counter[str] = Counter()
    slowest, largest, wrong = 0.0, 0, 0
    with TemporaryDirectory() as directory:
        told = list(converted(names, Path(directory)))
        for one in told:
            fates[one.fate] += 1
            slowest, largest = max(slowest, one.seconds), max(largest, one.peak)
            for complaint in complaints(ALL[one.name], one):
                wrong += 1
                print(f"{one.name:.80}: {complaint}: {one.kind} {one.message:.300}")
        files = {one.file for one in told if one.fate == "made" and one.name not in ENDS_THE_ENGINE}
        loads = Counter(loaded(Path(directory, name)) for name in sorted(files))
    print(f"{len(told)} of {len(names)} folders: {dict(fates)}; at most {slowest:.2f} s and {largest >> 20} MiB")
    print(f"{len(files)} different files in the engine: {dict(loads)}; {wrong} wrong")
    return 1 if wrong or loads["dies"] or len(told) < len(names) else 0


def converted(names: Iterable[str], kept: Path) -> Iterator[Told]:
    """What becomes of each; files that are made are kept."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.hostile_folders.batch", str(kept)],
        input="".join(f"{name}\n" for name in names).encode(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    for line in done.stdout.splitlines():
        yield msgspec.json.decode(line, type=Told)


def complaints(hostile: Hostile, told: Told) -> Iterator[str]:
    """What is wrong with what became of one."""
    if told.fate not in {"refused", "made"} or hostile.fate not in {"either", told.fate}:
        yield f"{told.fate}, not {hostile.fate}"
    if told.fate == "refused" and not hostile.is_named(told.message):
        yield f"does not name {hostile.says}"
    if told.fate == "refused" and told.kind not in {"ModelDamaged", "Unsupported", "InvalidRequest"}:
        yield "no refusal of ours"
    if told.fired:
        yield "a program ran"
    if told.seconds > SECONDS or told.peak > MEMORY:
        yield f"{told.seconds:.1f} s, {told.peak >> 20} MiB"


def loaded(path: Path) -> str:
    """What the engine does with a file."""
    done = subprocess.run(
        [sys.executable, "-c", LOAD_AND_ANSWER, str(path)],
        env={**os.environ, "GGML_NO_BACKTRACE": "1"},
        capture_output=True,
        timeout=120,
        check=False,
    )
    return {0: "runs", 3: "refused"}.get(done.returncode, "dies")


if __name__ == "__main__":
    sys.exit(main())
