"""What passes by, written down: the head and the body of a request or of its answer.

The rule: whoever sends or takes them notices nothing of it. Of a body the beginning is kept, and all tapes together
have one bound.
"""

from __future__ import annotations

import base64
import codecs
from collections.abc import Callable, Iterable
from typing import Literal

from msgspec import Struct

from localmodels.core.errors import LocalModelsError
from localmodels.server.edge.seam import Edge, Sink

MOST_BODY = 2**20  # bytes that are kept of a body
MOST_HELD = 64 * 2**20  # bytes of all bodies that are in memory for it, of running requests and of those to be written


class Half(Struct, frozen=True):
    """A request or an answer.

    Attributes:
        headers: names in small letters.
        body: as text; in base64 where it is none.
        size: bytes of the body that have passed by.
        cut: is ``body`` not all of it? It was too long, or nobody has read it to its end, or it was never sent so far.
    """

    headers: list[tuple[str, str]]
    body: str
    encoding: Literal["utf-8", "base64"]
    size: int
    cut: bool


class Memory:
    """How much more of it may be in memory."""

    def __init__(self, most: int = MOST_HELD) -> None:
        self.left = most


class Tape:
    """The head and the body of one half, as they pass by."""

    __slots__ = ("_memory", "data", "headers", "size", "status", "whole")

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.data = bytearray()
        self.size = 0
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.whole = False

    def begin(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """A head."""
        self.status = status
        self.headers = list(headers)

    def add(self, piece: bytes, *, last: bool) -> None:
        """A piece of the body."""
        self.size += len(piece)
        self.whole = last
        room = min(MOST_BODY - len(self.data), self._memory.left)
        if piece and room > 0:
            part = piece[:room]
            self.data += part
            self._memory.left -= len(part)

    def free(self) -> None:
        """Its memory is given back."""
        self._memory.left += len(self.data)
        self.data = bytearray()

    def half(self) -> Half:
        """What it has."""
        short = len(self.data) < self.size
        text = _text(self.data, short=short)
        return Half(
            headers=[(name.decode("latin-1"), value.decode("latin-1")) for name, value in self.headers],
            body=base64.b64encode(self.data).decode() if text is None else text,
            encoding="base64" if text is None else "utf-8",
            size=self.size,
            cut=short or not self.whole,
        )


def _text(data: bytearray, *, short: bool) -> str | None:
    """What it says, if it is text; one that is ``short`` may end within a character, which is left out."""
    try:
        return codecs.utf_8_decode(data, "strict", not short)[0]
    except UnicodeDecodeError:
        return None


class TapedEdge:
    """The edge, whose sink is taped."""

    def __init__(self, edge: Edge, answer: Tape) -> None:
        self._edge = edge
        self._answer = answer
        self.cancels = edge.cancels

    @property
    def sink(self) -> Sink:
        return TapedSink(self._edge.sink, self._answer)

    @property
    def refusal(self) -> LocalModelsError | None:
        return self._edge.refusal

    def stream_body(self) -> None:
        self._edge.stream_body()


class TapedSink:
    """A sink that is taped."""

    def __init__(self, sink: Sink, answer: Tape) -> None:
        self._sink = sink
        self._answer = answer

    @property
    def on_resume(self) -> Callable[[], None] | None:
        return self._sink.on_resume

    @on_resume.setter
    def on_resume(self, call: Callable[[], None] | None) -> None:
        self._sink.on_resume = call

    @property
    def paused(self) -> bool:
        return self._sink.paused

    def begin(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        head = list(headers)
        self._answer.begin(status, head)
        self._sink.begin(status, head)

    def write(self, data: bytes) -> None:
        self._answer.add(data, last=False)
        self._sink.write(data)

    def end(self, data: bytes = b"") -> None:
        self._answer.add(data, last=True)
        self._sink.end(data)
