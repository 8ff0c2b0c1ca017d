"""What the child says, read by whoever started it. Does no I/O: it asks for the next bytes.

The rule: the child read what a stranger wrote and may have been taken over, so nothing that it says is believed: names
are checked again, files and bytes are counted, and every sign of life must tell of progress.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from localmodels.artifacts.archive.job import Head, Outline, Seen, Whole
from localmodels.artifacts.archive.limits import MOST_ENTRIES
from localmodels.artifacts.file_names import Names, checked_name
from localmodels.artifacts.model_files import fate
from localmodels.core.errors import EngineError, InvalidRequest

_LONGEST_LINE = 64 * 1024
_Said = Seen | Outline | Head | Whole


class Entry:
    """A file that comes out.

    Attributes:
        name: relative to the model's folder, with ``/``; checked, and no other file's of this archive.
        size: bytes; so many come, or an error.
        pieces: them, in order; to be taken before the next entry is, or they are lost.
    """

    def __init__(self, name: str, size: int, pieces: Iterator[bytes]) -> None:
        self.name, self.size, self.pieces = name, size, pieces


class Transcript:
    """One child's words; see :mod:`.job` for their order.

    Args:
        more: gives the next bytes, none at the end; what it raises passes through.
        most_bytes: that may come out.
        seen: is told of every sign of life.
    """

    def __init__(self, more: Callable[[], bytes], most_bytes: int, seen: Callable[[int], None]) -> None:
        self._more = more
        self._most_bytes = most_bytes
        self._seen = seen
        self._done = 0
        self._pending = b""
        self._outline: Outline | None = None

    def outline(self) -> Outline:
        """What will come out.

        Raises:
            EngineError: the child says what cannot be.
        """
        if self._outline is None:
            said = self._next()
            if not isinstance(said, Outline):
                raise _impossible("did not say what will come out")
            if not 0 < said.files <= MOST_ENTRIES or not 0 <= said.size <= self._most_bytes:
                raise _impossible("wants to give more than it may")
            self._outline = said
        return self._outline

    def entries(self) -> Iterator[Entry]:
        """The files as they come; ends when all of them came whole. To be asked for once.

        Raises:
            EngineError: as :meth:`outline`.
        """
        outline = self.outline()
        names = Names()
        files = size = 0
        while isinstance(said := self._next(), Head):
            files, size = files + 1, size + said.size
            if said.size < 0 or files > outline.files or size > outline.size:
                raise _impossible("gives more than it said")
            _check_name(said.name, names)
            pieces = self._pieces(said.size)
            yield Entry(said.name, said.size, pieces)
            for _ in pieces:  # what nobody took
                pass
        if not isinstance(said, Whole) or (files, size) != (outline.files, outline.size):
            raise _impossible("ended before its time")
        if self._pending or self._more():
            raise _impossible("has more to say than it should")

    def _pieces(self, left: int) -> Iterator[bytes]:
        while left:
            data = self._pending or self._awaited()
            self._pending = data[left:]
            piece = data[:left] if self._pending else data
            left -= len(piece)
            yield piece

    def _next(self) -> Outline | Head | Whole:
        """What is said next, signs of life apart."""
        while isinstance(said := self._line(), Seen):
            if said.done <= self._done:
                raise _impossible("makes no progress")
            self._done = said.done
            self._seen(said.done)
        return said

    def _line(self) -> _Said:
        begun = bytearray()
        while b"\n" not in self._pending:
            begun += self._pending
            self._pending = self._awaited()
            if len(begun) > _LONGEST_LINE:
                raise _impossible("talks without end")
        line, _, self._pending = self._pending.partition(b"\n")
        try:
            said: _Said = msgspec.json.decode(begun + line, type=_Said)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise _impossible("says what makes no sense") from None
        return said

    def _awaited(self) -> bytes:
        data = self._more()
        if not data:
            raise _impossible("ended before its time")
        return data


def _check_name(name: str, names: Names) -> None:
    try:
        parts = tuple(checked_name(name).split("/"))
        names.add(parts, folder=False)
        taken = fate(parts).taken
    except InvalidRequest as error:
        raise _impossible(f"offers a file that it should have refused: {error}") from None
    if not taken:
        raise _impossible(f"offers a file that is nothing of a model: {name}")


def _impossible(what: str) -> EngineError:
    return EngineError(f"the process that unpacks {what}")
