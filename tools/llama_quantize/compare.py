"""One model, one file type, both programs: the same refusal, or the same file byte for byte."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from localmodels.artifacts.gguf import read_header
from localmodels.artifacts.quantize import FileType, plan
from localmodels.artifacts.quantize.ggml import Ggml
from localmodels.artifacts.quantize.mixing import mixed
from localmodels.artifacts.quantize.work import Work
from localmodels.core.errors import LocalModelsError

# A line of a dry run: the tensor, its type, and the type that it would become, where that is another.
_LINE = re.compile(r"^\[ *\d+/ *\d+\] (\S+) +- \[.*?\], type = +(\w+), .*?size = [^(\n]*(?:\((\w+)\))?$", re.MULTILINE)


class Pair:
    """Both programs, and a folder for what they write.

    Args:
        program: llama-quantize.
        ggml: what our side computes with.
        folder: for files; each comparison overwrites those of the last.
        requantize: weights that are quantised already may be quantised again.
    """

    def __init__(self, program: Path, ggml: Ggml, folder: Path, *, requantize: bool = False) -> None:
        self._program = program
        self._ggml = ggml
        self._theirs = folder / "theirs.gguf"
        self._ours = folder / "ours.gguf"
        self._requantize = requantize

    def difference(self, model: Path, target: FileType) -> str:
        """What differs, in the mixture or in the file; empty if nothing does."""
        return self._mixture(model, target) or self._file(model, target)

    def _mixture(self, model: Path, target: FileType) -> str:
        """What differs in the types, also where an importance matrix would be needed to make the file."""
        done = subprocess.run(
            [self._program, "--dry-run", model, target.name],
            capture_output=True, text=True, errors="replace", check=False,
        )  # fmt: skip
        told = _LINE.findall(done.stdout + done.stderr)
        theirs = {name: (new or old).upper() for name, old, new in told}
        try:
            ours = {tensor.name: kind for tensor, kind in mixed(read_header(model), target)}
        except LocalModelsError as error:
            return "" if done.returncode else f"we say {error.message!r}"
        if done.returncode:
            return f"llama-quantize ends with status {done.returncode} where we have a mixture"
        wrong = [
            f"{name} is {theirs.get(name)} to them, {kind} to us"
            for name, kind in ours.items()
            if theirs.get(name) != kind
        ]
        return "; ".join(wrong[:5])

    def _file(self, model: Path, target: FileType) -> str:
        for file in (self._theirs, self._ours):
            file.unlink(missing_ok=True)
        refused = self._run(model, target)
        why = self._quantize(model, target)
        if bool(refused) != bool(why):
            return f"llama-quantize says {refused or 'yes'!r}, we say {why or 'yes'!r}"
        if refused or self._theirs.read_bytes() == self._ours.read_bytes():
            return ""
        return "; ".join(self._details()) or "the same tensors, and another head"

    def _run(self, model: Path, target: FileType) -> str:
        options = ["--allow-requantize"] if self._requantize else []
        done = subprocess.run(
            [self._program, *options, model, self._theirs, target.name, "2"],
            capture_output=True, text=True, errors="replace", check=False,
        )  # fmt: skip
        failed = [line for line in done.stderr.splitlines() if "failed to quantize" in line]
        return (failed or [f"status {done.returncode}"])[0] if done.returncode else ""

    def _quantize(self, model: Path, target: FileType) -> str:
        try:
            made = plan(model, target, requantize=self._requantize)
            with self._ours.open("wb") as file:
                for piece in Work(model, made, self._ggml, 2).pieces():
                    file.write(piece)
        except LocalModelsError as error:
            return error.message
        return ""

    def _details(self) -> list[str]:
        """Tensor by tensor, the first few that differ."""
        theirs, ours = read_header(self._theirs), read_header(self._ours)
        found = {tensor.name: tensor for tensor in ours.tensors}
        wrong = []
        for tensor in theirs.tensors:
            other = found.get(tensor.name)
            if other is None or other.type != tensor.type:
                wrong.append(f"{tensor.name} is {tensor.type.name} to them, {other.type.name if other else '-'} to us")
            elif _part(self._theirs, tensor.offset, tensor.size) != _part(self._ours, other.offset, other.size):
                wrong.append(f"{tensor.name} ({tensor.type.name}) has other bytes")
        return wrong[:5]


def _part(file: Path, offset: int, size: int) -> bytes:
    with file.open("rb") as opened:
        opened.seek(offset)
        return opened.read(size)
