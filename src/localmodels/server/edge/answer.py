"""The head of an answer, and how its body is told from what follows. Pure.

The one rule: how a body ends is said here and by nobody else, and no value of a header can begin another line (threat
V-33).
"""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus

# How a body ends, where it is not a number of bytes that are still to come.
UNDECIDED = -1  # nobody has said; the first piece decides
CHUNKED = -2
CLOSE = -3  # with its connection, for those who know no chunks
NONE = -4  # there is no body

_NO_CONTENT, _NOT_MODIFIED, _FIRST_FINAL = 204, 304, 200
_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_STATUS_LINES = {code: f"HTTP/1.1 {code} {_PHRASES.get(code, '')}".encode() for code in range(_FIRST_FINAL, 600)}
LAST_CHUNK = b"0\r\n\r\n"


class Opening:
    """A head that is not sent before something follows it.

    Args:
        bodiless: the method is HEAD.
        last: nothing follows on this connection.

    Attributes:
        lines: the head, without the header that says how the body ends and without its end.
        ending: how the body ends: one of the words above, or a number of bytes.
        last: nothing follows on this connection; an application may say so too.

    Raises:
        RuntimeError: a status or a header that HTTP does not allow. The application is wrong.
    """

    __slots__ = ("ending", "last", "lines")

    def __init__(self, status: int, headers: Iterable[tuple[bytes, bytes]], *, bodiless: bool, last: bool) -> None:
        line = _STATUS_LINES.get(status)
        if line is None:
            raise RuntimeError(f"{status} is not the status of an answer")
        lines, length = [line], UNDECIDED
        for name, value in headers:
            if name == b"content-length":
                length = int(value)
                if status == _NO_CONTENT:
                    continue
            elif name == b"transfer-encoding":
                continue
            elif name == b"connection":
                last = last or b"close" in value.lower()
                continue
            lines.append(b"%b: %b" % (name, value))
        if last:
            lines.append(b"connection: close")
        self.lines = b"\r\n".join(lines)
        if self.lines.count(b"\n") != len(lines) - 1 or self.lines.count(b"\r") != len(lines) - 1:
            raise RuntimeError("a header has a line break in it")
        self.ending = NONE if bodiless or status in {_NO_CONTENT, _NOT_MODIFIED} else length
        self.last = last

    def decide(self, version: str, size: int | None) -> bytes:
        """The head's bytes, now that its first piece is known; ``ending`` and ``last`` are decided.

        Args:
            version: of HTTP, that the client speaks.
            size: of the whole body, if this piece is all of it.
        """
        if self.ending != UNDECIDED:
            return self.lines + b"\r\n\r\n"
        if size is not None:
            self.ending = size
            return b"%b\r\ncontent-length: %d\r\n\r\n" % (self.lines, size)
        if version == "1.1":
            self.ending = CHUNKED
            return self.lines + b"\r\ntransfer-encoding: chunked\r\n\r\n"
        self.ending = CLOSE
        if self.last:
            return self.lines + b"\r\n\r\n"
        self.last = True
        return self.lines + b"\r\nconnection: close\r\n\r\n"

    def measured(self, data: bytes) -> bytes:
        """A piece of a body that does not come in chunks, counted; nothing where there is to be none.

        Raises:
            RuntimeError: the body is longer than was said.
        """
        if self.ending >= 0:
            if len(data) > self.ending:
                raise RuntimeError("the body is longer than its content-length")
            self.ending -= len(data)
        return b"" if self.ending == NONE else data


def whole_answer(status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A short answer in one piece, the last on its connection."""
    opening = Opening(status, headers, bodiless=False, last=True)
    return opening.decide("1.1", len(body)) + body
