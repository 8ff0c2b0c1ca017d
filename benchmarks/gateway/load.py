"""``python -m benchmarks.gateway.load``: asks somebody over kept connections, each as soon as it has its answer.

Jobs come as lines of JSON on standard input, results go as lines to standard output, so the process stays warm from one
job to the next. It understands as little of an answer as makes sure that it is one: the status, the number of pieces of
a stream, and its end.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from time import perf_counter, process_time
from typing import cast

import httptools
import msgspec
import uvloop
from msgspec import Struct

_PIECE = b'"content":"0'  # as the mock numbers them; LiteLLM writes them anew, with the same text
_PIECE_SPACED = b'"content": "0'
_END = b"data: [DONE]"


class Job(Struct, frozen=True):
    """What to ask, and for how long.

    Attributes:
        path: of the request.
        body: of the request, as JSON.
        headers: further ones.
        connections: that ask at once.
        seconds: after which no further request is sent.
        pieces: of each stream; 0 where the answer is whole.
    """

    port: int
    path: str
    body: str
    connections: int
    seconds: float
    pieces: int = 0
    headers: tuple[tuple[str, str], ...] = ()


class Result(Struct, frozen=True):
    """What came.

    Attributes:
        requests: that were answered.
        pieces: of streams, all together.
        seconds: from the first request to the last answer.
        busy: seconds of processor time that the load itself took.
        latencies: of whole answers, or until the first piece of streams, in seconds, sorted.
        error: what was wrong with an answer; then nothing else counts.
    """

    requests: int = 0
    pieces: int = 0
    seconds: float = 0.0
    busy: float = 0.0
    latencies: tuple[float, ...] = ()
    error: str = ""


class Asker(asyncio.Protocol):
    """One connection that asks until time is up."""

    def __init__(self, job: Job, until: float, done: asyncio.Future[None]) -> None:
        self.requests = self.pieces = 0
        self.latencies: list[float] = []
        self._job = job
        self._until = until
        self._close: Callable[[], None] = lambda: None  # not connected yet
        self.done = done
        head = f"POST {job.path} HTTP/1.1\r\nhost: 127.0.0.1:{job.port}\r\ncontent-type: application/json\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in job.headers)
        self._request = f"{head}content-length: {len(job.body)}\r\n\r\n{job.body}".encode()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # what TCP always gives
        self._close = self._transport.abort
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self._fail(f"the connection closed: {exc}")

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(f"not HTTP: {error!r}")

    def _ask(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self._first = 0.0
        self._start = perf_counter()
        self._transport.write(self._request)

    def leave(self) -> None:
        """Stops, whatever it waits for."""
        if not self.done.cancel():
            self.done.exception()  # it has been looked at: one of them is told
        self._close()

    # What httptools calls.

    def on_body(self, body: bytes) -> None:
        if not self._first:
            self._first = perf_counter()
        self._body.append(body)

    def on_message_complete(self) -> None:
        now = perf_counter()
        body = b"".join(self._body)
        if self._parser.get_status_code() != 200:
            self._fail(f"{self._parser.get_status_code()}: {body[:300]!r}")
            return
        if self._job.pieces:
            pieces = body.count(_PIECE) or body.count(_PIECE_SPACED)
            if pieces != self._job.pieces or _END not in body[-40:]:
                self._fail(f"{pieces} pieces, and at its end {body[-300:]!r}")
                return
            self.pieces += pieces
        self.latencies.append((self._first if self._job.pieces else now) - self._start)
        self.requests += 1
        if now < self._until:
            self._ask()
        else:
            self.done.set_result(None)
            self._close()

    def _fail(self, why: str) -> None:
        if not self.done.done():
            self.done.set_exception(RuntimeError(why))
        self._close()


async def done(job: Job) -> Result:
    """The job, done."""
    loop = asyncio.get_running_loop()
    start, busy = perf_counter(), process_time()
    askers: list[Asker] = []

    def asker() -> Asker:
        askers.append(Asker(job, start + job.seconds, loop.create_future()))
        return askers[-1]

    try:
        for _ in range(job.connections):
            await loop.create_connection(asker, "127.0.0.1", job.port)
        await asyncio.gather(*(asker.done for asker in askers))
    except (OSError, RuntimeError) as error:
        for one in askers:
            one.leave()
        return Result(error=str(error))
    return Result(
        requests=sum(asker.requests for asker in askers),
        pieces=sum(asker.pieces for asker in askers),
        seconds=perf_counter() - start,
        busy=process_time() - busy,
        latencies=tuple(sorted(latency for asker in askers for latency in asker.latencies)),
    )


def main() -> None:
    """One job a line."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        for line in sys.stdin:
            result = loop.run(done(msgspec.json.decode(line, type=Job)))
            sys.stdout.write(msgspec.json.encode(result).decode() + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
