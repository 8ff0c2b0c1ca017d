"""``python -m benchmarks.gateway.mock``: a back end that answers at once, so that what stands before it is measured.

It speaks as much of OpenAI's chat API as its clients need: a whole answer, or a stream whose pieces are numbered. Every
piece is a write of its own, and all streams get one piece before any gets the next, as an engine gives them out.
With ``--uneven`` some are slower than others: streams of one length that begin together would end together for ever.

``GET /counts`` says how many connections and streams are open. It says where it is, ``{"port": …}``, and ends with
SIGTERM or with its standard input.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable
from typing import cast

import httptools
import uvloop

CREATED = 1_767_225_600
_SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
_MISSING = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"
_GOLDEN = (5**0.5 - 1) / 2  # its multiples, without their whole parts, lie more evenly than drawn numbers would


def piece(delta: dict[str, str], **more: object) -> bytes:
    """A frame of a streamed chat completion."""
    choice = {"index": 0, "delta": delta, "finish_reason": None, **more}
    return b"data: " + dumped({**_head("chat.completion.chunk"), "choices": [choice]}) + b"\n\n"


def dumped(value: object) -> bytes:
    """JSON without spaces."""
    return json.dumps(value, separators=(",", ":")).encode()


def _head(kind: str) -> dict[str, object]:
    return {"id": "chatcmpl-mock", "object": kind, "created": CREATED, "model": "mock"}


def _usage(pieces: int) -> dict[str, int]:
    return {"prompt_tokens": 10, "completion_tokens": pieces, "total_tokens": 10 + pieces}


class Answers:
    """Everything that is ever sent, made beforehand."""

    def __init__(self, pieces: int) -> None:
        message = {"role": "assistant", "content": "a whole answer, at once " * 10}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        whole = dumped({**_head("chat.completion"), "choices": [choice], "usage": _usage(pieces)})
        listed = {"id": "mock", "object": "model", "created": CREATED, "owned_by": "mock"}
        models = dumped({"object": "list", "data": [listed]})
        self.whole = _JSON % (len(whole), whole)
        self.models = _JSON % (len(models), models)
        self.pieces = [chunk(piece({"content": f"{number:06d} "})) for number in range(pieces)]
        end = piece({}, finish_reason="stop")
        usage = b"data: " + dumped({**_head("chat.completion.chunk"), "choices": [], "usage": _usage(pieces)}) + b"\n\n"
        done = b"data: [DONE]\n\n"
        self.end = chunk(end + done) + b"0\r\n\r\n"
        self.end_with_usage = chunk(end + usage + done) + b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """As HTTP's chunked encoding has it."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Counts:
    """What is open now, and how many streams there were at once at most and in all."""

    def __init__(self) -> None:
        self.connections = self.streams = self.most = self.begun = 0

    def begin(self) -> None:
        """A stream begins."""
        self.begun += 1
        self.streams += 1
        self.most = max(self.most, self.streams)


class Connection(asyncio.Protocol):
    """One client's. Requests are answered one after the other, as clients with kept connections send them."""

    def __init__(self, answers: Answers, counts: Counts, pause: Callable[[int], float]) -> None:
        self._answers = answers
        self._counts = counts
        self._pause_of = pause
        self._pause = 0.0
        self._parser = httptools.HttpRequestParser(self)
        self._loop = asyncio.get_running_loop()
        self._next: asyncio.Handle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # what TCP always gives
        self._counts.connections += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self._counts.connections -= 1
        if self._next is not None:
            self._next.cancel()
            self._counts.streams -= 1

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    # What httptools calls.

    def on_message_begin(self) -> None:
        self._body = b""

    def on_url(self, url: bytes) -> None:
        self._url = url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if self._url.endswith(b"/models"):
            self._transport.write(self._answers.models)
        elif self._url == b"/counts":
            counts = dumped(vars(self._counts))
            self._transport.write(_JSON % (len(counts), counts))
        elif not self._url.endswith(b"/chat/completions"):
            self._transport.write(_MISSING)
        elif b'"stream":true' in self._body or b'"stream": true' in self._body:
            self._transport.write(_SSE)
            self._counts.begin()
            self._pause = self._pause_of(self._counts.begun)
            self._send(0, b'"include_usage"' in self._body)
        else:
            self._transport.write(self._answers.whole)

    def _send(self, number: int, usage: bool) -> None:
        """Writes one piece and comes back for the next in the next turn of the loop, or after the pause."""
        if number == len(self._answers.pieces):
            self._next = None
            self._counts.streams -= 1
            self._transport.write(self._answers.end_with_usage if usage else self._answers.end)
            return
        self._transport.write(self._answers.pieces[number])
        if self._pause:
            self._next = self._loop.call_later(self._pause, self._send, number + 1, usage)
        else:
            self._next = self._loop.call_soon(self._send, number + 1, usage)


def paused(pause: float, uneven: float) -> Callable[[int], float]:
    """Seconds between two pieces of the stream with this number: ``pause`` on average, and that share more or less."""
    return lambda number: pause * (1 + uneven * (2 * (number * _GOLDEN % 1) - 1))


async def serve(pieces: int, pause: Callable[[int], float]) -> None:
    """Until standard input ends."""
    loop = asyncio.get_running_loop()
    answers, counts = Answers(pieces), Counts()
    server = await loop.create_server(lambda: Connection(answers, counts, pause), "127.0.0.1", 0, backlog=4096)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    ended = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(ended), sys.stdin)
    await ended.read()


def main() -> None:
    """Serves."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateway.mock")
    parser.add_argument("--pieces", type=int, default=100, help="of a stream")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds between two of them")
    parser.add_argument("--uneven", type=float, default=0.0, help="by which share the pauses of two streams may differ")
    asked = parser.parse_args()
    uvloop.run(serve(asked.pieces, paused(asked.pause, asked.uneven)))


if __name__ == "__main__":
    main()
