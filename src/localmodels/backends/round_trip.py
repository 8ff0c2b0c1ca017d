"""One HTTP/1.1 question and its answer, on a connection that somebody else opened.

Every token of every answer passes here, and every request waits for it: a general client takes a quarter of all the
time that the gateway adds to a first token (``docs/why.md``). It is as small as this because nothing is done twice:
what the other side sends is parsed by httptools (the parser of Node.js), silence is timed by one alarm for all answers
of a connection, and a connection that can serve again is given back, not kept here. The one rule: an answer counts as
whole only when HTTP itself says so. And who drips bytes is no better than who is silent: an answer has to begin in
earnest, and one in one piece to end, in a time that its bytes do not renew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import cast

import httptools
from msgspec import Struct

from localmodels.backends.alarm import NEVER, Alarm
from localmodels.core.errors import (
    BackendTimeout,
    Garbled,
    InvalidRequest,
    LocalModelsError,
    StreamCut,
    Unreachable,
)

# Bytes of a body that nobody has read yet; more are left to the socket, and so to the sender.
MOST_WAITING = 2**18
MOST_HEAD = 2**16
# Seconds that an idle connection is kept. llama.cpp closes its own after about 5 s; 3 s failed 0 of 120 requests where
# 15 s failed 2 (measured).
KEEPALIVE = 3.0
# Answers before the answer (RFC 9110, 15.2): 100 to a question that was sent anyway, 103 with hints for browsers.
INTERIM = range(100, 200)
# Bytes a second that a body in one piece comes with at the least, once it comes: half a megabit.
PACE = 2**16


def beginning(asked: float, first_byte: float | None) -> float:
    """Until when a stream has to begin in earnest, in the loop's time."""
    return NEVER if first_byte is None else asked + first_byte


def ending(limit: float, silent: float, size: int) -> float:
    """Until when a body in one piece has to end, in the loop's time, now that so many more bytes of it have come.

    It was computed before its first byte came; so silence is allowed once for all of it, and the way at its pace.

    Args:
        limit: as it was before.
        silent: until when it may be silent, from now on.
        size: bytes.
    """
    return (silent if limit == NEVER else limit) + size / PACE


class Unanswered(Unreachable):
    """The request was sent and the connection closed without an answer: nobody knows whether it was taken up."""

    code = StreamCut.code  # what whoever asks us is told; to him it is no server that cannot be reached


class Patience(Struct, frozen=True):
    """How long to wait, in seconds; None is as long as it takes.

    Defaults are those for other servers (``reliability.md`` part D). Of a stream, ``first_byte`` is from the request to
    its first message, whatever else comes before that. Of an answer in one piece it counts for the head, and anew for
    the first byte of its body, since some servers send the head at once; the body then has ``idle`` in all, and the
    time that its bytes take at the lowest pace.
    """

    connect: float | None = 3.0
    first_byte: float | None = 60.0
    idle: float | None = 120.0


ENDLESS = Patience(None, None, None)
# Takes a piece of a body in the moment it comes; False is that no more is wanted.
Take = Callable[[bytes], bool]
GiveBack = Callable[[asyncio.Transport, Alarm], None]


def written(method: str, path: str, body: bytes | None, fields: str) -> bytes:
    """The bytes of a request.

    Args:
        method: of HTTP.
        path: of the request, with its query.
        body: JSON; None is no body.
        fields: further lines of the head, each with its end.

    Raises:
        InvalidRequest: a path that would not stay one word of its line.
    """
    if not path.isascii() or not path.isprintable() or " " in path:
        raise InvalidRequest(f"not a path: {path[:120]!r}")
    if body is None:
        return f"{method} {path} HTTP/1.1\r\n{fields}\r\n".encode()
    size = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"{method} {path} HTTP/1.1\r\n{fields}{size}\r\n".encode() + body


class RoundTrip(asyncio.Protocol):
    """One request and its answer.

    Args:
        among: holds it while its connection is open.
        patience: how long the other side may be silent.
        give_back: takes the connection, with its alarm, when the answer has ended in good form and the other side keeps
            it open; None closes every connection.
        alarm: of the connection; None where it is new.

    Attributes:
        headers: of the answer, by their names in lower case.
        untouched: has nothing at all come back?
        asked: when the request was sent, in the loop's time.
    """

    def __init__(
        self,
        among: set[RoundTrip],
        patience: Patience = ENDLESS,
        give_back: GiveBack | None = None,
        alarm: Alarm | None = None,
    ) -> None:
        self.status = 0
        self.content_type = ""
        self.headers: Mapping[str, str] = {}
        self.untouched = True
        self.asked = 0.0
        self._among = among
        self._patience = patience
        self._give_back = give_back
        self._head: dict[str, str] = {}
        # Each holds the other, so it goes with the connection: what only the search for garbage frees, stays for long.
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._head_bytes = 0
        self._paused = self._held = False
        self._take: Take | None = None
        self._whole = False
        self._kept = False
        self._failure: LocalModelsError | None = None
        self._wake: asyncio.Future[None] | None = None
        self._limit = NEVER
        self._in_one_piece = True
        self._alarm = alarm or Alarm()

    # For whoever asks.

    async def ask(self, request: bytes) -> None:
        """Sends the request and waits for the head of the answer; without one the connection is closed.

        Raises:
            Unreachable, BackendTimeout, Garbled: there is none.
        """
        try:
            if self._transport is not None:
                self._transport.write(request)
                self.asked = self._alarm.now()
                self._expect(self._patience.first_byte)
            while not self.status:
                self._raise_failure()
                await self._news()
        except BaseException:  # also when the asker leaves: nobody else would close it
            self.close()
            raise

    @property
    def ended(self) -> bool:
        """Has all of it been read?"""
        return self._whole and not self._waiting

    async def piece(self) -> bytes:
        """What has arrived of the body, empty at its end."""
        while not self._waiting:
            if self._whole:
                return b""
            self._raise_failure()
            await self._news()
        data = self._come()
        self._resume()
        return data

    def streamed(self) -> None:
        """It comes message by message; until :meth:`begun` all that comes has the time of a first byte together."""
        self._in_one_piece = False
        self._limit = beginning(self.asked, self._patience.first_byte)
        if self._transport is not None and self._limit < self._alarm.due < NEVER:
            self._by(self._limit)

    def begun(self) -> None:
        """Its first message has come: from now on only silence counts."""
        self._limit = NEVER
        if not self._whole and not self._paused:
            self._expect(self._patience.idle)

    @property
    def pouring(self) -> RoundTrip:
        """Its pieces can be had in the moment they come."""
        return self

    async def pour(self, take: Take) -> None:
        """Hands on each piece of the body in the moment it comes, until the body ends or no more is wanted.

        No task wakes up for a piece: that is most of what passing it on costs. ``take`` runs within the connection's
        own callback; what it raises ends the answer, and comes out here.
        """
        self._take = take
        try:
            if self._waiting:
                self._hand_on()
            while self._pours():
                self._raise_failure()
                await self._news()
            self._raise_failure()
        finally:
            self._take = None

    def hold(self) -> None:
        """Lets the sender wait until :meth:`go_on`."""
        self._held = True
        self._pause()

    def go_on(self) -> None:
        """Takes more."""
        self._held = False
        self._resume()

    def close(self) -> None:
        """Gives the connection back, or closes it if anything is left on it."""
        transport = self._transport
        if transport is None:
            return
        if self._give_back is not None and self._whole and self._kept and not transport.get_write_buffer_size():
            self._resume()
            self._leave()
            self._give_back(transport, self._alarm)
        else:
            transport.abort()

    def _come(self) -> bytes:
        data = self._waiting[0] if len(self._waiting) == 1 else b"".join(self._waiting)
        self._waiting.clear()
        self._waiting_bytes = 0
        return data

    def _pours(self, *, to_its_end: bool = False) -> bool:
        """Do pieces go on in the moment they come? ``to_its_end`` counts the last ones in."""
        return self._take is not None and (to_its_end or not self._whole)

    def _hand_on(self) -> None:
        try:
            if self._take is not None and not self._take(self._come()):
                self._take = None
        except LocalModelsError as error:
            self._take = None
            self._fail(error)
        if not self._held:
            self._resume()

    def _pause(self) -> None:
        if not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
            self._alarm.clear()  # who is not read cannot be blamed for silence

    def _resume(self) -> None:
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
            if not self._whole:
                self._expect(self._patience.idle)

    async def _news(self) -> None:
        self._wake = asyncio.get_running_loop().create_future()
        try:
            await self._wake
        finally:
            self._wake = None

    def _raise_failure(self) -> None:
        if self._failure is not None:
            try:
                raise self._failure
            finally:  # what was raised leads here, so it is not kept; nobody goes on behind it
                self._failure = StreamCut("the answer has failed before")

    # What the connection tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open; also said when a kept connection is taken up."""
        self._transport = cast("asyncio.Transport", transport)
        self._among.add(self)

    def data_received(self, data: bytes) -> None:
        """Bytes of the answer."""
        self.untouched = False
        parser = self._parser
        if self._whole or parser is None:
            self._kept = False  # whatever it is, the next answer would begin with it
            return
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(Garbled(f"the server's answer is not HTTP: {type(error).__name__}"))
        if not self.status:
            self._head_bytes += len(data)
            if self._head_bytes > MOST_HEAD:
                self._fail(Garbled(f"the head of the server's answer is larger than {MOST_HEAD >> 10} KiB"))
        if self._waiting and self._pours(to_its_end=True):
            self._hand_on()
        if not self._pours() or self._failure is not None:
            self._awake()  # else there is nothing for a task to do

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed, from either side."""
        self._leave()
        self._alarm.end()
        if not self.status:
            self._fail(Unanswered("the server closed the connection without an answer"))
        elif self._failure is None and not self._whole:
            # A body without a length ends with its connection, unless that breaks.
            if exc is None and "content-length" not in self._head and "transfer-encoding" not in self._head:
                self._whole = True
            else:
                self._fail(StreamCut("the connection broke in the middle of the answer"))
        self._awake()

    def _leave(self) -> None:
        self._among.discard(self)
        self._transport = self._parser = None
        self._alarm.clear()

    def _fail(self, error: LocalModelsError) -> None:
        self._failure = self._failure or error
        if self._transport is not None:
            self._transport.abort()

    def _awake(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    # How long it may be silent.

    def _expect(self, seconds: float | None) -> None:
        if self._transport is not None:  # else the alarm is another's by now
            self._by(self._limit if seconds is None else min(self._alarm.now() + seconds, self._limit))

    def _by(self, due: float) -> None:
        self._alarm.set(due, self._silent)

    def _silent(self) -> None:
        self._fail(BackendTimeout(f"the server {self._late()}"))
        self._awake()

    def _late(self) -> str:
        if not self.status:
            return "did not answer in time"
        if self._alarm.due < self._limit:
            return "fell silent in the middle of its answer"
        return "did not end its answer in time" if self._in_one_piece else "did not begin its answer in time"

    # What the parser tells.

    def on_message_begin(self) -> None:
        """A head begins."""
        if self._whole:  # behind the answer that was asked for: whoever sends it cannot be asked again
            self._kept = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """A line of the head."""
        if not self.status:
            self._head[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """The head is whole."""
        assert self._parser is not None  # noqa: S101 - it calls
        status = self._parser.get_status_code()
        if self._whole or self.status or status in INTERIM:  # what comes before and behind the answer is none of it
            return
        self.status = status
        self.content_type = self._head.get("content-type", "").partition(";")[0].strip().lower()
        self.headers = self._head
        self._expect(self._patience.first_byte)

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        if self._whole:
            return
        self._waiting.append(body)
        self._waiting_bytes += len(body)
        if self._waiting_bytes > MOST_WAITING:
            self._pause()
            return
        idle = self._patience.idle
        if self._in_one_piece:
            self._limit = NEVER if idle is None else ending(self._limit, self._alarm.now() + idle, len(body))
        if not self._paused:
            self._expect(idle)

    def on_message_complete(self) -> None:
        """The body is whole."""
        if not self.status:
            self._head.clear()
            return
        if not self._whole:
            assert self._parser is not None  # noqa: S101 - it calls
            self._whole = True
            self._kept = self._parser.should_keep_alive()
            self._alarm.clear()
