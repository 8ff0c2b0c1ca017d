"""What a hostile folder is: a sound one of some base, changed, and what must become of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from tests.hostile_folders.bases import BASES

Fate = Literal["refused", "made", "either"]
Change = Callable[[Path], object]
Body = bytes | Callable[[], bytes]


@dataclass(frozen=True)
class Hostile:
    """One kind.

    Attributes:
        change: what is done to the folder.
        fate: what must become of it; of ``either``, a file that is made must be a sound one.
        says: the refusal has this in it, or one of these with ``|`` between: a file, a tensor or a field.
        base: the sound folder, one of ``BASES``.
        target: file type that is asked for.
    """

    change: Change
    fate: Fate = "refused"
    says: str = ""
    base: str = "llama"
    target: str = ""

    def is_named(self, message: str) -> bool:
        """Does a refusal say what is wrong?"""
        return any(said in message for said in self.says.split("|"))

    def write(self, place: Path) -> None:
        """The folder, in a directory that is not there yet; an adapter lies in ``adapter/`` of it."""
        for name, raw in _sound(self.base).items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(raw)
        self.change(place)


@cache
def _sound(base: str) -> Mapping[str, bytes]:
    """The files of a sound folder."""
    with TemporaryDirectory() as directory:
        place = Path(directory, "model")
        BASES[base](place)
        return {path.relative_to(place).as_posix(): path.read_bytes() for path in place.rglob("*") if path.is_file()}


def files_of(place: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Paths by name as a job has them: of the model, and of the adapter."""
    found = {path.relative_to(place).as_posix(): str(path) for path in sorted(place.rglob("*")) if not path.is_dir()}
    model = {name: path for name, path in found.items() if not name.startswith("adapter/")}
    adapter = {name.removeprefix("adapter/"): path for name, path in found.items() if name.startswith("adapter/")}
    return model, adapter


def edited(name: str, edit: Callable[[Any], object]) -> Change:
    """Changes a JSON file; what ``edit`` gives back takes the place of all, unless it is None."""

    def change(place: Path) -> None:
        path = place / name
        values = json.loads(path.read_text())
        given = edit(values)
        path.write_text(json.dumps(values if given is None else given))

    return change


def with_field(name: str, *keys: str | int, value: object) -> Change:
    """Puts a value into a JSON file; ``...`` takes the field away."""

    def edit(values: Any) -> None:
        for key in keys[:-1]:
            values = values[key]
        if value is ...:
            values.pop(keys[-1], None)
        else:
            values[keys[-1]] = value

    return edited(name, edit)


def replaced(name: str, data: Body | str) -> Change:
    """Puts these bytes in the place of a file."""
    return lambda place: (place / name).write_bytes(data.encode() if isinstance(data, str) else made(data))


def made(body: Body) -> bytes:
    """Large ones are made when they are written, for all of them together would fill the memory."""
    return body() if callable(body) else body


def removed(name: str) -> Change:
    """Takes a file away."""
    return lambda place: (place / name).unlink()


def raw_field(name: str, field: str, text: str) -> Change:
    """Writes a field of an object as this text, which JSON's writer would not give."""

    def change(place: Path) -> None:
        path = place / name
        values = json.loads(path.read_text())
        values[field] = "@here@"
        path.write_text(json.dumps(values).replace('"@here@"', text))

    return change


Corpus = Mapping[str, Hostile]
