"""What a fake answers, and how it goes wrong: frozen values that can be written as JSON.

One rule: a script says everything. The same script gives the same events, and on the wire the same bytes, so that a
test can name the byte at which the connection breaks. Time passes only through the ``sleep`` that is handed in.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Literal

from msgspec import Struct

from localmodels.core.chat import ChatRequest, Chunk, Done, EmbedRequest, Event, GenerateRequest, Timings, Usage
from localmodels.core.errors import BackendTimeout, LocalModelsError, StreamCut, Unreachable
from localmodels.core.rerank import RerankRequest
from localmodels.dialects.failures import Complaint, mapped

Request = ChatRequest | GenerateRequest | EmbedRequest | RerankRequest
Sleep = Callable[[float], Awaitable[object]]


class Failure(Struct, frozen=True):
    """An error in words: ``code`` is one of ``core.errors``, and decides the class before ``status`` does."""

    message: str = "the fake was told to fail"
    status: int = 500
    code: str = ""
    retry_after: float | None = None

    def error(self) -> LocalModelsError:
        """The error of ours that it stands for."""
        return mapped(Complaint(self.message, self.code), self.status, self.retry_after)


class Break(Struct, frozen=True):
    """What goes wrong, and after how many events.

    Attributes:
        how: ``fail`` says so (before the first event by status, later in-band); ``cut`` ends the answer in good form
            but without ``Done``; ``stall`` never goes on; ``refuse`` takes no request.
        after: events that come before it; a number that ``Done`` is among makes it come too late to happen.
    """

    how: Literal["fail", "cut", "stall", "refuse"]
    after: int = 0
    failure: Failure = Failure()


class Wire(Struct, frozen=True):
    """How the server puts an answer on the wire, and what it does wrong there.

    Attributes:
        framing: ``chunked``, ended by the end of the connection (``close``), or ``length`` known beforehand.
        at: bytes of the body that go out before ``then`` happens; None is never. The length of the body leaves out only
            the end that HTTP puts behind it.
        then: ``fin`` and ``rst`` end the connection, ``stall`` falls silent and keeps it, ``garbage`` sends
            ``garbage`` in place of the rest and ends in good form, so that HTTP itself sees nothing wrong.
        write_size: most bytes of the body in one write; 0 writes each event in one piece.
        length_error: added to the ``Content-Length`` of ``length``.
        head: ``endless`` is a header that never ends, ``garbage`` is not HTTP, ``none`` ends the connection instead.
        fields: further headers, each with its line end.
    """

    framing: Literal["chunked", "close", "length"] = "chunked"
    at: int | None = None
    then: Literal["fin", "rst", "stall", "garbage"] = "fin"
    garbage: bytes = b"\xff\xfe{]\x00<html>\n\n"
    write_size: int = 0
    length_error: int = 0
    head: Literal["plain", "endless", "garbage", "none"] = "plain"
    fields: str = ""


class Script(Struct, frozen=True):
    """One answer.

    Attributes:
        chunks: what is said, piece by piece.
        done: how it ends.
        vectors: what embedding gives: the first for the first input, and round again when there are more inputs. Their
            first numbers are the scores of documents, likewise.
        first: seconds before the first event.
        between: seconds before each of the others.
        breaks: what goes wrong with the events; None is nothing.
        wire: for the server alone.
    """

    chunks: tuple[Chunk, ...] = (Chunk("Hello"), Chunk(" there"), Chunk("."))
    done: Done = Done("stop", Usage(5, 3), Timings(9_000_000, 1_000_000, 2_000_000, 6_000_000))
    vectors: tuple[tuple[float, ...], ...] = ((0.5, -0.25, 0.125),)
    first: float = 0.0
    between: float = 0.0
    breaks: Break | None = None
    wire: Wire = Wire()

    @property
    def events(self) -> tuple[Event, ...]:
        """Everything that is said when nothing goes wrong."""
        return (*self.chunks, self.done)


class Page(Struct, frozen=True):
    """What is at one path, whoever asks: a list, a version, what a server tells of itself.

    Attributes:
        body: JSON, as far as it is any.
        status: of HTTP.
        first: seconds before the answer.
        wire: what goes wrong with it.
    """

    body: bytes = b"{}"
    status: int = 200
    first: float = 0.0
    wire: Wire = Wire()


Choose = Callable[[Request], Script]
GREETING = Script()


def choice(script: Script | Choose) -> Choose:
    """The same script for every request, or what a function says."""
    return (lambda _: script) if isinstance(script, Script) else script


async def play(script: Script, sleep: Sleep, patience: float | None = None) -> AsyncGenerator[Event, None]:
    """The events in their time.

    Args:
        script: what to play.
        sleep: waits so many seconds.
        patience: seconds after which a stall is an error; None waits for ever.

    Raises:
        LocalModelsError: what the script says goes wrong.
    """
    for number, event in enumerate(script.events):
        delay = script.between if number else script.first
        if delay:
            await sleep(delay)
        if script.breaks and script.breaks.after == number:
            await break_off(script.breaks, sleep, patience)
        yield event


async def break_off(broken: Break, sleep: Sleep, patience: float | None) -> None:
    """Goes wrong; never returns."""
    if broken.how == "stall":
        await (asyncio.Event().wait() if patience is None else sleep(patience))
    raise {
        "fail": broken.failure.error(),
        "cut": StreamCut("the answer ended before its end was said"),
        "stall": BackendTimeout("the server fell silent in the middle of its answer"),
        "refuse": Unreachable("the server cannot be reached"),
    }[broken.how]
