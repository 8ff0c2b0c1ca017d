"""What is uploaded to become a model: a file as it is, or a folder packed on its way, as a form (seed 001).

The rule: the size of all is known before the first byte is sent, nothing is packed on disk or in memory, and what a
server would refuse in a folder stays at home: its name is told instead. Nor does a link lead out of the folder: nobody
can make others send their own files by giving them one.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Mapping
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self

from msgspec import Struct

from localmodels.artifacts.file_names import Names, checked_name
from localmodels.artifacts.model_files import (
    is_checkpoint,
    is_gguf,
    is_pickle,
    is_safetensors,
    is_sent,
    lies_in,
)
from localmodels.core.artifact_names import FIELD
from localmodels.core.errors import InvalidRequest
from localmodels.core.library import Progress

PIECE = 2**20
_BLOCK = 512  # POSIX.1: tar
_END = bytes(2 * _BLOCK)
_DEEPEST = 2  # transformers and sentence-transformers write folders in the model's

# As many boundaries as there are numbers of 24 digits: none of them is in a file by chance.
_BOUNDARY_BYTES = 12


class Packed(Struct, frozen=True):
    """A file of a folder: its name there, where it is, and its bytes."""

    name: str
    path: Path
    size: int


class Contents(Struct, frozen=True):
    """What of a folder is sent, and the names of what is left out; those of folders end with a slash."""

    files: tuple[Packed, ...]
    left_out: tuple[str, ...]


def contents(folder: Path) -> Contents:
    """Looks through a folder for what of it is sent.

    Raises:
        InvalidRequest: as :func:`model_files`; or no server would take its files together, or weights of such a name.
        OSError: it cannot be read.
    """
    found, names = model_files(folder), Names()
    for file in found.files:
        names.add(tuple(file.name.split("/")), folder=False)
    for name in found.left_out:
        if _is_weights(name):
            checked_name(name)
    return found


def model_files(folder: Path) -> Contents:
    """Looks through a folder for what a model is made of; links within it have been followed.

    Raises:
        InvalidRequest: there is nothing in it that a model could be made of, or a link that leads out of it.
        OSError: it cannot be read.
    """
    files, left_out = [], []
    for path in sorted(_inside(folder, _DEEPEST)):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() and not path.exists():
            raise InvalidRequest(f"{name} is a link to nowhere")
        if path.is_dir() and not path.is_symlink():
            left_out.append(f"{name}/")
        elif path.is_file() and is_sent(name):
            files.append(Packed(name, _target(folder, name, path), path.stat().st_size))
        else:
            left_out.append(name)
    if not any(_is_weights(file.name) for file in files):
        pickle = next(filter(is_pickle, left_out), "")
        hint = f"; {pickle} is a pickle: save the model as safetensors" if pickle else ""
        raise InvalidRequest(f"there are no safetensors or GGUF files in {folder}{hint}")
    return Contents(tuple(files), tuple(left_out))


def _target(folder: Path, name: str, path: Path) -> Path:
    """Where a file really lies; in the folder, or it is refused."""
    target = path.resolve()
    if not lies_in(folder.resolve(), target):
        raise InvalidRequest(f"{name} is a link that leads out of the folder {str(folder)!r}; copy the file")
    return target


def _is_weights(name: str) -> bool:
    return is_safetensors(name) or is_gguf(name)


def _inside(folder: Path, depth: int) -> Iterator[Path]:
    """What is not hidden: files, links, and the folders that are not looked into."""
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_dir() and not path.is_symlink():
            if depth > 1 and not is_checkpoint(path.name):
                yield from _inside(path, depth - 1)
            else:
                yield path
        elif path.is_file() or path.is_symlink():
            yield path


def placed(path: Path | str) -> Path:
    """The path with the name that it has for people: the last part, and of ``.`` and ``..`` what they stand for."""
    path = Path(path).absolute()
    return path.resolve() if path.name in {"", ".."} else path


class Parcel:
    """A file or a folder on its way, as the body of a form; a context manager.

    Args:
        path: of a file that is sent as it is, or of a folder, which becomes a tar.
        fields: what goes before it.

    Attributes:
        name: of the file that arrives.
        left_out: names of files in a folder that are not sent.
        size: bytes of the body; ``done`` of them were read.
        content_type: of the body.

    Raises:
        InvalidRequest: nothing could become of it.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path | str, fields: Mapping[str, str]) -> None:
        path = placed(path)
        folder = path.is_dir()
        inside = contents(path) if folder else Contents((Packed(path.name, path, path.stat().st_size),), ())
        self.name = f"{path.name}.tar" if folder else path.name
        self.left_out = inside.left_out
        boundary = os.urandom(_BOUNDARY_BYTES).hex()
        self.content_type = f"multipart/form-data; boundary={boundary}"
        head, tail = _form(boundary, fields, self.name)
        files = inside.files
        heads = [_tar_head(file) for file in files] if folder else [b""]
        packed = sum(len(one) + _padded(file.size) for one, file in zip(heads, files, strict=True)) + len(_END)
        self.size = len(head) + (packed if folder else files[0].size) + len(tail)
        self.done = 0
        self._open: FileIO | None = None
        self._pieces = self._parts(head, heads, files, tail, folder=folder)

    def read(self) -> bytes:
        """The next piece; empty at the end.

        Raises:
            InvalidRequest: a file has changed meanwhile.
            OSError: it cannot be read.
        """
        data = next(self._pieces, b"")
        self.done += len(data)
        return data

    def progress(self) -> Progress:
        """How far it is sent."""
        return Progress(f"uploading {self.name}", total=self.size, completed=self.done)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._open is not None:
            self._open.close()

    def _parts(
        self, head: bytes, heads: list[bytes], files: tuple[Packed, ...], tail: bytes, *, folder: bool
    ) -> Iterator[bytes]:
        yield head
        for before, file in zip(heads, files, strict=True):
            if before:
                yield before
            yield from self._file(file)
            if folder and (padding := _padded(file.size) - file.size):
                yield bytes(padding)
        yield (_END if folder else b"") + tail

    def _file(self, file: Packed) -> Iterator[bytes]:
        left = file.size
        self._open = FileIO(file.path)
        while left:
            data = self._open.read(min(PIECE, left))
            if not data:
                raise InvalidRequest(f"{file.name} became shorter while it was sent")
            left -= len(data)
            yield data
        self._open.close()
        self._open = None


def _tar_head(file: Packed) -> bytes:
    tar = importlib.import_module("tarfile")  # here, since every command of ours would wait for it
    about = tar.TarInfo(file.name)
    about.size = file.size
    about.mode = 0o600
    head: bytes = about.tobuf(tar.PAX_FORMAT)
    return head


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _form(boundary: str, fields: Mapping[str, str], filename: str) -> tuple[bytes, bytes]:
    """What stands before the file and after it."""
    part = f'--{boundary}\r\nContent-Disposition: form-data; name="'
    head = "".join(f'{part}{name}"\r\n\r\n{text}\r\n' for name, text in fields.items())
    head += f'{part}{FIELD}"; filename="{_quoted(filename)}"\r\nContent-Type: application/octet-stream\r\n\r\n'
    return head.encode(), f"\r\n--{boundary}--\r\n".encode()


def _quoted(filename: str) -> str:
    """As browsers write a name in quotes (WHATWG HTML, multipart/form-data)."""
    return filename.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
