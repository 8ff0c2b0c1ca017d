"""Which files of a Hugging Face repository are the model that a tag means: pure.

The rule: a tag leads to the one file that was meant, or to an error that lists what there is. Without a tag it is
``Q4_K_M``, as with Ollama, else the first of ``SENSIBLE`` that there is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from msgspec import Struct

from localmodels.core.catalog import DEFAULT_TAG, Blob, Digest
from localmodels.core.errors import InvalidRequest, NotFound

# What most people want of a repository that does not say otherwise: small enough for their machine, and nearly as good
# as the whole. Below four bits answers get worse quickly, so those come after all that are larger, and floats last.
SENSIBLE = (
    *("Q4_K_M", "UD-Q4_K_XL", "Q4_K_L", "Q4_K_S", "IQ4_NL", "IQ4_XS", "Q4_1", "Q4_0", "MXFP4_MOE", "MXFP4", "NVFP4"),
    *("Q5_K_M", "UD-Q5_K_XL", "Q5_K_L", "Q5_K_S", "Q5_1", "Q5_0", "Q6_K", "Q6_K_L", "UD-Q6_K_XL", "Q8_0"),
    *("UD-Q8_K_XL", "", "Q3_K_XL", "UD-Q3_K_XL", "Q3_K_L", "Q3_K_M", "IQ3_M", "IQ3_S", "Q3_K_S", "IQ3_XS", "IQ3_XXS"),
    *("UD-Q2_K_XL", "Q2_K_L", "Q2_K", "IQ2_M", "BF16", "F16", "F32"),
)
# Projectors are small and suffer from few bits, so those of 16 are what llama.cpp's own tools make.
PROJECTORS = ("F16", "BF16", "Q8_0", "F32")
# Files that a model may bring beside its weights, at the top of its repository, and the layer that each becomes.
BESIDES = ("template", "system", "params")

# ``Q4_K_M``, ``IQ3_XXS``, ``UD-Q4_K_XL``, ``MXFP4_MOE``, ``BF16``: as quantisers write them at the end of a name.
_LABEL = re.compile(
    r"(?<![A-Za-z0-9])(?P<label>(?:UD-)?(?:I?Q[1-9](?:_[A-Z0-9]{1,4}){1,3}|T?Q[12]_0|(?:MX|NV)FP4(?:_MOE)?|BF16|FP?16|FP?32))"
    r"(?![A-Za-z0-9])",
    re.IGNORECASE,
)
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})", re.IGNORECASE)
_SUFFIX = ".gguf"
_OTHER_SPELLINGS = {"FP16": "F16", "FP32": "F32"}
LISTED = 40  # of what there is, in an error


class File(Struct, frozen=True):
    """A file of a repository.

    Attributes:
        path: from the repository's root.
        size: bytes; -1 where the listing does not say.
        sha256: of a file in LFS, and of no other.
        git_id: SHA-1 of a file that lies in git itself, as git counts it; or of an LFS pointer.
    """

    path: str
    size: int = -1
    sha256: str = ""
    git_id: str = ""

    @property
    def name(self) -> str:
        """Without its directories."""
        return self.path.rpartition("/")[2]

    @property
    def blob(self) -> Blob | None:
        """What it becomes, where that is known before it is fetched."""
        return Blob(Digest(self.sha256), self.size) if self.sha256 and self.size >= 0 else None


class Choice(Struct, frozen=True):
    """The files of a model.

    Attributes:
        model: one, or the parts of a split model in order.
        projector: of a model that sees or hears.
        besides: by layer, each of one small file.
    """

    model: tuple[File, ...]
    projector: File | None = None
    besides: tuple[tuple[str, File], ...] = ()


class Candidate(Struct, frozen=True):
    """A model of a repository: its files in order, what it is called without parts, and its quantisation's name."""

    files: tuple[File, ...]
    stem: str
    label: str
    count: int

    @property
    def is_whole(self) -> bool:
        """Is every part there?"""
        return len(self.files) == self.count


def choose(files: Sequence[File], tag: str, repository: str) -> Choice:
    """The files that a tag means.

    Args:
        files: of the repository.
        tag: the name of a quantisation or of a file, in any case; ``latest`` for the usual one.
        repository: what errors call it.

    Raises:
        NotFound: there is none; the error lists those that there are.
        InvalidRequest: the tag fits several models, or one of which a part is missing.
    """
    ggufs = [file for file in files if file.name.lower().endswith(_SUFFIX)]
    projectors = [file for file in ggufs if _is_projector(file)]
    # An importance matrix is what a quantiser measured, in the same kind of file.
    found = candidates(file for file in ggufs if not _is_projector(file) and "imatrix" not in file.name.lower())
    if not found:
        raise NotFound(f"{repository} has no GGUF file of a model")
    model = _only(_usual(found) if tag == DEFAULT_TAG else _meant(found, tag), tag, repository, found)
    if not model.is_whole:
        raise InvalidRequest(
            f"{repository}: of the {model.count} parts of {model.stem} only {len(model.files)} are there", param="model"
        )
    besides = {file.path: file for file in files}
    return Choice(
        model.files,
        projector=_projector(projectors, model),
        besides=tuple((name, besides[name]) for name in BESIDES if name in besides),
    )


def candidates(files: Iterable[File]) -> tuple[Candidate, ...]:
    """The models that these files are, in the order of their paths."""
    groups: dict[tuple[str, int], dict[int, File]] = {}
    for file in sorted(files, key=lambda file: file.path):
        stem = file.path[: -len(_SUFFIX)]
        shard = _SHARD.fullmatch(stem)
        if shard is not None and not 0 < int(shard["number"]) <= int(shard["count"]):
            shard = None  # an odd name, and no part of anything
        key = (shard["stem"], int(shard["count"])) if shard else (stem, 1)
        groups.setdefault(key, {})[int(shard["number"]) if shard else 1] = file
    return tuple(
        Candidate(tuple(parts[number] for number in sorted(parts)), stem, label_of(stem), count)
        for (stem, count), parts in groups.items()
    )


def label_of(stem: str) -> str:
    """The name of the quantisation in a path without its ending, in capitals; empty where there is none.

    The last one in the file's own name; else in its directory's, as parts of large models are often kept.
    """
    for name in reversed(stem.split("/")):
        if labels := [match["label"].upper() for match in _LABEL.finditer(name)]:
            return _OTHER_SPELLINGS.get(labels[-1], labels[-1])
    return ""


def _meant(found: Sequence[Candidate], tag: str) -> list[Candidate]:
    """Those that a tag fits: by the name of a file, else by the quantisation, else by the end of the name."""
    wanted = tag.lower()
    named = [one for one in found if wanted in _names(one)]
    labelled = [one for one in found if one.label.lower() == wanted]
    ending = [one for one in found if re.search(rf"(?:^|[-._/]){re.escape(wanted)}$", one.stem.lower())]
    return named or labelled or ending


def _names(one: Candidate) -> set[str]:
    """By which names of files a model can be meant: of each of its files, with and without ending, and of the whole."""
    names = {file.name.lower() for file in one.files}
    return names | {name.removesuffix(_SUFFIX) for name in names} | {one.stem.rpartition("/")[2].lower()}


def _is_projector(file: File) -> bool:
    return "mmproj" in file.name.lower()


def _usual(found: Sequence[Candidate]) -> list[Candidate]:
    """Those of the quantisation that is taken where none is named."""
    present = {one.label for one in found}
    label = next((label for label in SENSIBLE if label in present), found[0].label)
    return [one for one in found if one.label == label]


def _only(meant: Sequence[Candidate], tag: str, repository: str, found: Sequence[Candidate]) -> Candidate:
    """The one that was meant. The same model in one file and in parts is one, and in one file it is taken."""
    if not meant:
        raise NotFound(f"{repository} has no {tag!r}; there are: {_listed(one.label or _tag(one) for one in found)}")
    if len({one.stem.rpartition("/")[2].lower() for one in meant}) > 1:
        raise InvalidRequest(
            f"{repository} has several models for {tag!r}; name one of them: {_listed(map(_tag, meant))}", param="model"
        )
    return min(meant, key=lambda one: (one.count, one.stem.count("/"), one.stem))


def _tag(one: Candidate) -> str:
    """A tag that means this model and no other."""
    return one.files[0].name if one.count == 1 else one.stem.rpartition("/")[2]


def _listed(names: Iterable[str]) -> str:
    unique = list(dict.fromkeys(names))
    return ", ".join(unique[:LISTED]) + (f" and {len(unique) - LISTED} more" if len(unique) > LISTED else "")


def _projector(projectors: Sequence[File], model: Candidate) -> File | None:
    """The projector beside the model, else that at the top of the repository."""
    directory = model.stem.rpartition("/")[0]
    beside = [file for file in projectors if file.path.rpartition("/")[0] == directory]
    there = beside or [file for file in projectors if "/" not in file.path]

    def rank(file: File) -> tuple[int, str]:
        label = label_of(file.name[: -len(_SUFFIX)])
        return (PROJECTORS.index(label) if label in PROJECTORS else len(PROJECTORS), file.path)

    return min(there, key=rank, default=None)
