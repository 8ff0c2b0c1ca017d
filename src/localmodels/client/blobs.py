"""Files on their way to a server's store."""

from __future__ import annotations

import hashlib
from io import FileIO
from pathlib import Path

PIECE = 2**20


def digest_of(file: Path) -> str:
    """``sha256:`` and the digest of a file's contents."""
    with file.open("rb") as source:
        return f"sha256:{hashlib.file_digest(source, 'sha256').hexdigest()}"


def opened(file: Path) -> FileIO:
    """The file, to be read as it comes."""
    return FileIO(file)
