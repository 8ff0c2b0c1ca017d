"""Where one message of a stream ends and the next begins: lines of JSON, and server-sent events.

Reading is incremental and takes any split of the bytes. The one rule: a message counts only when its end has been seen,
so that a stream cut one byte short is a stream that was cut. Writing goes through one encoder, whose escapes keep every
line end out of a frame (threat V-33).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from localmodels.core.chat import Done, Event
from localmodels.core.errors import Garbled, LocalModelsError, StreamCut
from localmodels.dialects.strict_json import encode

# A longer line is no message of any model server (threat V-22).
MAX_LINE = 16 * 2**20
_BOM = b"\xef\xbb\xbf"
_CR = 0x0D
_LF = 0x0A

NDJSON = "application/x-ndjson"
SSE = "text/event-stream"


def json_line(value: Any) -> bytes:
    """One line of NDJSON."""
    return encode(value) + b"\n"


def sse_event(value: Any) -> bytes:
    """One server-sent event."""
    return b"data: %b\n\n" % encode(value)


SSE_DONE = b"data: [DONE]\n\n"


class Frames(Protocol):
    """Cuts bytes into messages."""

    def feed(self, data: bytes) -> Iterable[bytes]:
        """The messages that these bytes complete.

        Raises:
            Garbled: a message is longer than 16 MiB.
        """
        ...


class Lines:
    """Cuts bytes into lines, whichever of LF, CR LF and CR ends them; a byte order mark at the start is dropped."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._after_cr = False
        self._first = True

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that these bytes complete, without their ends.

        Raises:
            Garbled: a line is longer than 16 MiB.
        """
        if self._after_cr and data:
            self._after_cr = False
            data = data[1:] if data[0] == _LF else data
        if not data:
            return []
        lines = data.splitlines()
        ended = data[-1] in {_LF, _CR}
        self._after_cr = data[-1] == _CR
        rest = b"" if ended else lines.pop()
        if lines and self._parts:
            lines[0] = b"".join((*self._parts, lines[0]))
            self._parts.clear()
            self._size = 0
        self._keep(rest)
        if lines and self._first:
            self._first = False
            lines[0] = lines[0].removeprefix(_BOM)
        return lines

    def _keep(self, rest: bytes) -> None:
        if rest:
            self._parts.append(rest)
            self._size += len(rest)
        if self._size > MAX_LINE:
            raise Garbled(f"the server sent a line longer than {MAX_LINE >> 20} MiB")


class JsonLines:
    """Messages of NDJSON; empty lines keep a connection awake and mean nothing."""

    def __init__(self) -> None:
        self._lines = Lines()

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that these bytes complete."""
        return [line for line in self._lines.feed(data) if line and not line.isspace()]


class ServerSentEvents:
    """The data of server-sent events. Comments (pings), event names, ids and retry times are of no use here."""

    def __init__(self) -> None:
        self._lines = Lines()
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The data of every event that these bytes complete.

        Raises:
            Garbled: a line or an event is longer than 16 MiB.
        """
        events = []
        for line in self._lines.feed(data):
            if not line:
                if self._data:
                    events.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
                    self._data.clear()
                    self._size = 0
            elif line.startswith(b"data:"):
                self._add(line[6:] if line[5:6] == b" " else line[5:])
            elif line == b"data":
                self._add(b"")
        return events

    def _add(self, line: bytes) -> None:
        self._data.append(line)
        self._size += len(line) + 1
        if self._size > MAX_LINE:
            raise Garbled(f"the server sent an event longer than {MAX_LINE >> 20} MiB")


class StreamReader:
    """A dialect's :class:`~localmodels.dialects.protocol.EventReader`, made of how it frames and what a frame says.

    An error comes out after the events before it, in whatever pieces the bytes came: at once when there are none,
    else with the next call. Nothing is read after ``Done``.

    Args:
        frames: cuts the bytes.
        read: the events of one frame; raises what the frame says, or ``Garbled``.
    """

    def __init__(self, frames: Frames, read: Callable[[bytes], Iterable[Event]]) -> None:
        self._frames = frames
        self._read = read
        self._done = False
        self._error: LocalModelsError | None = None

    def feed(self, data: bytes) -> list[Event]:
        """The events completed by these bytes; raises what the server said went wrong."""
        self._raise_error()
        events: list[Event] = []
        if self._done:
            return events
        try:
            for frame in self._frames.feed(data):
                events.extend(self._read(frame))
                if events and isinstance(events[-1], Done):
                    self._done = True
                    break
        except LocalModelsError as error:
            self._error = error
            if not events:
                raise
        return events

    def close(self) -> None:
        """Raises ``StreamCut`` if ``Done`` has not come, or the error that was held back."""
        self._raise_error()
        if not self._done:
            raise StreamCut("the answer ended before its end was said")

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error
