"""Headers of model files, read once and remembered.

To read a header is to walk the whole vocabulary, a tenth of a second for the largest. The rule: what is remembered is
remembered by path, size and time of change, so that a file which was replaced is read again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from localmodels.artifacts.gguf import read_header
from localmodels.artifacts.gguf_header import Header

Read = Callable[[Path], Header]


class Headers:
    """At most ``capacity`` headers; of a file that cannot be read none, so that it heals when the file does."""

    def __init__(self, *, capacity: int = 512, read: Read = read_header) -> None:
        @lru_cache(maxsize=capacity)
        def remembered(path: str, mtime_ns: int, size: int) -> Header:
            return read(Path(path))

        self._remembered = remembered

    def of(self, path: str, mtime_ns: int, size: int) -> Header:
        """The header of the file at ``path``, which was last changed at ``mtime_ns`` and is ``size`` bytes long.

        ``mtime_ns`` may be any number that is another when the file is.

        Raises:
            ModelDamaged: it is not a sound GGUF file.
        """
        return self._remembered(path, mtime_ns, size)
