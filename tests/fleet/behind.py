"""``python -m tests.fleet.behind --book FILE [--port N]``: one server of a fleet, told by a line at a time what to do.

A line of its standard input is a mode; it says the same word back when it has come about. What it begins to generate,
and what it ends, it writes into its book at once, so that the book is right whatever becomes of the process:
``begin 17 up``, ``end 17``, ``left 19``, ``refused 18``, each with the time in nanoseconds behind it.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from time import time_ns
from typing import Literal, get_args

import uvloop

from localmodels.backends.fake import FakeServer, Script
from localmodels.backends.fake.book import Visit
from localmodels.backends.fake.script import Break, Failure, Request
from localmodels.core.chat import ChatRequest, Chunk, Text

Mode = Literal["up", "slow", "refuse", "unavailable", "silent"]
MODES: tuple[Mode, ...] = get_args(Mode)
MODEL = "fake:latest"
PIECES = tuple(Chunk(text) for text in ("One", " two", " three", " four."))
ANSWER = "".join(piece.text for piece in PIECES)
# Seconds before the first piece of an answer, and between its pieces: a server that is killed has some that wait for
# their first byte, and sometimes one in the middle of its answer.
FIRST, PAUSE = 0.03, 0.001
# The same of a slow one: 0.4 s in all, of which it is in the middle of its answer for 0.32.
LONG = 0.08

GOOD = Script(chunks=PIECES, first=FIRST, between=PAUSE)
SCRIPTS: Mapping[str, Script] = {
    "up": GOOD,
    "slow": Script(chunks=PIECES, first=LONG, between=LONG),
    "unavailable": Script(breaks=Break("fail", 0, Failure("the server is being repaired", 503))),
    "silent": Script(breaks=Break("stall", 0)),
}
_NUMBER = re.compile(r"number (\d+)")


def number_of(request: Request) -> int | None:
    """Which of the requests this is, as its text says."""
    if not isinstance(request, ChatRequest):
        return None
    text = "".join(part.text for part in request.messages[-1].parts if isinstance(part, Text))
    found = _NUMBER.search(text)
    return int(found[1]) if found else None


class Behind:
    """The server.

    Args:
        book: file of what it did.
        port: 0 takes a free one, which is then kept.
    """

    def __init__(self, book: Path, port: int) -> None:
        self._book = book.open("a", buffering=1)
        self._port = port
        self._mode: Mode = "up"
        self._ends: set[asyncio.Task[None]] = set()
        self._server: FakeServer | None = None
        self._open = AsyncExitStack()

    async def serve(self) -> None:
        """Answers until its standard input ends."""
        loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        await self._listen()
        print(f"http://127.0.0.1:{self._port}", flush=True)
        while line := await reader.readline():
            await self._become(line.decode().strip())
            print(self._mode, flush=True)
        await self._open.aclose()

    async def _become(self, word: str) -> None:
        mode = next(mode for mode in MODES if mode == word)
        before, self._mode = self._mode, mode
        if mode == "refuse":
            await self._open.aclose()
        elif before == "refuse":
            await self._listen()

    async def _listen(self) -> None:
        self._server = FakeServer(self._chosen, names=(MODEL,), port=self._port)
        await self._open.enter_async_context(self._server)
        self._port = int(self._server.url.rpartition(":")[2])

    def _chosen(self, request: Request) -> Script:
        number = number_of(request)
        if number is not None and self._server is not None:
            if self._mode == "unavailable":
                self._write(f"refused {number}")
            else:
                self._write(f"begin {number} {self._mode}")
                end = asyncio.create_task(self._ended(number, self._server, len(self._server.book.visits)))
                self._ends.add(end)
                end.add_done_callback(self._ends.discard)
        return SCRIPTS[self._mode]

    async def _ended(self, number: int, server: FakeServer, place: int) -> None:
        visit: Visit = await server.book.nth(place)
        await visit.closed.wait()
        self._write(f"{'end' if visit.sent == len(GOOD.events) else 'left'} {number}")

    def _write(self, line: str) -> None:
        self._book.write(f"{line} {time_ns()}\n")


def main() -> None:
    """Until its standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m tests.fleet.behind")
    parser.add_argument("--book", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    asked = parser.parse_args()
    uvloop.run(Behind(asked.book, asked.port).serve())


if __name__ == "__main__":
    main()
