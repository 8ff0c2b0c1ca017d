"""What is said between the child that inspects and whoever started it."""

from __future__ import annotations

from msgspec import Struct

from localmodels.core.artifacts import ArtifactKind

# Python and NumPy take 30 MiB, 120,000 tensors (more than any model known has) 130 more; a file is read after another.
MEMORY = 512 * 2**20


class Job(Struct, frozen=True):
    """What is to be done.

    Attributes:
        root: directory of the files.
        names: of the files, relative to it and with ``/``.
        memory: bytes that the child may set aside.
        nice: how far the child gives way to others, from 0 (not at all) to 19.
    """

    root: str
    names: tuple[str, ...]
    memory: int = MEMORY
    nice: int = 0


class Findings(Struct, frozen=True):
    """What it is; the fields are those of :class:`~localmodels.core.artifacts.Artifact`."""

    kind: ArtifactKind
    architecture: str = ""
    dtype: str = ""
    parameters: int = 0
    context: int = 0
    tokenizer: str = ""
    base: str = ""
    notes: tuple[str, ...] = ()
