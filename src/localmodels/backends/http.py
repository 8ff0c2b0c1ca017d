"""HTTP as a backend needs it: one POST, answered whole or as a stream of bytes, with every failure named.

The one rule: what goes wrong comes out as an error of ``core.errors``, and dropping a stream closes its connection at
once, because that is the only sign by which the other side learns that nobody listens any more. How the bytes travel is
the business of a :class:`Carrier`: ``tcp`` and ``internet`` for other servers, ``unix`` for our own runners. And no
error has the key in it that the server was sent, which it may have said again: who hears of the error later may know
another key by then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Protocol

from localmodels.backends.round_trip import Take
from localmodels.core.chat import Done, Event
from localmodels.core.errors import Garbled, LocalModelsError
from localmodels.core.secrets import Secret
from localmodels.dialects.passage import Passage
from localmodels.dialects.protocol import EventReader

ReadError = Callable[[int, bytes, float | None], LocalModelsError]
NO_KEY = Secret("")

# An answer in one piece larger than this is not one (threat V-22).
MAX_ANSWER = 32 * 2**20
# Seconds for the end of an answer whose last event has come: it travels with that event or right behind it.
TAIL = 0.05
# Seconds for what an error says of itself, and its bytes: it stands right behind its status, which counts without it.
REASON = 2.0
MOST_REASON = 2**20
# Bytes of blank lines and comments before the first message. They are kept until it comes: what is passed on promises
# an answer, and no other server is asked for it then.
MOST_EARLY = 2**16


class Pouring(Protocol):
    """An answer that hands on its pieces in the moment they come."""

    async def pour(self, take: Take) -> None:
        """Calls ``take`` with each, until the body ends or no more is wanted.

        Raises:
            BackendTimeout, StreamCut: it goes on no more, or not in time; and whatever ``take`` raises.
        """
        ...

    def hold(self) -> None:
        """Lets the sender wait until :meth:`go_on`."""
        ...

    def go_on(self) -> None:
        """Takes more."""
        ...


class Reply(Protocol):
    """An answer whose head has come.

    Attributes:
        content_type: without its parameters, in lower case.
        headers: asked for by names in lower case.
    """

    status: int
    content_type: str
    headers: Mapping[str, str]

    @property
    def ended(self) -> bool:
        """Has all of it been read?"""
        ...

    @property
    def pouring(self) -> Pouring | None:
        """The same, where its pieces can be had in the moment they come; None where they have to be asked for."""
        ...

    def streamed(self) -> None:
        """Tells that it comes message by message: until :meth:`begun`, no bytes renew its time for a first one."""
        ...

    def begun(self) -> None:
        """Tells that its first message has come."""
        ...

    async def piece(self) -> bytes:
        """What has arrived of the body, empty at its end.

        Raises:
            BackendTimeout, StreamCut: it goes on no more, or not in time.
        """
        ...

    def close(self) -> None:
        """Lets go of it. Unless it has ended, its connection is closed, which tells the other side now."""
        ...


class Carrier(Protocol):
    """A way to one server."""

    async def open(self, method: str, path: str, body: bytes | None) -> Reply:
        """Sends a request and waits for the head of its answer.

        Raises:
            Unreachable, BackendTimeout, Garbled: there is none.
        """
        ...

    async def close(self) -> None:
        """Closes every connection; open answers raise."""
        ...


class Outlet(Protocol):
    """Takes frames in the moment they come; a client's connection.

    Attributes:
        paused: it has so much left to take that it should get no more for now; ``on_resume`` is called later.
    """

    on_resume: Callable[[], None] | None

    @property
    def paused(self) -> bool: ...

    def write(self, data: bytes, /) -> None: ...


class Http:
    """Questions to one server.

    Args:
        carrier: the way to it.
        read_error: what an answer with a status of 400 or more says, in the server's dialect.
        key: that the carrier sends.
    """

    def __init__(self, carrier: Carrier, read_error: ReadError, key: Secret = NO_KEY) -> None:
        self._carrier = carrier
        self._read_error = read_error
        self._key = key

    async def post(self, path: str, body: bytes, *, most: int = MAX_ANSWER) -> bytes:
        """The whole answer, which has at most so many bytes.

        Raises:
            LocalModelsError: what ``read_error`` makes of a status of 400 or more, or the failure of the connection.
        """
        async with self._open("POST", path, body) as reply:
            return await whole(reply, most)

    async def get(self, path: str, *, most: int = MAX_ANSWER) -> bytes:
        """The whole answer; raises as :meth:`post` does."""
        async with self._open("GET", path, None) as reply:
            return await whole(reply, most)

    async def stream(self, path: str, body: bytes, reader: EventReader) -> AsyncGenerator[list[Event], None]:
        """Events as they arrive, all that one read brought together. What comes after ``Done`` is no part of it.

        Raises:
            LocalModelsError: as :meth:`post`; and what the reader raises for a stream that breaks.
        """
        async with self._open("POST", path, body) as reply:
            if reply.content_type == "application/json":
                # llama.cpp and Ollama both answer 200 with plain JSON when a request fails early; the reader knows.
                raise self._read_error(reply.status, await whole(reply), None)
            reply.streamed()
            begun = False
            while data := await reply.piece():
                events = reader.feed(data)
                if not events:
                    continue
                if not begun:
                    begun = True
                    reply.begun()
                yield events
                if isinstance(events[-1], Done):
                    await tail(reply)
                    return
                reader.feed(b"")  # an error in the same bytes comes out now, not when the server says more
            reader.close()

    async def relay(
        self, path: str, body: bytes, passage: Passage, outlet: Outlet | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Whole frames as they arrive, byte for byte; what one read brought goes out in one piece.

        Args:
            path: of the request.
            body: of the request.
            passage: of the answer.
            outlet: gets all frames after the first ones in the moment they come, where the connection is one of ours;
                None yields them.

        Raises:
            LocalModelsError: as :meth:`stream`.
        """
        async with self._open("POST", path, body) as reply:
            if reply.content_type == "application/json":
                raise self._read_error(reply.status, await whole(reply), None)
            reply.streamed()
            begun, early = False, b""
            while data := await reply.piece():
                frames = passage.feed(data)
                if not begun:
                    begun, early = passage.messages > 0, early + frames
                    if not begun:
                        passage.feed(b"")
                        check_early(early)
                        continue
                    reply.begun()
                    frames = early
                if frames:
                    yield frames
                if passage.judge.done:
                    await tail(reply)
                    return
                passage.feed(b"")  # an error in the same bytes comes out now
                if frames and outlet and (pouring := reply.pouring) and await poured(pouring, passage, outlet):
                    await tail(reply)
                    return
            passage.close()

    async def close(self) -> None:
        """Closes every connection; open streams raise."""
        await self._carrier.close()

    def _open(self, method: str, path: str, body: bytes | None) -> _Question:
        return _Question(self._carrier, self._read_error, self._key, method, path, body)


class _Question:
    """One question, for as long as its answer is read: gives the reply, and closes it, whatever happens.

    Written out, since what :func:`contextlib.asynccontextmanager` makes of a generator takes ten times as long.
    """

    __slots__ = ("_asked", "_carrier", "_key", "_read_error", "_reply")

    def __init__(
        self, carrier: Carrier, read_error: ReadError, key: Secret, method: str, path: str, body: bytes | None
    ) -> None:
        self._carrier = carrier
        self._read_error = read_error
        self._key = key
        self._asked = method, path, body
        self._reply: Reply | None = None

    async def __aenter__(self) -> Reply:
        try:
            self._reply = reply = await self._carrier.open(*self._asked)
            if reply.headers.get("content-encoding", "identity").strip().lower() not in {"", "identity"}:
                raise Garbled("the server's answer is compressed, though it was asked for as it is")
            if reply.status != 200:
                raise self._read_error(reply.status, await reason(reply), retry_after(reply.headers))
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        return reply

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._reply is not None:
            self._reply.close()
        if not isinstance(error, LocalModelsError):
            return
        message, param = self._key.out_of(error.message), error.param and self._key.out_of(error.param)
        if (message, param) != (error.message, error.param):
            raise error.reworded(message, param) from None  # else the key would stand in a log with what came before


async def poured(pouring: Pouring, passage: Passage, outlet: Outlet) -> bool:
    """Passes frames on in the moment they come; whoever takes slowly slows the sender. Was the end said?"""

    def take(data: bytes) -> bool:
        if frames := passage.feed(data):
            outlet.write(frames)
        if passage.judge.done:
            return False
        passage.feed(b"")  # an error in the same bytes comes out now
        if outlet.paused:
            pouring.hold()
        return True

    outlet.on_resume = pouring.go_on
    try:
        if outlet.paused:
            pouring.hold()
        await pouring.pour(take)
    finally:
        outlet.on_resume = None
    return passage.judge.done


def check_early(frames: bytes) -> None:
    """Refuses too many that say nothing: blank lines and comments, which keep a connection awake.

    Raises:
        Garbled: they are no beginning.
    """
    if len(frames) > MOST_EARLY:
        raise Garbled(f"the server sent {MOST_EARLY >> 10} KiB that say nothing")


async def whole(reply: Reply, most: int = MAX_ANSWER) -> bytes:
    """The body in one piece.

    Raises:
        Garbled: it is larger than any answer.
    """
    data = bytearray()
    while some := await reply.piece():
        data += some
        if len(data) > most:
            raise Garbled(f"the server's answer is larger than {most >> 20} MiB")
    return bytes(data)


async def reason(reply: Reply) -> bytes:
    """What an error says of itself; nothing where that does not come, whole and at once."""
    with suppress(TimeoutError, LocalModelsError):
        async with asyncio.timeout(REASON):
            return await whole(reply, MOST_REASON)
    return b""


async def tail(reply: Reply) -> None:
    """Reads the end of an answer that is complete, so that its connection can serve again; a bad end is no harm."""
    with suppress(TimeoutError, LocalModelsError):
        async with asyncio.timeout(TAIL):
            while not reply.ended and await reply.piece():
                pass


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds from a ``Retry-After`` header; the date form is not used by any model server and is ignored."""
    text = headers.get("retry-after", "")
    return float(text) if text.isdecimal() and len(text) < 7 else None
