"""From bytes, however they are cut, to one request at a time. No I/O, no clock.

The one rule: the parser never sees a byte behind the message that it reads. A head ends at the first empty line, a body
after as many bytes as were said or with its last chunk, and each message has a parser of its own; so nothing that a
client sends ahead can change what was asked before, and nothing is left over from one request for the next.
"""

from __future__ import annotations

import httptools

from localmodels.core.errors import HeadTooLarge, InvalidRequest, MethodNotAllowed
from localmodels.server.edge.bounds import Bounds
from localmodels.server.edge.request import (
    CHUNKED,
    END,
    Headers,
    Request,
    check_beginning,
    check_line,
    path_so_far,
    request_of,
    without_upgrade,
)

# Bytes of framing for each byte of a body in chunks: the size and two ends of lines for a chunk of one byte, and more
# for clients that write long sizes. Beyond that it is somebody who makes work (CVE-2023-39326).
MOST_FRAMING = 16


class Reader:
    """The requests of one connection.

    Attributes:
        request: when its head is whole.
        pieces: of its body, that came since they were last taken away.
        whole: has all of it been read? What comes now is kept in ``ahead``.
        ahead: bytes behind the request.
    """

    __slots__ = (
        "_bounds", "_broken", "_fed", "_head", "_headers", "_held", "_keep_alive", "_left", "_parser", "_skipped",
        "_told", "ahead", "pieces", "request", "whole",
    )  # fmt: skip

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._held = bytearray()
        self._begin()

    def _begin(self) -> None:
        self._headers: Headers = []
        self._parser: httptools.HttpRequestParser | None = None
        self._left = 0
        self._fed = self._told = 0  # bytes of a body in chunks, and those of them that are body
        self._broken = False  # does what was fed last end within an end of line?
        self._keep_alive = self._skipped = False
        self._head = b""
        self.request: Request | None = None
        self.pieces: list[bytes] = []
        self.whole = False
        self.ahead = b""

    @property
    def begun(self) -> bool:
        """Is there anything of a request?"""
        return bool(self._held) or self.request is not None

    @property
    def path(self) -> str:
        """Of the request, as soon as it is known; empty before."""
        if self.request is not None:
            return self.request.path
        return path_so_far((self._head or self._held)[: self._bounds.line])

    @property
    def bodiless(self) -> bool:
        """Is an answer of it to have no body?"""
        return (self._head or self._held)[:5] == b"HEAD "

    def next(self) -> bytes:
        """Makes ready for the next request; what came of it already, to be fed."""
        ahead = self.ahead
        self._begin()
        return ahead

    def feed(self, data: bytes) -> None:
        """Takes some bytes.

        Raises:
            CallerError: they are no request that can be answered. Nothing more can be read then.
        """
        if self.request is None:
            self._feed_head(data)
        elif self.whole:
            self.ahead += data
        else:
            self._feed_body(data)

    # The head.

    def _feed_head(self, data: bytes) -> None:
        held = self._held
        if not held and data[:1] != b"\r":
            end = data.find(END)
            if end >= 0:
                self._read_head(data[: end + 4])
                self._after_head(data[end + 4 :])
                return
        held += data
        fresh = len(held) - len(data)
        if not self._skipped and held[:1] == b"\r":
            # One empty line before a request is an old client's mistake (RFC 9112 2.2).
            if held == b"\r":
                return
            if held[1:2] == b"\n":
                del held[:2]
                fresh, self._skipped = 0, True
        if not held:
            return
        end = held.find(END, max(0, fresh - 3))
        if end < 0:
            check_beginning(held, max(0, fresh - 1), self._bounds)
            return
        head, rest = bytes(held[: end + 4]), bytes(held[end + 4 :])
        held.clear()
        self._read_head(head)
        self._after_head(rest)

    def _read_head(self, head: bytes) -> None:
        self._head = head
        line = check_line(head, self._bounds)
        self._parse(head)
        headers, self._headers = self._headers, []  # what comes now are trailers, which nobody reads
        if len(headers) > self._bounds.lines:
            raise HeadTooLarge(f"the request has more than {self._bounds.lines} headers")
        request = request_of(line, headers, keep_alive=self._keep_alive)
        self._left = request.length
        self.whole = request.length == 0
        self.request = request
        if request.length != CHUNKED:
            self._parser = None  # each holds the other; only a body in chunks is parsed further

    def _parse(self, head: bytes) -> None:
        self._parser = httptools.HttpRequestParser(self)
        try:
            self._parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            self._headers = []
            self._parse(without_upgrade(head))
        except httptools.HttpParserInvalidMethodError as error:
            raise MethodNotAllowed(f"{head.partition(b' ')[0].decode()} is not answered here") from error
        except httptools.HttpParserError as error:
            raise InvalidRequest(f"the head is not HTTP: {error}") from error

    def _after_head(self, rest: bytes) -> None:
        if self.whole:
            self.ahead = rest
        elif rest:
            self._feed_body(rest)

    # The body.

    def _feed_body(self, data: bytes) -> None:
        if self._left == CHUNKED:
            self._feed_chunks(data)
            return
        if len(data) > self._left:
            data, self.ahead = data[: self._left], data[self._left :]
        self._left -= len(data)
        self.pieces.append(data)
        self.whole = self._left == 0

    def _feed_chunks(self, data: bytes) -> None:
        """Feeds the parser up to each empty line, since the last chunk ends with one; it knows whether it was that."""
        start = 0
        while start < len(data) and not self.whole:
            if self._broken and start < 3:
                stop = start + 1  # the empty line may have begun in the bytes before
            else:
                end = data.find(END, max(0, start - 3))  # or in those that were fed one by one
                stop = len(data) if end < 0 else end + 4
            self._feed_parser(data[start:stop])
            start = stop
        self._broken = data[-1] in b"\r\n"
        self.ahead = data[start:]
        if self.whole:
            self._parser = None

    def _feed_parser(self, data: bytes) -> None:
        assert self._parser is not None  # noqa: S101 - there is a head
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            raise InvalidRequest(f"the body is not in chunks: {error}") from error
        self._fed += len(data)
        if self._fed - self._told > MOST_FRAMING * self._told + self._bounds.head:
            raise InvalidRequest("the body has more framing than contents")

    # What the parser tells. It looks for each of these on every request, and one that is missing costs an exception.

    on_message_begin = on_url = on_chunk_header = on_chunk_complete = None

    def on_header(self, name: bytes, value: bytes) -> None:
        """A line of the head, or a trailer."""
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is whole; behind a message the parser knows no more what was said of its connection."""
        assert self._parser is not None  # noqa: S101 - it calls
        self._keep_alive = self._parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        """Some of a body in chunks."""
        self._told += len(body)
        self.pieces.append(body)

    def on_message_complete(self) -> None:
        """The last chunk was read, or a head behind which there is nothing."""
        self.whole = True
