"""One request and its answer: what ASGI calls ``receive`` and ``send``, and the same answer as a sink of bytes.

The one rule: it ends once, completely or not, and whatever is called after that does nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Protocol

from starlette.types import Message

from localmodels.core.errors import LocalModelsError
from localmodels.server.edge.answer import CHUNKED, CLOSE, LAST_CHUNK, Opening
from localmodels.server.edge.request import Request
from localmodels.server.edge.seam import Sink

log = logging.getLogger(__name__)

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_DISCONNECT: Message = {"type": "http.disconnect"}


class Line(Protocol):
    """The connection, as far as one exchange is concerned."""

    @property
    def paused(self) -> bool: ...

    @property
    def closes(self) -> bool: ...

    @property
    def send(self) -> Callable[[bytes], None]: ...

    async def writable(self) -> None: ...

    def taken(self, *, all_of_it: bool) -> None: ...

    def asked(self) -> None: ...

    def answered(self, *, last: bool) -> None: ...

    def ended(self, task: asyncio.Task[None]) -> None: ...

    def failed(self, *, begun: bool, torn: bool) -> None: ...


class Exchange:
    """One request and its answer.

    Args:
        line: the connection.
        request: what was asked.
        portion: bytes of a body that an application which takes it whole is woken for before that; who sends byte by
            byte would wake it a hundred thousand times.

    Attributes:
        cancels: see :class:`~localmodels.server.edge.seam.Edge`.
        begun: has anything of the answer been written?
        over: has it ended, or has the client left?
        streamed: the application takes the body piece by piece.
        unread: bytes of the body that it has not taken.
        on_resume: called when the client has taken enough of the answer.
        refusal: see :class:`~localmodels.server.edge.seam.Edge`.
    """

    __slots__ = (
        "_body", "_expects", "_given", "_line", "_lost", "_news", "_opening", "_portion", "_request", "_whole",
        "begun", "on_resume", "over", "refusal", "streamed", "task", "unread",
    )  # fmt: skip
    cancels = True

    def __init__(self, line: Line, request: Request, portion: int) -> None:
        self._line = line
        self._request = request
        self._portion = portion
        self._expects = request.expects
        self._body: list[bytes] = []
        self._whole = self._given = self._lost = False
        self._news: asyncio.Event | None = None
        self._opening: Opening | None = None
        self.begun = self.over = self.streamed = False
        self.unread = 0
        self.on_resume: Callable[[], None] | None = None
        self.refusal: LocalModelsError | None = None
        self.task: asyncio.Task[None] | None = None

    # For the connection.

    def feed(self, pieces: list[bytes], size: int, *, whole: bool) -> None:
        """Some of the body has come."""
        self._whole = whole
        if pieces:
            self._body += pieces
            self.unread += size
            self._expects = False  # it did not wait to be asked
        if self._news is not None and self._worth_taking():
            self._news.set()

    @property
    def waits_to_be_asked(self) -> bool:
        """Will the body not come before the application asks for it?"""
        return self._expects

    @property
    def torn(self) -> bool:
        """Does only a broken connection say that the answer was cut? One that is closed is its end."""
        return self.begun and self._opening is not None and self._opening.ending == CLOSE

    def lose(self, refusal: LocalModelsError | None = None) -> None:
        """The client has left, or is sent away for a reason: the work for it ends."""
        if self.over:
            return
        self.over = self._lost = True
        self._tell()
        if self.task is not None:
            self.refusal = refusal
            self.task.cancel()

    def task_ended(self, task: asyncio.Task[None]) -> None:
        """The application is done; an answer that it owes will not come."""
        self._line.ended(task)
        self.task = None  # a cancelled one remembers by what, and that leads back here
        error = None if task.cancelled() else task.exception()
        if isinstance(error, LocalModelsError):
            log.info("the answer at %s broke off: %s", self._request.path, error)
        elif error is not None:
            log.error("the application failed at %s", self._request.path, exc_info=error)
        if not self.over:
            self.over = True
            self._line.failed(begun=self.begun, torn=self.torn)

    def _worth_taking(self) -> bool:
        """Has so much of the body come that the application is to have it?"""
        return self._whole or self.unread >= (1 if self.streamed else self._portion)

    def _tell(self) -> None:
        if self._news is not None:
            self._news.set()

    # For the application.

    @property
    def sink(self) -> Sink:
        """The answer, as a sink."""
        return self

    @property
    def paused(self) -> bool:
        """Should no more be written for now?"""
        return self._line.paused

    def stream_body(self) -> None:
        """The body is taken piece by piece."""
        self.streamed = True

    async def receive(self) -> Message:
        """ASGI's: the body as it comes, then that the client has left or has its answer."""
        if self._expects and not self._whole and not self.over:
            self._expects = False
            self._line.send(CONTINUE)
            self._line.asked()
        while self._given or not self._worth_taking():
            if self.over:
                return _DISCONNECT
            self._news = self._news or asyncio.Event()
            self._news.clear()
            await self._news.wait()
        if self.over:
            return _DISCONNECT
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body = []
        self.unread = 0
        self._given = self._whole
        self._line.taken(all_of_it=self._whole)
        return {"type": "http.request", "body": body, "more_body": not self._whole}

    async def send(self, message: Message) -> None:
        """ASGI's. Waits while the client has much to take.

        Raises:
            RuntimeError: messages in an order, or a body of a length, that the head does not allow.
        """
        if self._line.paused:
            await self._line.writable()
        kind = message["type"]
        if kind == "http.response.body":
            if message.get("more_body"):
                self.write(message.get("body", b""))
            else:
                self.end(message.get("body", b""))
        elif kind == "http.response.start":
            self.begin(message["status"], message.get("headers", ()))
        else:
            raise RuntimeError(f"{kind!r} is nothing that an HTTP server sends")

    def begin(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """The head; it goes out with the first piece.

        Raises:
            RuntimeError: it has begun already, or it is no head.
        """
        if self._lost:
            return
        if self._opening is not None:
            raise RuntimeError("the answer has begun already")
        # Who is answered before all was read may still be sending: nothing is read behind what nobody took.
        last = not self._request.keep_alive or not self._whole or self._line.closes
        self._opening = Opening(status, headers, bodiless=self._request.method == "HEAD", last=last)

    def write(self, data: bytes) -> None:
        """A piece of the body; an empty one sends the head."""
        opening = self._opening
        if self.over or opening is None:
            self._check_writable()
            return
        head = b""
        if not self.begun:
            self.begun = True
            head = opening.decide(self._request.version, None)
        if opening.ending == CHUNKED:
            framed = b"%b%x\r\n%b\r\n" % (head, len(data), data) if data else head
        else:
            framed = head + opening.measured(data)
        if framed:
            self._line.send(framed)

    def end(self, data: bytes = b"") -> None:
        """The last piece of the body.

        Raises:
            RuntimeError: the body has another length than was said.
        """
        opening = self._opening
        if self.over or opening is None:
            self._check_writable()
            return
        head = b""
        if not self.begun:
            self.begun = True
            head = opening.decide(self._request.version, len(data))
        if opening.ending == CHUNKED:
            framed = b"%b%x\r\n%b\r\n0\r\n\r\n" % (head, len(data), data) if data else head + LAST_CHUNK
        else:
            framed = head + opening.measured(data)
            if opening.ending > 0:
                raise RuntimeError(f"the body is {opening.ending} bytes shorter than its content-length")
        self.over = True
        if framed:
            self._line.send(framed)
        if self._news is not None:
            self._news.set()
        self._line.answered(last=opening.last)

    def _check_writable(self) -> None:
        """Nobody minds what is written to a client that has left.

        Raises:
            RuntimeError: the answer has not begun, or has ended.
        """
        if not self._lost:
            raise RuntimeError("there is no answer to write to: it has not begun, or it has ended")
