"""Reads a store without the product's code, and says what it breaks.

I1 every manifest parses · I2 every blob that one names is there, whole · I3 a file under a digest's name has that
content · I4 the models are those of before or of after, and of after once it was said to be done · I5 nothing
unfinished is left · I6 repeating the operation succeeds · I7 bystanders are as they were.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path, PurePath

from tools.crash.scenes import BAD, BAD_MANIFEST, ORPHANS, Models, Scene, digest

_BLOB = re.compile(r"sha256-[0-9a-f]{64}")


def models(root: Path) -> dict[str, bytes]:
    """What lies in the manifests' places, without the damaged bystander."""
    top = root / "manifests"
    found = (path for path in sorted(top.glob("*/*/*/*")) if path.is_file())
    return {str(path.relative_to(top)): path.read_bytes() for path in found if str(path.relative_to(top)) != BAD}


def broken(root: Path, scene: Scene, *, acknowledged: bool) -> Iterator[str]:
    """What is not as it must be at every moment."""
    found = models(root)
    for place, text in found.items():
        yield from _manifest(root, place, text)
    for path in sorted((root / "blobs").iterdir()):
        if _BLOB.fullmatch(path.name) and digest(path.read_bytes()) != path.name.removeprefix("sha256-"):
            yield f"I3 {path.name} has another content"
    yield from _state(found, scene, acknowledged=acknowledged)
    for data in scene.brings if acknowledged else ():
        if not (root / "blobs" / f"sha256-{digest(data)}").exists():
            yield "I4 a blob was said to be kept and is not there"
    bad = root / "manifests" / BAD
    if not bad.is_file() or bad.read_bytes() != BAD_MANIFEST:
        yield "I7 the damaged bystander was changed"


def unfinished(root: Path) -> Iterator[str]:
    """What must be gone once dead writers were cleared away and the operation was repeated."""
    for path in sorted(root.rglob("*")):
        place = path.relative_to(root)
        finished = place.parts[0] == "manifests" or (place.parts[0] == "blobs" and _BLOB.fullmatch(path.name))
        finished = finished or (remembered(place) and path.suffix != ".new")
        if path.is_file() and path.name != "lock" and not finished:
            yield f"I5 {place} is left over"


def remembered(place: PurePath) -> bool:
    """Does a store only remember it, so that it may be lost?"""
    return place.parts[:1] == (".localmodels",) and place.parts[1:2] in {("verified",), ("published",)}


def uncollected(root: Path) -> Iterator[str]:
    """Blobs that a collection must have removed."""
    for data in ORPHANS:
        if (root / "blobs" / f"sha256-{digest(data)}").exists():
            yield "I5 a blob that no model names was not collected"


def _manifest(root: Path, place: str, text: bytes) -> Iterator[str]:
    try:
        document = json.loads(text)
        layers = [document["config"], *document["layers"]]
        named = [(layer["digest"].replace(":", "-"), layer["size"]) for layer in layers]
    except (ValueError, KeyError, TypeError):
        yield f"I1 {place} does not parse"
        return
    for file, size in named:
        path = root / "blobs" / file
        if not path.is_file():
            yield f"I2 {place}: {file} is missing"
        elif path.stat().st_size != size or digest(path.read_bytes()) != file.removeprefix("sha256-"):
            yield f"I2 {place}: {file} is not whole"


def _state(found: Models, scene: Scene, *, acknowledged: bool) -> Iterator[str]:
    if acknowledged and found != scene.after:
        yield "I4 it was said to be done and is not"
    elif found not in (scene.before, scene.after):
        yield f"I4 the models are neither those of before nor those of after: {sorted(found)}"
