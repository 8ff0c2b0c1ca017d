"""A stream on its way through: cut into whole frames, judged, and passed on byte for byte.

The one rule: a frame goes out as it came or not at all, and an end only when it is proven; what is broken, cut or an
error ends the passage, and whoever asked writes that down in the dialect's own way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from localmodels.core.errors import Garbled, LocalModelsError, StreamCut
from localmodels.dialects.framing import MAX_LINE, NDJSON, SSE
from localmodels.dialects.peek import Way

# A blank line ends a server-sent event; the line before it ends with LF whichever of LF and CR LF a server writes.
_ENDS: Mapping[str, re.Pattern[bytes]] = {SSE: re.compile(rb"\n\r?\n"), NDJSON: re.compile(rb"\n")}
_LAST: Mapping[str, tuple[bytes, ...]] = {SSE: (b"\n\n", b"\n\r\n"), NDJSON: (b"\n",)}
_LONGEST_END = 3
# With which the lines of an event begin (WHATWG HTML, 9.2.6); a colon alone begins a comment.
_FIELDS = (b"data", b"event", b"id", b"retry", b":")
_BOM = b"\xef\xbb\xbf"


class Passage:
    """One stream on its way through.

    Args:
        way: of its dialect.
        hide_usage: take out the message that is there only because we asked for it.

    Attributes:
        judge: what it has said so far.
        messages: how many those were.
    """

    def __init__(self, way: Way, *, hide_usage: bool = False) -> None:
        self.judge = way.judge()
        self.messages = 0
        self._type = way.content_type
        self._hide = hide_usage
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._tail = b""
        self._failure: LocalModelsError | None = None

    def feed(self, data: bytes) -> bytes:
        """The whole frames that these bytes complete. What stands behind the end is dropped.

        An error comes out after the frames before it: at once when there are none, else with the next call.

        Raises:
            LocalModelsError: the server says that it failed, or sends what is none of its dialect.
        """
        if self._failure is not None:
            raise self._failure
        if self._over():
            return b""
        frames = self._whole(data)
        out = []
        try:
            for frame in frames:
                hidden = self._seen(frame)
                if not (hidden and self._hide):
                    out.append(frame)
                if self._over():
                    break
        except LocalModelsError as error:
            self._failure = error
            if not out:
                raise
        return b"".join(out)

    def close(self) -> None:
        """Tells that the connection ended.

        Raises:
            StreamCut: the end has not been said; or the error that was held back.
        """
        if self._failure is not None:
            raise self._failure
        if not self.judge.done:
            raise StreamCut("the answer ended before its end was said")

    def _over(self) -> bool:
        return self.judge.done

    def _whole(self, data: bytes) -> list[bytes]:
        """The frames that end in these bytes, each with its end."""
        probe = self._tail + data
        end = max(at + len(mark) if (at := probe.rfind(mark)) >= 0 else 0 for mark in _LAST[self._type])
        cut = end - len(self._tail)
        if cut <= 0:
            self._hold(data)
            return []
        whole = b"".join((*self._held, data[:cut]))
        self._held.clear()
        self._held_bytes = 0
        self._tail = b""
        self._hold(data[cut:])
        ends = [found.end() for found in _ENDS[self._type].finditer(whole)]
        ends[-1] = len(whole)  # an empty line too many belongs to the frame before it
        return [whole[start:stop] for start, stop in zip([0, *ends], ends, strict=False)]

    def _hold(self, data: bytes) -> None:
        if not data:
            return
        self._held.append(data)
        self._held_bytes += len(data)
        self._tail = (self._tail + data)[-_LONGEST_END:]
        if self._held_bytes > MAX_LINE:
            raise Garbled(f"the server sent a message longer than {MAX_LINE >> 20} MiB")

    def _seen(self, frame: bytes) -> bool:
        if not frame.isascii():
            _check_utf8(frame)
        message = _data(frame) if self._type == SSE else frame.strip()
        if not message:
            return False
        self.messages += 1
        return self.judge.see(message)


def _check_utf8(frame: bytes) -> None:
    try:
        frame.decode()
    except UnicodeDecodeError as error:
        raise Garbled("the server sent what is not UTF-8") from error


def _data(frame: bytes) -> bytes:
    """What a server-sent event says; nothing, where it is a comment.

    Raises:
        Garbled: a line of it is neither a field nor a comment.
    """
    if frame.startswith(b"data: {") and frame.count(b"\n") == 2:
        return frame[6:].strip()
    lines = frame.removeprefix(_BOM).splitlines()
    if not all(line.startswith(_FIELDS) for line in lines if line):
        raise Garbled("the server sent what is no event of a stream")
    return b"\n".join(line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:"))
